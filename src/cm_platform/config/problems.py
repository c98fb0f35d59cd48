"""All that is wrong with a configuration, collected and told together.

A line has the path, the rule and the remedy. It never has a value: where a validator's text
quotes one that may be secret, it is masked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from cm_platform.errors import ConfigInvalidError
from cm_platform.routing import did_you_mean

from .fields import MASK, keys_of, model_at
from .tree import Origins, Path, dotted, origin

M = TypeVar("M", bound=BaseModel)

# Shorter texts occur in messages by accident, and give nothing away.
_SECRET_LENGTH: Final = 4


class Problems:
    """Collects; `check` raises `config_invalid` when there are any.

    source: how the file is called in messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: list[tuple[Path, str]] = []
        self._unresolved: set[Path] = set()
        self.origins: Origins = {}

    def add(self, path: Path, text: str) -> None:
        """Something is wrong there."""
        if path not in self._unresolved and (path, text) not in self._lines:
            self._lines.append((path, text))

    def unresolved(self, path: Path, text: str) -> None:
        """There is no value there to check: what else is found about it is not told."""
        self.add(path, text)
        self._unresolved.add(path)

    def unknown_keys(self, table: Mapping[str, Any], known: Collection[str], path: Path) -> None:
        """Report every key that is not known."""
        for key in table:
            if key not in known:
                self.add((*path, key), unknown_key(key, known))

    def validated(
        self,
        model: type[M],
        raw: object,
        path: Path,
        *,
        hidden: Collection[str] = (),
    ) -> M | None:
        """An instance, or None after its problems were added.

        hidden: values that a message must not quote.
        """
        try:
            return model.model_validate(raw)
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_input=False):
                where: Path = (*path, *error["loc"])
                text = _text(model, error["type"], error["msg"], error["loc"])
                self.add(where, masked(text, hidden))
            return None

    def check(self) -> None:
        """Raise when something is wrong."""
        if not self._lines:
            return
        lines = [f"{dotted(path)}: {text}{self._from(path)}" for path, text in self._lines]
        if len(lines) == 1:
            raise ConfigInvalidError(f"{self._source}: {lines[0]}", problems=lines)
        listed = "".join(f"\n  - {line}" for line in lines)
        raise ConfigInvalidError(
            f"{self._source} has {len(lines)} problems:{listed}", problems=lines
        )

    def _from(self, path: Path) -> str:
        found = origin(self.origins, path) or ""
        return f" (from {found})" if found.startswith("environment ") else ""


def unknown_key(key: str, known: Collection[str]) -> str:
    """The line for a key that means nothing here."""
    return f"unknown key{did_you_mean(key, known)}; keys are {', '.join(sorted(known)) or 'none'}"


def masked(text: str, hidden: Collection[str]) -> str:
    """The text without the hidden values, the longest first."""
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= _SECRET_LENGTH:
            text = text.replace(value, MASK)
    return text


def _text(model: type[BaseModel], kind: str, message: str, loc: Path) -> str:
    if kind == "extra_forbidden":
        return unknown_key(str(loc[-1]), keys_of(model_at(model, loc[:-1])))
    if kind == "missing":
        return "is missing"
    if kind == "union_tag_invalid":
        return "its type is not one of those that are allowed"
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should", "must", 1)
    return message[:1].lower() + message[1:]


__all__ = ["Problems", "masked", "unknown_key"]
