"""Files of SQLite that threads, processes and their forks share, for the backends that use one."""

from .connections import Connections
from .errors import classify, committing, is_busy, uncommitted
from .form import Form, fill, make, patiently, refusal
from .ticket import Ticket

__all__ = [
    "Connections",
    "Form",
    "Ticket",
    "classify",
    "committing",
    "fill",
    "is_busy",
    "make",
    "patiently",
    "refusal",
    "uncommitted",
]
