"""A migration proved on real backends: clients at work, all stages and back, faults, a verdict.

`cm-platform migrate prove` runs it; the parts are here for who wants to run it in a test.
"""

from .faults import faulty
from .histories import Histories
from .proof import Proof, prove

__all__ = ["Histories", "Proof", "faulty", "prove"]
