"""Clients that work while the demo moves their tenant's files, and notice what is not right."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from cm_platform.errors import IntegrityError, NotFoundError
from cm_platform.storage.sync import Storage

_CLIENTS: Final = 3
_PREFIX: Final = "drafts/"


class Traffic:
    """Threads that write, read and delete drafts until they are stopped.

    Each has drafts of its own, so it knows at any moment what must be there: the last version
    that it wrote, or nothing after it deleted it.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._failure: BaseException | None = None
        self._drafts: dict[str, bytes | None] = {}
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(_CLIENTS)
        ]
        self.writes = 0
        self.reads = 0

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop. Raises what a client met."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None and exc is None:
            raise self._failure

    def drafts(self) -> dict[str, bytes | None]:
        """What must be there when nobody works any more; None: nothing."""
        return dict(self._drafts)

    def check(self, storage: Storage) -> int:
        """Read every draft back, after the end; how many. Raises `integrity`."""
        for key, expected in self._drafts.items():
            if _read(storage, key) != expected:
                raise IntegrityError("a draft is not what its author wrote last")
        listed = {found.key for found in storage.list(_PREFIX)}
        if listed != {key for key, expected in self._drafts.items() if expected is not None}:
            raise IntegrityError("a draft was lost, or came back")
        return len(self._drafts)

    def _work(self, client: int) -> None:
        try:
            version = 0
            while not self._stop.is_set():
                version += 1
                self._turn(f"{_PREFIX}{client}/{version % 12}.md", client, version)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self._failure = error

    def _turn(self, key: str, client: int, version: int) -> None:
        text: bytes | None = f"draft {version} of {client}".encode()
        if version % 5 == 0:
            text = None
            self._storage.delete(key)
        else:
            assert text is not None  # noqa: S101 - for the type checkers
            self._storage.put(key, text, content_type="text/markdown")
        self._drafts[key] = text
        if _read(self._storage, key) != text:
            raise IntegrityError("somebody did not read what he had just written")
        with self._guard:
            self.writes += 1
            self.reads += 1


def _read(storage: Storage, key: str) -> bytes | None:
    try:
        return storage.get(key).read()
    except NotFoundError:
        return None


__all__ = ["Traffic"]
