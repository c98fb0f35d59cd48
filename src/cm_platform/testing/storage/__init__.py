"""The conformance suite of storage: what every backend must do, over both faces."""

from __future__ import annotations

from .attributes import AttributesConformance
from .conditions import ConditionsConformance
from .contract import ContractConformance
from .harness import StorageFace, StorageHarness
from .keys import KeysConformance
from .listing import ListingConformance
from .modelling import ModelConformance
from .presigning import PresigningConformance
from .reading import ReadingConformance
from .removing import CopyingConformance, RemovingConformance
from .writing import WritingConformance


class StorageConformance(
    ReadingConformance,
    WritingConformance,
    AttributesConformance,
    ConditionsConformance,
    RemovingConformance,
    CopyingConformance,
    ListingConformance,
    KeysConformance,
    PresigningConformance,
    ContractConformance,
    ModelConformance,
):
    """All of it. Subclass it in your tests; see `StorageHarness` for what you give."""


__all__ = [
    "AttributesConformance",
    "ConditionsConformance",
    "ContractConformance",
    "CopyingConformance",
    "KeysConformance",
    "ListingConformance",
    "ModelConformance",
    "PresigningConformance",
    "ReadingConformance",
    "RemovingConformance",
    "StorageConformance",
    "StorageFace",
    "StorageHarness",
    "WritingConformance",
]
