"""Single flight: of many who miss the same value at once, one computes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from cm_platform.executor import Endpoint
from cm_platform.runtime import Event

NOTHING: Final = object()
"""What a computation returns that leaves its value to others: who waits goes on by itself."""


class Flight:
    """One computation that others wait for."""

    __slots__ = ("error", "landed", "over", "value")

    def __init__(self, over: Event) -> None:
        self.over = over
        self.landed = False
        self.value: Any = None
        self.error: Exception | None = None


class Flights:
    """The computations under way in this process, by key."""

    __slots__ = ("_claims", "_flights")

    def __init__(self) -> None:
        self._flights: dict[tuple[str, int], Flight] = {}
        self._claims: dict[tuple[str, int], object] = {}

    def claim(self, key: str, endpoint: Endpoint) -> bool:
        """Whether it is for the caller to compute the value in the background: of many who see
        that it is stale, for the first. Until `release`."""
        place, mine = (key, id(endpoint)), object()
        return place not in self._flights and self._claims.setdefault(place, mine) is mine

    def release(self, key: str, endpoint: Endpoint) -> None:
        """Let others claim it."""
        self._claims.pop((key, id(endpoint)), None)

    async def join(
        self,
        key: str,
        endpoint: Endpoint,
        patience: float,
        compute: Callable[[], Awaitable[Any]],
    ) -> Any:
        """What `compute` returns or raises: called here, or by whoever came first.

        patience: seconds to wait for another; who waited for so long computes for itself, as the
            leader may hang.

        Who leads and is cancelled leaves the lead to one of those who wait.
        """
        # An event belongs to the loop of its endpoint.
        place = (key, id(endpoint))
        while True:
            mine = Flight(endpoint.runtime.event())
            # Atomic: of two threads, one gets its own.
            flight = self._flights.setdefault(place, mine)
            if flight is mine:
                return await self._lead(place, mine, compute)
            if not await flight.over.wait(patience):
                return await compute()
            if flight.error is not None:
                raise flight.error
            if flight.landed:
                return flight.value

    async def _lead(
        self, place: tuple[str, int], flight: Flight, compute: Callable[[], Awaitable[Any]]
    ) -> Any:
        try:
            flight.value = await compute()
            flight.landed = flight.value is not NOTHING
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[place]
            flight.over.set()
        return flight.value


__all__ = ["NOTHING", "Flight", "Flights"]
