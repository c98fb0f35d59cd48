"""What became of each operation of a batch: its fields, checked, or its error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from cm_platform.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
    UnsupportedError,
)

from .frame import Values, decoded, is_list, is_table, malformed

Operation: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation.

    fields: as the protocol names them, references replaced by bytes. error: in their place.
    """

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: PlatformError | None = None

    def checked(self) -> Mapping[str, Any]:
        """The fields; raises the error of an operation that failed."""
        if self.error is not None:
            raise self.error
        return self.fields


def outcomes_of(body: bytes, operations: Sequence[Operation]) -> list[Outcome]:
    """The outcomes in a reply to these operations, in their order.

    Raises `internal` for a reply that is not what the protocol says, down to the type of each
    field: whoever reads an outcome meets no surprise.
    """
    rows, values = decoded(body)
    if len(rows) != len(operations):
        raise malformed(f"{len(rows)} outcomes for {len(operations)} operations")
    outcomes = [
        _outcome(row, operation, values) for row, operation in zip(rows, operations, strict=True)
    ]
    values.check_all_taken()
    return outcomes


def _outcome(row: object, operation: Operation, values: Values) -> Outcome:
    if not is_table(row):
        raise malformed("an outcome is no object")
    fields = dict(row)
    ok = fields.pop("ok", None)
    if ok is False:
        return Outcome(error=_error(fields))
    if ok is not True:
        raise malformed("an outcome does not say whether it is ok")
    for name, read in _FIELDS.get(operation.get("op", ""), {}).items():
        if name not in fields:
            raise malformed(f"an outcome lacks its field {name!r}")
        fields[name] = read(fields[name], values)
    if operation.get("op") == "kv.get_many" and len(fields["values"]) != len(operation["keys"]):
        raise malformed("another number of values than of keys")
    return Outcome(fields)


# What each operation answers. One that is not here answers what it likes, without bytes.

_Read: TypeAlias = Callable[[Any, Values], Any]

_INTEGER: Final = re.compile(r"-?\d{1,20}")


def _value(found: object, values: Values) -> bytes | None:
    return None if found is None else values.take(found)


def _list_of_values(found: object, values: Values) -> list[bytes | None]:
    return [_value(item, values) for item in _list(found)]


def _listing(found: object, values: Values) -> list[dict[str, Any]]:
    return [_listed(item) for item in _list(found)]


def _listed(found: object) -> dict[str, Any]:
    if not is_table(found):
        raise malformed("a listed key is no object")
    if not isinstance(found.get("key"), str):
        raise malformed("a listed key has no name")
    _number(found.get("expiration"))
    return {"expiration": None, "metadata": None, **found}


def _list(found: object) -> list[Any]:
    if not is_list(found):
        raise malformed("a field is no list")
    return found


def _flag(found: object, values: Values) -> bool:
    if not isinstance(found, bool):
        raise malformed("a field is neither true nor false")
    return found


def _seconds(found: object, values: Values) -> float | None:
    return _number(found)


def _number(found: object) -> float | None:
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise malformed("a field is no number")
    return found


def _text(found: object, values: Values) -> str | None:
    if found is not None and not isinstance(found, str):
        raise malformed("a field is no text")
    return found


def _integer(found: object, values: Values) -> str:
    if not isinstance(found, str) or _INTEGER.fullmatch(found) is None:
        raise malformed("a field is no integer")
    return found


def _stamp(found: object, values: Values) -> str | None:
    return None if found is None else _integer(found, values)


def _anything(found: object, values: Values) -> object:
    return found


_FIELDS: Final[Mapping[str, Mapping[str, _Read]]] = {
    "kv.get": {"value": _value, "metadata": _anything},
    "kv.get_many": {"values": _list_of_values},
    "kv.list": {"keys": _listing, "cursor": _text},
    "do.get": {"value": _value, "expires_in": _seconds},
    "do.set": {"stored": _flag},
    "do.delete": {"existed": _flag},
    "do.compare_and_set": {"stored": _flag},
    "do.expire": {"existed": _flag},
    "do.increment": {"value": _integer, "stamp": _stamp},
}


# What each code means.

_CODES: Final[Mapping[str, type[PlatformError]]] = {
    "invalid_argument": InvalidArgumentError,
    "not_found": NotFoundError,
    "precondition_failed": PreconditionFailedError,
    "rate_limited": RateLimitedError,
    "unavailable": UnavailableError,
    "unsupported": UnsupportedError,
    "internal": InternalError,
}
_REFUSALS: Final = frozenset({"invalid_argument", "rate_limited", "unsupported"})
_PASSING: Final = frozenset({"rate_limited", "unavailable"})
_MAX_MESSAGE: Final = 300


def _error(fields: Mapping[str, Any]) -> PlatformError:
    code, message = fields.get("code"), fields.get("message")
    if not isinstance(code, str) or code not in _CODES:
        raise malformed("an operation failed with a code that the protocol does not have")
    if not isinstance(message, str):
        raise malformed("an operation failed without a message")
    return _CODES[code](
        said(message),
        retryable=code in _PASSING,
        retry_after=positive(fields.get("retry_after")),
        not_sent=code in _REFUSALS or fields.get("not_sent") is True,
    )


def said(message: str) -> str:
    """A message of the gateway's, fit to be shown."""
    text = "".join(letter if letter.isprintable() else " " for letter in message[:_MAX_MESSAGE])
    return f"the gateway says: {text}"


def positive(found: object) -> float | None:
    """Seconds to wait, if that is what it is."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e9:
        return None
    return float(found)


__all__ = ["Operation", "Outcome", "outcomes_of", "said"]
