"""The conformance suite of the cache: what every backend must do, over both faces."""

from __future__ import annotations

from cm_platform.testing.clocks import LeapingClock, MovableClock

from .batches import BatchesConformance
from .clearing import ClearingConformance
from .conditions import ConditionsConformance
from .contract import ContractConformance
from .counting import CountingConformance
from .decorating import DecoratingConformance
from .expiry import ExpiryConformance
from .flying import FlyingConformance
from .handles import HandlesConformance
from .harness import CacheFace, CacheHarness
from .keys import KeysConformance
from .loading import LoadingConformance
from .modelling import ModelConformance
from .sharing import SharingConformance
from .staling import StaleConformance
from .values import ValuesConformance


class CacheConformance(
    ValuesConformance,
    ExpiryConformance,
    ConditionsConformance,
    CountingConformance,
    ClearingConformance,
    BatchesConformance,
    LoadingConformance,
    FlyingConformance,
    StaleConformance,
    DecoratingConformance,
    SharingConformance,
    KeysConformance,
    HandlesConformance,
    ContractConformance,
    ModelConformance,
):
    """All of it. Subclass it in your tests; see `CacheHarness` for what you give."""


__all__ = [
    "BatchesConformance",
    "CacheConformance",
    "CacheFace",
    "CacheHarness",
    "ClearingConformance",
    "ConditionsConformance",
    "ContractConformance",
    "CountingConformance",
    "DecoratingConformance",
    "ExpiryConformance",
    "FlyingConformance",
    "HandlesConformance",
    "KeysConformance",
    "LeapingClock",
    "LoadingConformance",
    "ModelConformance",
    "MovableClock",
    "SharingConformance",
    "StaleConformance",
    "ValuesConformance",
]
