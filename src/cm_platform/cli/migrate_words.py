"""What is known of a migration, in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .output import counted, size_text, time_text

if TYPE_CHECKING:
    from cm_platform.migration.ledger import Pending, State


def verified_text(body: Mapping[str, Any]) -> str:
    """What a verification found, in a line."""
    if "problems" in body:
        return _flush_verified(body)
    if body.get("clean"):
        found = "the same on both sides"
    else:
        found = (
            f"{body.get('divergent', 0)} differ, {body.get('unread', 0)} unreadable, "
            f"{body.get('busy', 0)} never stood still"
        )
    how = "all read back" if body.get("full") else f"{body.get('sample', 0):.0%} read back"
    waiting = body.get("pending", 0)
    left = f"; {waiting} not compared, intents stand for them" if waiting else ""
    return (
        f"{counted(body.get('objects', 0), 'object')}, {found}; {how}, "
        f"{size_text(body.get('size', 0))}{left}"
    )


def backfilled_text(body: Mapping[str, Any], total: int | None = None) -> str:
    """How far a backfill has come, in a line."""
    if "version" in body:
        if not body.get("complete"):
            return "cut off: `migrate backfill` does it again"
        many = counted(body.get("objects", 0), "namespace")
        return f"complete: what the target had from before is outdated, in {many}"
    moved = f"{size_text(body.get('moved', 0))} sent"
    looked = body.get("objects", 0)
    if body.get("complete"):
        return f"complete: {counted(looked, 'object')}, {moved}"
    if body.get("phase") == "other":
        return f"looking for leftovers, after {counted(looked, 'object')}, {moved}"
    return f"{share_text(looked, total)} objects, {moved}"


def _flush_verified(body: Mapping[str, Any]) -> str:
    # Of a cache, which cannot list what it has: nothing was read back.
    many = counted(body.get("objects", 0), "namespace")
    if body.get("clean"):
        return f"{many}: nothing from before counts on the target, and it can do what is done"
    return f"{many}: {counted(len(body['problems']), 'problem')}"


def intents_text(pending: Pending) -> str:
    """How many intents stand, in a line."""
    if not pending.count:
        return "none"
    told = f"{pending.count} open, {pending.due} due; the oldest is {time_text(pending.oldest)} old"
    if pending.uploads:
        until = time_text(max(pending.until, 0.0))
        told += f"; {counted(pending.uploads, 'URL')} to upload, valid for {until}"
    return told


def share_text(looked: int, total: int | None) -> str:
    """So many objects of so many, if anybody has counted those."""
    if not total:
        return f"{looked:,}"
    return f"{looked:,} of {total:,} ({min(looked / total, 1):.0%})"


def backend_of(state: State) -> str:
    """The name of the backend that is right."""
    return state.terms.source if state.authority == "source" else state.terms.target


def moment(at: float) -> str:
    """A time of day, UTC. at: seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def would(act: str, lacks: list[str]) -> list[str]:
    """What a dry run found out: that it would act, or what is missing."""
    if not lacks:
        return [f"would {act}; nothing was changed"]
    return [f"would not {act}; nothing was changed. Missing:", *(f"  - {lack}" for lack in lacks)]


__all__ = [
    "backend_of",
    "backfilled_text",
    "intents_text",
    "moment",
    "share_text",
    "verified_text",
    "would",
]
