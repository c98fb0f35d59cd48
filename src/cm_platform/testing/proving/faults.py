"""Faults in front of a real storage backend: what networks and stores do, more often."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, cast

from cm_platform.errors import (
    DeadlineExceededError,
    InternalError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.testing.simulation import Fault, FaultSource, Request

_WRITES: Final = frozenset(
    {
        "put",
        "create_multipart",
        "put_part",
        "copy_part",
        "complete_multipart",
        "abort_multipart",
        "delete",
        "delete_many",
        "copy",
    }
)
_READS: Final = frozenset({"head", "get", "list"})
_CONDITIONS: Final = ("if_match", "if_none_match")
# What nobody can see yet may arrive twice. Of the rest, the second delivery could undo what
# somebody did between the two, and no migration is needed for that.
_REPEATED: Final = frozenset({"put_part"})
_SLOW: Final = 0.2

_NOT_SENT: Final[Mapping[Fault, Callable[[], PlatformError]]] = {
    Fault.REFUSED: lambda: UnavailableError("refused", retryable=True, not_sent=True),
    Fault.UNAVAILABLE: lambda: UnavailableError("503", retryable=True, not_sent=True),
    Fault.CONFLICT: lambda: UnavailableError("409", retryable=True, not_sent=True),
    Fault.RATE_LIMITED: lambda: RateLimitedError(
        "429", retryable=True, not_sent=True, retry_after=0.05
    ),
}


class FaultyStorage:
    """A storage backend of which some requests go wrong, as `faults` says."""

    def __init__(
        self, backend: Any, runtime: Runtime, faults: FaultSource, dice: random.Random
    ) -> None:
        self.backend = backend
        self._runtime = runtime
        self._faults = faults
        self._dice = dice

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self.backend, name)
        if name not in _WRITES and name not in _READS:
            return found
        method = cast("Callable[..., Awaitable[Any]]", found)

        async def sent(*args: Any, **kwargs: Any) -> Any:
            conditional = any(kwargs.get(condition) for condition in _CONDITIONS)
            request = Request(
                name,
                writes=name in _WRITES,
                conditional=conditional,
                streams=name == "get",
                duplicates=name in _REPEATED,
            )
            fault = self._faults.next(request)
            return await self._sent(fault, lambda: method(*args, **kwargs))

        return sent

    async def _sent(self, fault: Fault | None, call: Callable[[], Awaitable[Any]]) -> Any:
        if fault is not None and fault in _NOT_SENT:
            raise _NOT_SENT[fault]()
        match fault:
            case Fault.LOST_REQUEST:
                raise _unanswered()
            case Fault.LOST_REPLY:
                await call()
                raise _unanswered()
            case Fault.LATE:
                wait = self._dice.random() * self.backend.max_request_lifetime * 0.8
                self._runtime.spawn(self._late(wait, call))
                raise _unanswered()
            case Fault.FAILED:
                if self._dice.random() < 0.5:
                    await call()
                raise InternalError("500", retryable=True)
            case Fault.DUPLICATE:
                await call()
                return await call()
            case Fault.SLOW:
                await self._runtime.sleep(self._dice.random() * _SLOW)
                return await call()
            case Fault.TRUNCATED:
                return _Truncated(await call())
            case _:
                return await call()

    async def _late(self, wait: float, call: Callable[[], Awaitable[Any]]) -> None:
        await self._runtime.sleep(wait)
        with suppress(PlatformError):  # a condition that does not hold any more
            await call()


class _Truncated:
    """A reply whose body ends too early."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply
        self.info = reply.info

    async def read(self) -> bytes:
        await self._reply.read()
        raise UnavailableError("the body ended early", retryable=True)

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._reply.chunks():
            yield chunk[: len(chunk) // 2]
            break
        raise UnavailableError("the body ended early", retryable=True)

    async def close(self) -> None:
        await self._reply.close()


def _unanswered() -> DeadlineExceededError:
    return DeadlineExceededError("no answer", retryable=True)


def faulty(descriptor: Backend[Any], faults: FaultSource, dice: random.Random) -> Backend[Any]:
    """The same storage backend, some of whose requests go wrong."""

    async def open_faulty(config: Any, runtime: Runtime) -> FaultyStorage:
        return FaultyStorage(await descriptor.open(config, runtime), runtime, faults, dice)

    return replace(descriptor, open=open_faulty)


__all__ = ["FaultyStorage", "faulty"]
