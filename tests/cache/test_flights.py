"""Single flight: who leads, who waits, and what happens to those who wait when the leader ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from cm_platform.cache.flights import NOTHING, Flights
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, drive

PATIENCE = 10.0


def endpoint(runtime: Any) -> Any:
    """As far as flights look at one."""
    return SimpleNamespace(runtime=runtime)


async def value(found: Any) -> Any:
    return found


class Threads:
    """Flights on the blocking face, joined from threads."""

    def __init__(self) -> None:
        self.flights = Flights()
        self.place = endpoint(BlockingRuntime())
        self.pool = ThreadPoolExecutor(32)
        self.computing = threading.Event()
        self.go_on = threading.Event()
        self.count = 0
        self._waiting: list[threading.Event] = []

    def join(self, compute: Callable[[], Awaitable[Any]], patience: float = PATIENCE) -> Any:
        return drive(self.flights.join("key", self.place, patience, compute))

    async def slow(self) -> Any:
        self.count += 1
        self.computing.set()
        assert self.go_on.wait(PATIENCE)
        return self.count

    def led(self) -> Any:
        """A leader that computes until told to go on."""
        future = self.pool.submit(self.join, self.slow)
        assert self.computing.wait(PATIENCE)
        return future


@pytest.fixture
def threads() -> Any:
    made = Threads()
    yield made
    made.go_on.set()
    made.pool.shutdown()


def test_many_threads_compute_once(threads: Threads) -> None:
    leader = threads.led()
    others = [threads.pool.submit(threads.join, threads.slow) for _ in range(20)]
    threads.go_on.set()
    # Who came after it landed computes anew; who came before does not.
    found = [future.result(PATIENCE) for future in (leader, *others)]
    assert found[0] == 1
    assert threads.count == max(found)
    assert threads.join(lambda: value("later")) == "later"


def test_a_failure_is_everybodys(threads: Threads) -> None:
    async def fail() -> Any:
        await threads.slow()
        raise LookupError("no")

    leader = threads.pool.submit(threads.join, fail)
    assert threads.computing.wait(PATIENCE)
    other = threads.pool.submit(threads.join, fail)
    threads.go_on.set()
    for future in (leader, other):
        with pytest.raises(LookupError):
            future.result(PATIENCE)
    assert threads.join(lambda: value("later")) == "later"


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_waits_takes_over_from_a_leader_that_was_torn_away(
    threads: Threads, raised: type[BaseException]
) -> None:
    async def torn() -> Any:
        await threads.slow()
        raise raised

    leader = threads.pool.submit(threads.join, torn)
    assert threads.computing.wait(PATIENCE)
    other = threads.pool.submit(threads.join, lambda: value("mine"))
    threads.go_on.set()
    with pytest.raises(raised):
        leader.result(PATIENCE)
    assert other.result(PATIENCE) == "mine"


def test_who_waited_long_enough_computes_for_itself(threads: Threads) -> None:
    leader = threads.led()
    assert threads.join(lambda: value("mine"), patience=0.01) == "mine"
    threads.go_on.set()
    assert leader.result(PATIENCE) == 1


def test_who_waits_for_one_that_leaves_it_to_others_goes_on(threads: Threads) -> None:
    async def leave() -> Any:
        await threads.slow()
        return NOTHING

    leader = threads.pool.submit(threads.join, leave)
    assert threads.computing.wait(PATIENCE)
    other = threads.pool.submit(threads.join, lambda: value("mine"))
    threads.go_on.set()
    assert leader.result(PATIENCE) is NOTHING
    assert other.result(PATIENCE) == "mine"


def test_keys_and_endpoints_fly_apart(threads: Threads) -> None:
    leader = threads.led()
    elsewhere = endpoint(BlockingRuntime())
    found = drive(threads.flights.join("key", elsewhere, PATIENCE, lambda: value("elsewhere")))
    assert found == "elsewhere"
    found = drive(threads.flights.join("other", threads.place, PATIENCE, lambda: value("other")))
    assert found == "other"
    threads.go_on.set()
    assert leader.result(PATIENCE) == 1


def test_one_of_many_claims_a_value_until_it_is_released(threads: Threads) -> None:
    flights, place = threads.flights, threads.place
    claims = list(threads.pool.map(lambda _: flights.claim("key", place), range(20)))
    assert claims.count(True) == 1
    assert flights.claim("other", place)
    flights.release("key", place)
    assert flights.claim("key", place)
    flights.release("key", place)
    leader = threads.led()
    assert not flights.claim("key", place)
    threads.go_on.set()
    leader.result(PATIENCE)
    assert flights.claim("key", place)


def test_a_cancelled_leader_leaves_the_lead_to_one_who_waits() -> None:
    asyncio.run(_cancelled())


async def _cancelled() -> None:
    flights, place = Flights(), endpoint(AsyncRuntime())
    computed: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def compute() -> str:
        computed.append("once")
        begun.set()
        await go_on.wait()
        return "value"

    async def join() -> Any:
        return await flights.join("key", place, PATIENCE, compute)

    leader = asyncio.create_task(join())
    await begun.wait()
    others = [asyncio.create_task(join()) for _ in range(5)]
    await asyncio.sleep(0)
    begun.clear()
    leader.cancel()
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        assert leader.cancelled()
        assert len(computed) == 2
        # Who waits may be cancelled, too, and disturbs nobody.
        others[-1].cancel()
        others[2].cancel()
        go_on.set()
        found = await asyncio.gather(*others, return_exceptions=True)
    values = [one for one in found if not isinstance(one, BaseException)]
    assert set(values) == {"value"}
    assert len(values) >= 3


def test_nothing_is_left_when_all_have_landed(threads: Threads) -> None:
    for n in range(100):
        place = endpoint(BlockingRuntime())
        drive(threads.flights.join(f"key-{n}", place, PATIENCE, lambda: value(1)))
    assert not threads.flights._flights
