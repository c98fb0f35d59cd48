"""One limiter per API token: no more requests than Cloudflare allows, in any window.

Cloudflare counts 1,200 requests in 5 minutes for a token, whoever sends them, and refuses
everything for 5 minutes once there was one more. So the processes of a machine count together
(`record`), and each request waits for its turn or is not sent at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import httpx

from cm_platform.errors import ConfigInvalidError, RateLimitedError
from cm_platform.runtime import Runtime

from .errors import retry_after_of
from .quota import quotas_of
from .record import Record, record_of
from .ring import SLOTS, Ring

T = TypeVar("T")

logger = logging.getLogger("cm_platform.cloudflare")

# A share of the period: for clocks that run at slightly different speeds, here and there.
_MARGIN: Final = 0.001

# Seconds. The record is locked for microseconds at a time; only who was stopped holds it longer.
_LOCK_RETRY: Final = 0.001
_LEAST_LOCK_PATIENCE: Final = 0.1
_MOST_LOCK_PATIENCE: Final = 5.0

# Seconds. Less may be nothing, beside a time as large as a clock's.
_MIN_SLEEP: Final = 0.001

# Seconds. A 429 that does not say how long: not the token's cap, which is documented to.
_SHORT_BLOCK: Final = 1.0


class Limiter:
    """Admits at most `max_requests` in any window of `period` seconds.

    record: where it is counted.
    in_flight: seconds; a request that was admitted and has not ended after so long is taken for
        one whose process died.

    Requests by others with the same token, on other machines, are seen only through what the API
    says of the rate that is left.
    """

    def __init__(
        self,
        record: Record,
        runtime: Runtime,
        *,
        max_requests: int,
        period: float,
        in_flight: float = 60.0,
    ) -> None:
        if not 1 <= max_requests <= SLOTS or not period > 0:
            raise ConfigInvalidError(
                f"a limiter admits 1 to {SLOTS} requests in a period of more than 0 seconds"
            )
        self._record = record
        self._runtime = runtime
        self._cap = max_requests
        self._window = period
        self._in_flight = in_flight
        self._period = period * (1 + _MARGIN)

    @classmethod
    def of_token(
        cls,
        token: str,
        runtime: Runtime,
        *,
        max_requests: int,
        period: float,
        in_flight: float = 60.0,
        directory: Path | None = None,
    ) -> Limiter:
        """The limiter of a token, counting with all processes of this user on this machine."""
        record = record_of(token, directory)
        return cls(record, runtime, max_requests=max_requests, period=period, in_flight=in_flight)

    @property
    def shared(self) -> bool:
        """Whether the other processes of this machine are counted too."""
        return self._record.shared

    async def admit(self, patience: float) -> int:
        """Wait for the turn of one request; a ticket to hand back to `ended`.

        patience: seconds to wait at most. Raises `rate_limited` at once when the wait is known
        to be longer, with the time in `retry_after`.
        """
        clock = self._runtime.clock
        give_up = clock.monotonic() + patience
        while True:
            try:
                ticket, wait = await self._locked(self._admitted, patience)
            except _HeldError:
                raise RateLimitedError(
                    "another process holds the record of this token's requests and does not let "
                    "go: it may have been stopped",
                    retryable=True,
                    not_sent=True,
                ) from None
            if not wait:
                return ticket
            if clock.monotonic() + wait > give_up:
                raise RateLimitedError(
                    f"the API token has used its rate, or must stand still: the next request may "
                    f"be sent in {wait:.1f} s",
                    retryable=True,
                    retry_after=wait,
                    not_sent=True,
                )
            await self._runtime.sleep(max(wait, _MIN_SLEEP))

    async def ended(
        self, ticket: int, status: int = 0, headers: httpx.Headers | None = None
    ) -> None:
        """Hand a ticket back, with the answer if there was one.

        After a 429 nobody on this machine sends anything until the API says it may.
        """
        wall = self._runtime.clock.wall()

        def note(ring: Ring) -> None:
            ring.ended(ticket)
            if headers is not None:
                self._heed(ring, status, headers, wall)

        try:
            await self._locked(note, _LEAST_LOCK_PATIENCE)
        except _HeldError:
            # The answer is there, whatever becomes of the record: in that, the request goes on
            # for as long as one may take.
            logger.warning(
                "another process holds the record of this token's requests: an answer (HTTP %d) "
                "could not be noted",
                status,
            )

    def _admitted(self, ring: Ring) -> tuple[int, float]:
        now = self._runtime.clock.monotonic()
        wait = ring.next_start(self._cap, self._period) - now
        if wait > 0:
            return 0, wait
        return ring.take(self._in_flight), 0.0

    def _heed(self, ring: Ring, status: int, headers: httpx.Headers, wall: float) -> None:
        quotas = quotas_of(headers)
        spent = max((quota.reset for quota in quotas if quota.remaining == 0), default=0.0)
        if status == 429:
            ring.block(retry_after_of(headers, wall) or spent or _SHORT_BLOCK)
            return
        if spent:
            ring.block(spent)
        for quota in quotas:
            if quota.window == self._window:
                # What is missing was used elsewhere, with the same token.
                used = self._cap - quota.remaining
                missing = used - ring.used(self._period, self._cap) if used > 0 else 0
                if missing > 0:
                    ring.others(missing)

    async def _locked(self, act: Callable[[Ring], T], patience: float) -> T:
        clock = self._runtime.clock
        patience = min(max(patience, _LEAST_LOCK_PATIENCE), _MOST_LOCK_PATIENCE)
        give_up = clock.monotonic() + patience
        while True:
            try:
                with self._record.locked() as free:
                    if free:
                        return act(self._ring())
            except OSError as error:
                self._go_on_alone(error)
                continue
            if clock.monotonic() > give_up:
                raise _HeldError
            await self._runtime.sleep(_LOCK_RETRY)

    def _ring(self) -> Ring:
        clock = self._runtime.clock
        ring = Ring(self._record, clock.monotonic(), clock.wall())
        if ring.damaged:
            logger.warning(
                "the record of this token's requests was damaged: nothing is sent for %.0f s, "
                "because it is not known what was",
                self._period,
            )
        return ring

    def _go_on_alone(self, error: OSError) -> None:
        self._record = self._record.substitute(error)
        clock = self._runtime.clock
        with self._record.locked():
            ring = Ring(self._record, clock.monotonic(), clock.wall())
            # What was sent is out of sight: as if it were all that may be.
            ring.others(self._cap - ring.used(self._period, self._cap))


class _HeldError(Exception):
    """The record is locked, and stays so."""


__all__ = ["Limiter"]
