"""Values as bytes and back: bytes, text, whole numbers, JSON, pydantic models. No pickle."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final, cast

import orjson

from cm_platform.errors import IntegrityError, InvalidArgumentError

from .entry import Encoding, Entry

# What would come back as something else is refused, where orjson lets us.
_OPTIONS: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1


def encode_value(value: Any) -> tuple[Encoding, bytes]:
    """A value's bytes; `invalid_argument` for what cannot be kept.

    Bytes, text and whole numbers of 64 bit are kept as such, a pydantic model and everything
    else as JSON: a tuple comes back as a list; a model needs `type=` when it is read.
    """
    kind: type[Any] = value.__class__
    if kind is bytes:
        return Encoding.BYTES, value
    if kind is str:
        try:
            return Encoding.STR, value.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError("a text must be valid Unicode: no lone surrogates") from None
    if kind is int:
        if not _LOWEST <= value <= _HIGHEST:
            raise InvalidArgumentError("a whole number must fit into 64 bits; keep it as text")
        return Encoding.COUNTER, b"%d" % value
    if isinstance(value, bytearray | memoryview):
        return Encoding.BYTES, bytes(cast("bytearray", value))
    if hasattr(kind, "__pydantic_serializer__") and hasattr(value, "model_dump_json"):
        return Encoding.JSON, _model(value)
    try:
        data = orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        # The message names types, not values.
        raise InvalidArgumentError(
            f"{kind.__name__} cannot be kept: bytes, text, numbers, what JSON can say, and "
            f"pydantic models can ({error})"
        ) from None
    if b"null" in data and _has_nan(value):
        raise InvalidArgumentError("NaN and infinity cannot be kept: JSON has neither")
    return Encoding.JSON, data


def _model(value: Any) -> bytes:
    from pydantic_core import PydanticSerializationError

    try:
        data = cast("str", value.model_dump_json()).encode()
    except PydanticSerializationError:
        # Its message quotes the value.
        raise InvalidArgumentError(
            f"this {type(value).__name__} cannot be kept: its model makes no JSON of it"
        ) from None
    # Pydantic makes null of both.
    if b"null" in data and _has_nan(value.model_dump()):
        raise InvalidArgumentError("NaN and infinity cannot be kept: JSON has neither")
    return data


def decode_value(entry: Entry, type_: Any) -> Any:
    """What was kept; `integrity` when it does not fit `type_`, without a word about the value."""
    return decode_payload(entry.encoding, entry.payload, type_)


def decode_payload(encoding: int, payload: bytes, type_: Any) -> Any:
    """The same, of an entry's parts."""
    if type_ is not None:
        return _typed(encoding, payload, type_)
    if encoding == Encoding.BYTES:
        return payload
    try:
        if encoding == Encoding.STR:
            return payload.decode()
        if encoding == Encoding.COUNTER:
            return _whole(payload)
        return orjson.loads(payload)
    except ValueError:
        raise IntegrityError("what is kept under this key is damaged: delete it") from None


def _whole(payload: bytes) -> int:
    # More than digits pass for a number with Python: "1_0", " 1".
    if not payload.removeprefix(b"-").isdigit():
        raise ValueError
    return int(payload)


def _typed(encoding: int, payload: bytes, type_: Any) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(type_)
    try:
        if encoding == Encoding.BYTES:
            return adapter.validate_python(payload)
        if encoding == Encoding.STR:
            return adapter.validate_python(payload.decode())
        if encoding == Encoding.COUNTER:
            return adapter.validate_python(_whole(payload))
        return adapter.validate_json(payload)
    except ValidationError as error:
        # Pydantic's own text quotes the value; so do places, where they are keys of a mapping.
        fields = getattr(type_, "model_fields", {})
        wrong = ", ".join(sorted({_place(found["loc"], fields) for found in error.errors()}))
    except ValueError:
        wrong = "it"
    raise IntegrityError(
        f"what is kept under this key is no {_name(type_)} ({wrong}): another version may have "
        "written it; delete it, or give it another key"
    )


def _place(loc: tuple[int | str, ...], fields: Collection[str]) -> str:
    return str(loc[0]) if loc and loc[0] in fields else "it"


def check_type(type_: Any) -> None:
    """Refuse what pydantic can make no sense of, before any I/O."""
    if type_ is not None:
        _adapter(type_)


def _adapter(type_: Any) -> Any:
    try:
        return _remembered(type_)
    except TypeError:
        # It cannot be hashed: an `Annotated` with a list in it, or no type at all.
        return _new_adapter(type_)


@lru_cache(maxsize=1024)
def _remembered(type_: Any) -> Any:
    return _new_adapter(type_)


def _new_adapter(type_: Any) -> Any:
    from pydantic import TypeAdapter

    error: Exception | None = None
    try:
        adapter = TypeAdapter(type_)
    except Exception as caught:  # noqa: BLE001 - whatever comes of taking it for a type
        error = caught
    else:
        # A name that nobody knows is put off, until a value is read.
        if adapter.pydantic_complete:
            return adapter
    raise InvalidArgumentError(
        f"type must be a type that pydantic can validate, not {_name(type_)}"
    ) from error


def _name(type_: Any) -> str:
    return getattr(type_, "__name__", None) or str(type_)


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nan, _values(value)))
    if isinstance(value, list | tuple):
        return any(_has_nan(item) for item in cast("list[Any]", value))
    return False


def _values(table: Any) -> list[Any]:
    return list(table.values())


__all__ = ["check_type", "decode_payload", "decode_value", "encode_value"]
