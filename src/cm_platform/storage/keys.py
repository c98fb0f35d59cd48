"""Which keys, prefixes and metadata a tenant may use: checked before any I/O, by named rules.

The rules are the intersection of what S3, R2, Swift and a file system can say exactly, so that a
key that is legal today stays legal when its tenant moves. Keys are never normalised: NFC and NFD
forms are different keys, and NFKC would turn full-width dots into `..`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cm_platform.errors import InvalidArgumentError

from .backend import NO_METADATA, RESERVED, REVISION, SHA256

# What an XML 1.0 listing cannot carry, besides what no key should have.
_FORBIDDEN: Final = "\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_WRONG: Final = re.compile(rf"[{_FORBIDDEN}]|\A/|(?:\A|/)\.\.?(?:/|\Z)")
_WRONG_PREFIX: Final = re.compile(rf"[{_FORBIDDEN}]|\A/|(?:\A|/)\.\.?/")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,126}")
_PLAIN: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ENCODED: Final = re.compile(r"=\?UTF-8\?B\?([A-Za-z0-9+/]*={0,2})\?=")


def check_key(key: str, scope_prefix: str, max_bytes: int) -> str:
    """The physical key; `invalid_argument` names the rule that the key breaks."""
    if not isinstance(key, str):
        raise InvalidArgumentError(f"a key is text (str), not {type(key).__name__}")
    if not key:
        raise InvalidArgumentError("a key must not be empty")
    if (found := _WRONG.search(key)) is not None:
        raise InvalidArgumentError(_rule("a key", found.group()))
    return _sized(scope_prefix + key, scope_prefix, max_bytes)


def check_prefix(prefix: str, scope_prefix: str, max_bytes: int) -> str:
    """The physical prefix of a listing; may be empty or end in the middle of a segment."""
    if not isinstance(prefix, str):
        raise InvalidArgumentError(f"a prefix is text (str), not {type(prefix).__name__}")
    if (found := _WRONG_PREFIX.search(prefix)) is not None:
        raise InvalidArgumentError(_rule("a prefix", found.group()))
    return _sized(scope_prefix + prefix, scope_prefix, max_bytes)


def _sized(physical: str, scope_prefix: str, max_bytes: int) -> str:
    # Four bytes a character at most: most keys need no encoding to be seen to fit.
    if len(physical) * 4 > max_bytes and (size := len(physical.encode())) > max_bytes:
        room = max_bytes - len(scope_prefix.encode())
        raise InvalidArgumentError(
            f"a key may have {max_bytes} bytes (UTF-8) with its tenant's prefix, which leaves "
            f"{room}; this one needs {size - (max_bytes - room)}"
        )
    return physical


def _rule(what: str, found: str) -> str:
    if found == "/":
        return f"{what} must not start with '/'"
    if found.strip("/") in (".", ".."):
        return f"{what} must not have the segment {found.strip('/')!r}"
    if "\ud800" <= found <= "\udfff":
        return f"{what} must be valid Unicode; this one has a lone surrogate"
    if found == "\x00":
        return f"{what} must not have a NUL character"
    return f"{what} must not have control characters; this one has U+{ord(found):04X}"


def encode_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """User metadata as stores carry it: other than printable ASCII goes as RFC 2047 words."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidArgumentError(
            f"metadata is a mapping of names to text, such as a dict, not {type(metadata).__name__}"
        )
    encoded: dict[str, str] = {}
    for name, value in metadata.items():
        if not matches(_NAME, name):
            raise InvalidArgumentError(
                "a metadata name has 1 to 127 characters [a-z0-9-] and starts with a letter or "
                "digit: stores fold case and drop others"
            )
        if name.startswith(RESERVED):
            raise InvalidArgumentError(f"metadata names that start with {RESERVED!r} are ours")
        if not isinstance(value, str):
            raise InvalidArgumentError(f"the value of metadata {name!r} must be text (str)")
        if re.search(rf"[{_FORBIDDEN}]", value):
            raise InvalidArgumentError(
                f"the value of metadata {name!r} must not have control characters or lone "
                "surrogates"
            )
        encoded[name] = value if _is_plain(value) else word(value)
    return encoded


def matches(pattern: re.Pattern[str], value: object) -> bool:
    """Whether it is text, which types promise and callers may not keep, and matches whole."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_plain(value: str) -> bool:
    # Leading and trailing spaces do not survive an HTTP header; an empty value does not survive
    # every store.
    return _PLAIN.fullmatch(value) is not None and not value.startswith("=?")


def word(value: str) -> str:
    """A text as an RFC 2047 word, which is plain ASCII."""
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def decode_metadata(stored: Mapping[str, str]) -> tuple[Mapping[str, str], str | None, str | None]:
    """The user's metadata, the revision and the SHA-256 out of what a store answered."""
    if not stored:
        return NO_METADATA, None, None
    user: dict[str, str] = {}
    for name, value in stored.items():
        if not name.startswith(RESERVED):
            user[name] = _unword(value) if value.startswith("=?") else value
    return MappingProxyType(user), stored.get(REVISION), stored.get(SHA256)


def _unword(value: str) -> str:
    # Others write words too, in charsets and forms that we do not: those are left as they are.
    if (found := _ENCODED.fullmatch(value)) is None:
        return value
    try:
        text = base64.b64decode(found[1], validate=True).decode()
    except ValueError:
        return value
    # Nor would we have written a line break, which must not get from here into a header.
    return value if re.search(rf"[{_FORBIDDEN}]", text) else text


def metadata_size(stored: Mapping[str, str]) -> int:
    """Bytes of names and values, as stores count them."""
    return sum(len(name) + len(value) for name, value in stored.items())


def check_header(value: str | None, what: str) -> str | None:
    """A content type, cache control and the like: what an HTTP header can carry."""
    if value is not None and not matches(_PLAIN, value):
        raise InvalidArgumentError(
            f"{what} must be printable ASCII without leading or trailing spaces"
            + ("; a file name goes as filename*=UTF-8''..." if "disposition" in what else "")
        )
    return value


__all__ = [
    "check_header",
    "check_key",
    "check_prefix",
    "decode_metadata",
    "encode_metadata",
    "matches",
    "metadata_size",
    "word",
]
