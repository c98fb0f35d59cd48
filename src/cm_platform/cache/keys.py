"""Which keys, tags and namespaces a tenant may use, and what the store calls them.

Within a tenant's partition everything of ours begins with `~`, so that keys shared with other
programs (`encoding = "raw"`), which must not, cannot meet it:

    ~sessions:<key>      a value of the namespace "sessions"
    ~sessions!g          the namespace's generation
    ~sessions!t:<tag>    the version of a tag
    ~sessions!l:<key>    who is computing a value just now
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from cm_platform.errors import InvalidArgumentError

from .entry import scope_of

MARK: Final = "~"
DEFAULT_NAMESPACE: Final = "default"
MAX_TAGS: Final = 64
MAX_TAG: Final = 128  # bytes

_WRONG: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Names:
    """The names of one namespace within a partition.

    namespace: as configured. raw: shared with other programs; keys are names as they are.
    """

    __slots__ = ("generation", "lock", "partition", "raw", "scope", "tag", "value")

    def __init__(self, partition: str, namespace: str, *, raw: bool = False) -> None:
        self.partition = partition
        self.raw = raw
        self.scope = scope_of(partition, namespace)
        self.value = "" if raw else f"{MARK}{namespace}:"
        self.generation = f"{MARK}{namespace}!g"
        self.tag = f"{MARK}{namespace}!t:"
        self.lock = f"{MARK}{namespace}!l:"

    def key(self, key: str, max_bytes: int) -> str:
        """The name of a value; `invalid_argument` names the rule that the key breaks."""
        # Printable text has no character that is refused, and is told in no time.
        if type(key) is not str or not key.isprintable() or not key or self.raw:
            _check(key, "a key", raw=self.raw)
        self._sized(key, max_bytes)
        return self.value + key

    def keys(self, keys: Sequence[str], max_bytes: int) -> list[str]:
        """The names of many values, by one look at all of them where nothing is odd."""
        try:
            plain = not self.raw and "".join(keys).isprintable() and "" not in keys
        except TypeError:
            plain = False
        if not plain:
            return [self.key(key, max_bytes) for key in keys]
        # The longest in characters need not be the longest in bytes, but where its characters
        # would fit if each took four bytes, all of them fit.
        if keys and len(max(keys, key=len)) * 4 + self._overhead() > max_bytes:
            for key in keys:
                self._sized(key, max_bytes)
        prefix = self.value
        return [prefix + key for key in keys]

    def tags(self, tags: Iterable[str]) -> tuple[str, ...]:
        """The tags, each once; `invalid_argument` for what is none."""
        if isinstance(tags, str):
            raise InvalidArgumentError(f"tags are several: write ({tags!r},)")
        try:
            found = tuple(dict.fromkeys(tags))
        except TypeError:
            raise InvalidArgumentError("tags are an iterable of text (str)") from None
        for tag in found:
            check_tag(tag)
        if len(found) > MAX_TAGS:
            raise InvalidArgumentError(f"a value has at most {MAX_TAGS} tags, not {len(found)}")
        return found

    def _sized(self, key: str, max_bytes: int) -> None:
        # Four bytes a character at most: most keys need no encoding to be seen to fit.
        overhead = self._overhead()
        if len(key) * 4 + overhead > max_bytes:
            size, room = len(key.encode()), max_bytes - overhead
            if size > room:
                raise InvalidArgumentError(
                    f"a key may have {max_bytes} bytes (UTF-8) on this backend with the prefix of "
                    f"its tenant and namespace, which leaves {max(room, 0)}; this one has {size}"
                )

    def _overhead(self) -> int:
        # The lock's name is the longest that a key gets.
        return len(self.partition.encode()) + len(self.lock)


def check_tag(tag: str) -> str:
    """The tag; `invalid_argument` names the rule that it breaks."""
    _check(tag, "a tag", raw=False)
    if len(tag.encode()) > MAX_TAG:
        raise InvalidArgumentError(f"a tag has at most {MAX_TAG} bytes of UTF-8")
    return tag


def _check(text: object, what: str, *, raw: bool) -> None:
    if not isinstance(text, str):
        raise InvalidArgumentError(f"{what} is text (str), not {type(text).__name__}")
    if not text:
        raise InvalidArgumentError(f"{what} must not be empty")
    if (found := _WRONG.search(text)) is not None:
        wrong = found.group()
        if "\ud800" <= wrong <= "\udfff":
            raise InvalidArgumentError(
                f"{what} must be valid Unicode; this one has a lone surrogate"
            )
        raise InvalidArgumentError(
            f"{what} must not have control characters; this one has U+{ord(wrong):04X}"
        )
    if raw and text.startswith(MARK):
        raise InvalidArgumentError(
            f"{what} that is shared with other programs must not start with {MARK!r}: such names "
            "are ours"
        )


__all__ = ["DEFAULT_NAMESPACE", "MAX_TAGS", "Names", "check_tag"]
