"""Keys as the tenant knows them: what a shared store puts before them is the layout's business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.migration.ledger import Skipped, Subject


class OwnNames:
    """Takes off what all keys of one tenant begin with in its store, and nothing else.

    prefix: that beginning.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def key(self, key: str) -> str:
        """A key as the tenant knows it. With a site in the layout, it begins with the site."""
        return key.removeprefix(self._prefix)

    def skipped(self, found: Iterable[Skipped]) -> list[Skipped]:
        """Such keys, with their reasons."""
        return [one._replace(key=self.key(one.key)) for one in found]

    def body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a plan or a verification found."""
        told = dict(body)
        for name in ("losses", "obstacles"):
            if name in told:
                told[name] = [
                    {**one, "examples": [self.key(key) for key in one["examples"]]}
                    for one in cast("Iterable[Mapping[str, Any]]", told[name])
                ]
        if "differences" in told:
            pairs = cast("Iterable[tuple[str, str]]", told["differences"] or ())
            told["differences"] = [(self.key(key), how) for key, how in pairs]
        return told


def own_names(config: Config, subject: Subject) -> OwnNames:
    """The names of what moves."""
    from cm_platform.tenant import Layout

    layout = Layout(config.kinds[subject.kind.partition(".")[0]].layout)
    return OwnNames(layout.tenant_prefix(subject.tenant_id))


__all__ = ["OwnNames", "own_names"]
