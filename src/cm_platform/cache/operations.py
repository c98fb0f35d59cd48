"""The cache's operations: what each needs and what may be done when it fails."""

from __future__ import annotations

from functools import partial
from typing import Final

from cm_platform.operation import Operation

from .backend import CacheCapability

_read = partial(Operation, "cache", access="read")
_write = partial(Operation, "cache", access="write")

GET: Final = _read("get")
GET_MANY: Final = _read("get_many")
TTL: Final = _read("ttl")
TTL_RAW: Final = _read("ttl", requires=CacheCapability.EXPIRE)
PING: Final = _read("ping")

SET: Final = _write("set")
SET_MANY: Final = _write("set_many")
DELETE: Final = _write("delete")
DELETE_MANY: Final = _write("delete_many")
EXPIRE: Final = _write("touch", requires=CacheCapability.EXPIRE)
CLEAR: Final = _write("clear")
INVALIDATE_TAG: Final = _write("invalidate_tag")

# Made twice, these refuse the second time; a token in the entry tells whose value is there.
SET_IF: Final = _write("set", requires=CacheCapability.COMPARE_AND_SET)
SET_IF_RAW: Final = _write("set", requires=CacheCapability.CONDITIONAL_SET, idempotent=False)
REPLACE: Final = _write("compare_and_set", requires=CacheCapability.COMPARE_AND_SET)
LEASE: Final = _write("get_or_set", requires=CacheCapability.COMPARE_AND_SET)
TOUCH: Final = _write("touch", requires=CacheCapability.COMPARE_AND_SET)

# Made twice, it counts twice, and nothing in the store tells.
INCREMENT: Final = _write("increment", requires=CacheCapability.ATOMIC_INCREMENT, idempotent=False)

__all__ = [
    "CLEAR",
    "DELETE",
    "DELETE_MANY",
    "EXPIRE",
    "GET",
    "GET_MANY",
    "INCREMENT",
    "INVALIDATE_TAG",
    "LEASE",
    "PING",
    "REPLACE",
    "SET",
    "SET_IF",
    "SET_IF_RAW",
    "SET_MANY",
    "TOUCH",
    "TTL",
    "TTL_RAW",
]
