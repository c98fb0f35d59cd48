"""The demo's acts with the cache: computed once, cleared for one tenant, counted exactly."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cm_platform.config import load
from cm_platform.errors import IntegrityError
from cm_platform.platform import Platform

from .demo_acts import MAGAZINE, SHOP, Original, Step

_CALLERS: Final = 32
_VISITS: Final = 200


def perform_cache(workspace: Path, originals: Sequence[Original]) -> list[Step]:
    """All acts, in order. Raises `integrity` where something is not as it must be."""
    config = load(
        {
            "cache": {
                "default": "memory",
                "backends": {
                    "memory": {"driver": "local"},
                    "file": {"driver": "local", "path": str(workspace / "cache.sqlite")},
                },
                "namespaces": {"sessions": {"default": "file", "consistency": "read_your_writes"}},
            }
        }
    )
    with Platform.from_config(config) as platform:
        acts = _Acts(platform, originals)
        acts.compute_once()
        acts.clear_one_tenant()
        acts.count()
    return acts.steps


class _Acts:
    def __init__(self, platform: Platform, originals: Sequence[Original]) -> None:
        self.steps: list[Step] = []
        self._magazine = platform.get_service("cache", MAGAZINE)
        self._shop = platform.get_service("cache", SHOP)
        self._originals = originals

    def compute_once(self) -> None:
        """Everybody misses at the same moment, and the files are read once."""
        reads: list[str] = []
        guard = threading.Lock()

        def digests() -> dict[str, str]:
            with guard:
                reads.append("all")
            return {found.key: _digest(found.path) for found in self._originals}

        with self._step("shop: a value, computed once") as step:
            with ThreadPoolExecutor(_CALLERS) as pool:
                asked = [
                    pool.submit(self._shop.get_or_set, "digests", digests, tags=["files"])
                    for _ in range(_CALLERS)
                ]
                answers = [future.result() for future in asked]
            expected = {found.key: found.sha256 for found in self._originals}
            if any(answer != expected for answer in answers):
                raise IntegrityError("the cache answered with something else than was computed")
            if len(reads) != 1:
                raise IntegrityError(f"the value was computed {len(reads)} times, not once")
            step.objects = len(answers)
            step.where = "memory"
            step.detail = f"{_CALLERS} threads missed it at once; the files were read once"

    def clear_one_tenant(self) -> None:
        with self._step("magazine: clear") as step:
            self._magazine.set("menu", ["une", "deux"])
            self._shop.set("menu", ["starters"])
            self._magazine.clear()
            kept = self._shop.get_many(["menu", "digests"])
            if self._magazine.get("menu") is not None or len(kept) != 2:
                raise IntegrityError("clear reached another tenant, or not its own")
            self._shop.invalidate_tag("files")
            if self._shop.get("digests") is not None or self._shop.get("menu") is None:
                raise IntegrityError("a tag reached another value, or not its own")
            step.objects = len(kept)
            step.where = "memory"
            step.detail = (
                "one small write, no scan; the shop's values stay, until a tag of theirs is "
                "invalidated"
            )

    def count(self) -> None:
        with self._step("shop: sessions, in a file") as step:
            sessions = self._shop.namespace("sessions")
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(sessions.increment, "visits") for _ in range(_VISITS)]
                numbers = [future.result() for future in asked]
            if sorted(numbers) != list(range(1, _VISITS + 1)):
                raise IntegrityError("a counter gave a number twice, or left one out")
            step.objects = len(numbers)
            step.where = "file"
            step.detail = "a namespace with a backend of its own; every caller got its own number"

    @contextmanager
    def _step(self, title: str) -> Generator[Step, Any, None]:
        step = Step(title)
        started = time.monotonic()
        yield step
        step.seconds = time.monotonic() - started
        self.steps.append(step)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


__all__ = ["perform_cache"]
