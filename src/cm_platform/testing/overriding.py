"""For an application's own tests: other services behind `get_service`, for a while."""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from cm_platform import default
from cm_platform.config import load
from cm_platform.platform import AsyncPlatform, Platform
from cm_platform.registry import Registry

from .faces import with_driver


class override:  # noqa: N801 - used like a function
    """Make `get_service` and `get_async_service` serve from something else, and restore them.

        with override(): ...                            an empty temporary store
        with override(storage={"driver": "s3", ...}):   a backend's table
        async with override(): ...                      closes what the async face opened, too

    storage, cache: a backend's table, as in `[storage.backends.<name>]`; its "driver" may be the
        descriptor itself of a backend that has no entry point. None: a local one, empty; a
        store in a directory that is removed in the end, a cache in memory.

    It holds for the whole process, all threads and tasks, and may be nested. Services that were
    handed out before keep their own backends. Those handed out inside raise `unavailable`
    afterwards. After a plain `with`, call `await cm_platform.aclose()` inside if the async face
    was used: its clients can only be closed on their event loop.
    """

    def __init__(
        self,
        *,
        storage: Mapping[str, Any] | None = None,
        cache: Mapping[str, Any] | None = None,
    ) -> None:
        self._tables = {"storage": storage, "cache": cache}
        self._directory: TemporaryDirectory[str] | None = None
        self._before: default.State | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if self._before is not None:
            raise RuntimeError("this override is in use; make another one")
        self._directory = TemporaryDirectory(prefix="cm_platform-")
        instead = {
            "storage": {"driver": "local", "path": self._directory.name},
            "cache": {"driver": "local"},
        }
        try:
            registry = Registry()
            tables = {
                kind: {
                    "default": "test",
                    "backends": {
                        "test": with_driver(instead[kind] if table is None else table, registry)
                    },
                }
                for kind, table in self._tables.items()
            }
            config = load(tables, environ={}, registry=registry)
        except BaseException:
            self._clean_up()
            raise
        state = default.State(
            config, Platform(config, registry=registry), AsyncPlatform(config, registry=registry)
        )
        self._before = default.exchange(state)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what the sync face opened, and restore what was before."""
        try:
            default.close()
        finally:
            self._restore()

    async def __aenter__(self) -> Self:
        """Begin."""
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what both faces opened, and restore what was before."""
        try:
            await default.aclose()
        finally:
            self.__exit__(exc_type, exc, traceback)

    def _restore(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            default.exchange(before)
        self._clean_up()

    def _clean_up(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.cleanup()


__all__ = ["override"]
