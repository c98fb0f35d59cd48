"""The way of a request to a server and back, and all that can happen to it there.

Before and after the server does what it does, the request is on the wire, where others overtake
it, its caller gives up or dies, and faults befall it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from cm_platform.errors import (
    DeadlineExceededError,
    InternalError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)

from .faults import Fault, FaultSource, Request
from .link import Act
from .tasks import Cancelled, Process, point

T = TypeVar("T")

LONGEST_WAY: Final = 1.0

_SPOIL: Final = frozenset({Fault.SHORT_PAGE, Fault.TRUNCATED})


class Wire:
    """A simulated process's link to a server.

    lifetime: seconds for which a request may live on after its caller gave up.
    longest_way: seconds that a slow request is on its way, in one direction, at most.
    refusals: what the server's functions raise by way of answer.
    """

    def __init__(
        self,
        process: Process,
        name: str,
        faults: FaultSource,
        lifetime: float,
        longest_way: float = LONGEST_WAY,
        refusals: tuple[type[Exception], ...] = (PlatformError,),
    ) -> None:
        self._process = process
        self._simulation = process.simulation
        self._name = name
        self._fault = faults.next
        self._lifetime = lifetime
        self._longest_way = longest_way
        self._refusals = refusals

    async def send(
        self, request: Request, act: Act[T], about: object = "", *, spoilt: Act[T] | None = None
    ) -> T:
        """See `Link.send`."""
        simulation = self._simulation
        fault = self._fault(request)
        if fault in _SPOIL and spoilt is not None:
            act = spoilt
        if simulation.trace is not None:
            act = self._traced(request, act, about, fault)
        if fault is not None and fault not in _SPOIL:
            return await self._befallen(fault, request, act)
        if not request.writes:
            await point()
        else:
            task = simulation.task
            task.flight = (self._let_go, act)
            try:
                await point()
            except Cancelled:
                self._let_go(act)
                raise
            finally:
                task.flight = None
        try:
            answer = act()
        except self._refusals:
            await point()
            raise
        await point()
        return answer

    async def send_each(self, request: Request, acts: Sequence[Act[None]]) -> Sequence[int]:
        """See `Link.send_each`: others may come between any two."""
        simulation = self._simulation
        dice = simulation.random
        fault = self._fault(request)
        simulation.note(f"{self._name} {request.name} {fault or ''}")
        left = list(acts)
        # No server promises an order.
        dice.shuffle(left)
        if fault in (None, Fault.SLOW):
            await self._carried_out(left, slowly=fault is Fault.SLOW)
        elif fault is Fault.LATE:
            await point()
            for act in left:
                self._land_later(act)
            raise _no_answer()
        elif fault is Fault.PARTIAL:
            failed = [index for index in range(len(acts)) if dice.random() < 0.5]
            await self._carried_out(
                [act for i, act in enumerate(acts) if i not in failed or dice.random() < 0.5],
                slowly=False,
            )
            return failed
        else:
            some = fault is Fault.FAILED
            chosen = [act for act in left if not some or dice.random() < 0.5]
            await self._befallen(fault, request, lambda: [act() for act in chosen])
        return ()

    async def _carried_out(self, acts: list[Act[None]], *, slowly: bool) -> None:
        task = self._simulation.task
        task.flight = (self._let_go_each, acts)
        try:
            await (self._way() if slowly else point())
            while acts:
                acts.pop()()
                await point()
        except Cancelled:
            self._let_go_each(acts)
            raise
        finally:
            task.flight = None

    async def _befallen(self, fault: Fault, request: Request, act: Act[T]) -> T:
        flip = self._simulation.random.random
        if fault is Fault.SLOW:
            return await self._slow(request, act)
        if fault is Fault.CRASH:
            await self._crash(request, act)
        await point()
        if fault is Fault.REFUSED:
            raise UnavailableError("no connection could be made", retryable=True, not_sent=True)
        if fault is Fault.LOST_REQUEST:
            raise _no_answer()
        if fault is Fault.RATE_LIMITED:
            raise RateLimitedError(
                "slow down", retryable=True, not_sent=True, retry_after=flip() * 2 or None
            )
        if fault is Fault.UNAVAILABLE:
            raise UnavailableError("cannot serve now (503)", retryable=True, not_sent=True)
        if fault is Fault.CONFLICT:
            raise UnavailableError("another write was under way", retryable=True, not_sent=True)
        if fault is Fault.LATE:
            self._land_later(act)
            raise _no_answer()
        if fault is Fault.FAILED:
            if request.writes and flip() < 0.5:
                self._land(act)
                await point()
            if flip() < 0.5:
                raise InternalError("an answer that cannot be understood")
            raise UnavailableError("cannot serve now (500)", retryable=True)
        if fault is Fault.LOST_REPLY:
            self._land(act)
            await point()
            if flip() < 0.5:
                raise _no_answer()
            raise UnavailableError("the connection was lost", retryable=True)
        if fault is Fault.DUPLICATE:
            self._land(act)
        answer = act()
        await point()
        return answer

    async def _slow(self, request: Request, act: Act[T]) -> T:
        task = self._simulation.task
        if request.writes:
            task.flight = (self._let_go, act)
        try:
            await self._way()
        except Cancelled:
            if request.writes:
                self._let_go(act)
            raise
        finally:
            task.flight = None
        try:
            return act()
        finally:
            await self._way()

    async def _crash(self, request: Request, act: Act[Any]) -> None:
        flip = self._simulation.random.random()
        if flip < 1 / 3:
            await point()
            if request.writes:
                self._let_go(act)
        elif flip < 2 / 3:
            await point()
            if request.writes:
                self._land(act)
        await self._process.crash()

    async def _way(self) -> None:
        simulation = self._simulation
        await simulation.sleep(simulation.random.random() * self._longest_way)

    def _let_go(self, act: Act[Any]) -> None:
        """Nobody waits for it any more: it is lost, or it lands one day."""
        if self._simulation.random.random() < 0.5:
            self._land_later(act)

    def _let_go_each(self, acts: Sequence[Act[Any]]) -> None:
        for act in acts:
            self._let_go(act)

    def _land_later(self, act: Act[Any]) -> None:
        simulation = self._simulation

        def land() -> None:
            simulation.in_flight -= 1
            self._land(act)

        simulation.in_flight += 1
        simulation.at(simulation.random.random() * self._lifetime, land)

    def _land(self, act: Act[Any]) -> None:
        # Nobody hears what it is answered.
        with suppress(*self._refusals):
            act()

    def _traced(self, request: Request, act: Act[T], about: object, fault: Fault | None) -> Act[T]:
        simulation = self._simulation
        what = f"{self._name} {request.name} {about}"
        who = f"for {simulation.task.process.name}/{simulation.task.name}"
        simulation.note(f"{what} sent{f' ({fault})' if fault else ''}")

        def told() -> T:
            try:
                answer = act()
            except self._refusals as error:
                simulation.note(f"{what} {who}: {error!r}")
                raise
            simulation.note(f"{what} {who}: {answer!r}")
            return answer

        return told


def _no_answer() -> DeadlineExceededError:
    return DeadlineExceededError("no answer in time", retryable=True)


__all__ = ["LONGEST_WAY", "Wire"]
