"""The conformance suite of the ledger: what every ledger must do, over both faces."""

from __future__ import annotations

from .apart import ApartConformance
from .claiming import ClaimingConformance
from .fencing import FencingConformance
from .flipping import FlippingConformance
from .granting import GrantingConformance
from .harness import LedgerFace, LedgerHarness
from .moving import MovingConformance
from .opening import OpeningConformance
from .owning import OwningConformance
from .racing import RacingConformance
from .recording import RecordingConformance
from .starting import StartingConformance


class LedgerConformance(
    FencingConformance,
    OwningConformance,
    ClaimingConformance,
    GrantingConformance,
    StartingConformance,
    MovingConformance,
    FlippingConformance,
    RecordingConformance,
    ApartConformance,
    RacingConformance,
    OpeningConformance,
):
    """All of it. Subclass it in your tests; see `LedgerHarness` for what you give."""


__all__ = [
    "ApartConformance",
    "ClaimingConformance",
    "FencingConformance",
    "FlippingConformance",
    "GrantingConformance",
    "LedgerConformance",
    "LedgerFace",
    "LedgerHarness",
    "MovingConformance",
    "OpeningConformance",
    "OwningConformance",
    "RacingConformance",
    "RecordingConformance",
    "StartingConformance",
]
