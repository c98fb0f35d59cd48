"""Each fault does what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from cm_platform.errors import PlatformError, UnavailableError
from cm_platform.storage.backend import StorageBackend, Written
from cm_platform.testing.simulation import (
    Fault,
    FaultRates,
    RandomFaults,
    Request,
    Simulation,
    follow,
)

from .worlds import LIFETIME, PLAIN, Work, World

SEEDS = range(30)


@pytest.fixture(params=SEEDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    with made.simulation:
        yield made


def put(body: bytes = b"new", **conditions: Any) -> Work[Written]:
    async def work(storage: StorageBackend) -> Written:
        return await storage.put("key", body, PLAIN, **conditions)

    return work


def delete(**conditions: Any) -> Work[None]:
    async def work(storage: StorageBackend) -> None:
        await storage.delete("key", **conditions)

    return work


async def read(storage: StorageBackend) -> bytes:
    return await (await storage.get("key")).read()


async def read_in_pieces(storage: StorageBackend) -> bytes:
    reply = await storage.get("key")
    return b"".join([piece async for piece in reply.chunks()])


def failure(found: object, code: str, *, not_sent: bool = False) -> PlatformError:
    assert isinstance(found, PlatformError), found
    assert (found.code, found.not_sent) == (code, not_sent)
    return found


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.REFUSED, "unavailable"),
        (Fault.RATE_LIMITED, "rate_limited"),
        (Fault.UNAVAILABLE, "unavailable"),
    ],
)
def test_what_says_not_sent_was_not_applied(world: World, fault: Fault, code: str) -> None:
    world.run(put(b"old"))
    for work in (put(), delete(), read):
        found: Any = world.run(work, at_0=fault)
        assert failure(found, code, not_sent=True).retryable
    world.simulation.run()
    assert world.bodies == {"key": b"old"}


def test_a_conflict_befalls_conditional_writes_only(world: World) -> None:
    assert isinstance(world.run(put(b"old"), at_0=Fault.CONFLICT), Written)
    found = world.run(put(if_none_match=True), at_0=Fault.CONFLICT)
    assert failure(found, "unavailable", not_sent=True).retryable
    etag = world.store.head("key").etag
    failure(world.run(delete(if_match=etag), at_0=Fault.CONFLICT), "unavailable", not_sent=True)
    assert world.bodies == {"key": b"old"}


def test_a_lost_request_never_arrives(world: World) -> None:
    failure(world.run(put(), at_0=Fault.LOST_REQUEST), "deadline_exceeded")
    world.simulation.run()
    assert (world.bodies, world.simulation.in_flight) == ({}, 0)


def test_a_lost_reply_hides_what_happened(world: World) -> None:
    found = world.run(put(), at_0=Fault.LOST_REPLY)
    assert isinstance(found, PlatformError)
    assert found.code in ("deadline_exceeded", "unavailable")
    assert found.retryable
    assert not found.not_sent
    assert world.bodies == {"key": b"new"}


def test_a_failure_may_have_happened_or_not() -> None:
    outcomes = set()
    for seed in SEEDS:
        world = World(seed)
        with world.simulation:
            found = world.run(put(), at_0=Fault.FAILED)
            assert isinstance(found, PlatformError)
            assert not found.not_sent
            world.simulation.run()
            outcomes.add((found.code, bool(world.bodies)))
    assert outcomes == {
        (code, applied) for code in ("internal", "unavailable") for applied in (True, False)
    }


def test_a_late_write_lands_within_the_life_of_a_request(world: World) -> None:
    failure(world.run(put(), at_0=Fault.LATE), "deadline_exceeded")
    assert (world.bodies, world.simulation.in_flight) == ({}, 1)
    began = world.simulation.now
    world.simulation.run()
    assert (world.bodies, world.simulation.in_flight) == ({"key": b"new"}, 0)
    assert world.simulation.now - began <= LIFETIME


def test_a_late_write_lands_when_its_process_is_dead(world: World) -> None:
    world.run(put(), at_0=Fault.LATE)
    world.process.kill()
    world.simulation.run()
    assert world.bodies == {"key": b"new"}


def test_the_conditions_of_a_late_write_are_checked_when_it_lands(world: World) -> None:
    failure(world.run(put(if_none_match=True), at_0=Fault.LATE), "deadline_exceeded")
    world.run(put(b"first"))
    world.simulation.run()
    assert world.bodies == {"key": b"first"}


def test_only_what_was_answered_by_a_timeout_is_late() -> None:
    # Who is told `unavailable` may send an unconditional write again, at once.
    for seed in range(300):
        world = World(seed)
        with world.simulation:
            faults = FaultRates.even(1.0)
            storage: Any = world.storage()
            storage._link._fault = RandomFaults(world.simulation.random, faults).next

            async def told(storage: StorageBackend = storage) -> object:
                try:
                    return await storage.put("key", b"x", PLAIN)
                except PlatformError as error:
                    return error.code

            task = world.process.spawn(told())
            world.simulation.run(until=task)
            if world.simulation.in_flight:
                assert task.value == "deadline_exceeded"


def test_a_read_is_never_late_nor_doubled(world: World) -> None:
    world.run(put(b"old"))
    for fault in (Fault.LATE, Fault.DUPLICATE, Fault.CONFLICT, Fault.PARTIAL):
        assert world.run(read, at_0=fault) == b"old"
    assert world.simulation.in_flight == 0


def test_a_duplicate_of_a_conditional_write_is_refused_though_it_is_stored(world: World) -> None:
    failure(world.run(put(if_none_match=True), at_0=Fault.DUPLICATE), "already_exists")
    assert world.bodies == {"key": b"new"}
    etag = world.store.head("key").etag
    found = world.run(put(b"newer", if_match=etag), at_0=Fault.DUPLICATE)
    failure(found, "precondition_failed")
    assert world.bodies == {"key": b"newer"}


def test_a_duplicate_of_a_conditional_deletion_does_not_come(world: World) -> None:
    world.run(put())
    etag = world.store.head("key").etag
    assert world.run(delete(if_match=etag), at_0=Fault.DUPLICATE) is None
    assert world.bodies == {}


@pytest.mark.parametrize("reading", [read, read_in_pieces])
def test_a_truncated_body_is_no_body(world: World, reading: Work[bytes]) -> None:
    world.run(put(b"0123456789"))
    failure(world.run(reading, at_0=Fault.TRUNCATED), "unavailable")
    assert world.run(reading) == b"0123456789"


def test_a_truncated_body_gives_what_came_before_its_end(world: World) -> None:
    world.run(put(b"0123456789"))

    async def partly(storage: StorageBackend) -> bytes:
        found = b""
        reply = await storage.get("key")
        with pytest.raises(UnavailableError):
            async for piece in reply.chunks():
                found += piece
        await reply.close()
        await reply.close()
        return found

    found = world.run(partly, at_0=Fault.TRUNCATED)
    assert isinstance(found, bytes)
    assert b"0123456789".startswith(found)
    assert len(found) < 10


def test_a_slow_request_arrives(world: World) -> None:
    assert isinstance(world.run(put(), at_0=Fault.SLOW), Written)
    assert world.bodies == {"key": b"new"}
    assert world.simulation.now > 0.1
    assert world.run(read, at_0=Fault.SLOW) == b"new"


def test_a_crash_ends_the_process_before_on_or_after_the_way() -> None:
    outcomes = set()
    for seed in SEEDS:
        world = World(seed)
        with world.simulation:
            task = world.spawn(put(), at_0=Fault.CRASH)
            world.simulation.run(until=task)
            assert not world.process.is_alive
            assert not task.is_done
            soon = bool(world.bodies)
            world.simulation.run()
            outcomes.add((soon, bool(world.bodies)))
    assert outcomes == {(False, False), (False, True), (True, True)}


def test_what_a_killed_process_has_on_the_wire_may_still_land() -> None:
    outcomes = set()
    for seed in range(100):
        world = World(seed)
        with world.simulation:
            task = world.spawn(put())
            world.simulation.at(0.0005, world.process.kill)
            world.simulation.run(until=task)
            soon = bool(world.bodies)
            world.simulation.run()
            assert world.simulation.in_flight == 0
            outcomes.add((soon, bool(world.bodies)))
    assert outcomes == {(False, False), (False, True), (True, True)}


def test_what_a_cancelled_caller_has_on_the_wire_may_still_land() -> None:
    outcomes = set()
    for seed in range(100):
        world = World(seed)
        with world.simulation:
            task = world.spawn(put(), at_0=Fault.SLOW)
            world.simulation.at(0.5, task.cancel)
            world.simulation.run(until=task)
            soon = bool(world.bodies)
            world.simulation.run()
            outcomes.add((task.error is not None, soon, bool(world.bodies)))
    assert (True, False, False) in outcomes
    assert (True, False, True) in outcomes
    assert (True, True, True) in outcomes


def test_a_batch_is_carried_out_bit_by_bit() -> None:
    halves: set[str] = set()
    for seed in SEEDS:
        world = World(seed)
        with world.simulation:
            for key in "ab":
                world.store.put(key, b"x", PLAIN)
            task = world.spawn(_delete_ab)
            bodies = world.store.objects
            world.simulation.at(0.003, partial(_note, halves, bodies))
            world.simulation.run(until=task)
            assert (task.value, world.bodies) == ({}, {})
    assert {"a", "b"} <= halves


def _note(seen: set[str], stored: Mapping[str, object]) -> None:
    seen.add("".join(stored))


async def _delete_ab(storage: StorageBackend) -> Any:
    return await storage.delete_many(["a", "b"])


def test_a_batch_that_fails_in_part_says_which_and_may_have_done_it() -> None:
    outcomes = set()
    for seed in range(60):
        world = World(seed)
        with world.simulation:
            world.store.put("a", b"x", PLAIN)
            world.store.put("b", b"x", PLAIN)
            found: Any = world.run(_delete_ab, at_0=Fault.PARTIAL)
            for key in "ab":
                outcomes.add((key in found, key in world.bodies))
                assert key not in found or found[key].code == "internal"
    assert outcomes == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.LOST_REPLY, Fault.FAILED, Fault.DUPLICATE])
def test_a_batch_suffers_what_others_suffer(world: World, fault: Fault) -> None:
    world.store.put("a", b"x", PLAIN)
    world.store.put("b", b"x", PLAIN)
    found = world.run(_delete_ab, at_0=fault)
    world.simulation.run()
    assert isinstance(found, PlatformError) is (fault is not Fault.DUPLICATE)
    if fault is not Fault.FAILED:
        assert world.bodies == {}


def test_short_pages_lose_nothing(world: World) -> None:
    keys = [f"{number}" for number in range(9)]
    for key in keys:
        world.store.put(key, b"", PLAIN)

    async def listed(storage: StorageBackend) -> tuple[list[str], int]:
        found: list[str] = []
        cursor, pages = None, 0
        while True:
            page = await storage.list("", delimiter=None, cursor=cursor, limit=4)
            found += [listed.key for listed in page.objects]
            pages += 1
            if (cursor := page.cursor) is None:
                return found, pages

    plan = {f"at_{number}": Fault.SHORT_PAGE for number in range(0, 20, 2)}
    answer: Any = world.run(listed, **plan)
    assert answer[0] == keys
    assert answer[1] > 3


def test_faults_come_as_often_as_they_should() -> None:
    with Simulation(1) as simulation:
        faults = RandomFaults(simulation.random, FaultRates(refused=0.1, late=0.2))
        write, plain = Request("put", writes=True), Request("get")
        drawn = [faults.next(write) for _ in range(5000)]
        assert drawn.count(Fault.REFUSED) == pytest.approx(500, rel=0.2)
        assert drawn.count(Fault.LATE) == pytest.approx(1000, rel=0.2)
        assert drawn.count(None) == pytest.approx(3500, rel=0.1)
        assert faults.seen[Fault.LATE] == drawn.count(Fault.LATE)
        assert Fault.LATE not in {faults.next(plain) for _ in range(1000)}
        faults.stop()
        assert {faults.next(write) for _ in range(1000)} == {None}


@pytest.mark.parametrize("rates", [{"refused": 0.6, "late": 0.5}, {"refused": -0.1}])
def test_rates_that_are_none_are_refused(rates: dict[str, float]) -> None:
    with Simulation(1) as simulation, pytest.raises(ValueError, match="at most 1"):
        RandomFaults(simulation.random, FaultRates(**rates))


def test_a_presigned_upload_is_one_that_nobody_knows_of() -> None:
    world = World(1)
    with world.simulation:

        async def signs(storage: StorageBackend) -> Any:
            return await storage.presign("key", "PUT", expires_in=60, attributes=PLAIN)

        url: Any = world.run(signs)
        follow(world.store, url, b"uploaded")
        assert world.bodies == {"key": b"uploaded"}
        world.simulation.run(until=world.process.spawn(world.simulation.sleep(61)))
        with pytest.raises(PlatformError, match="expired"):
            follow(world.store, url, b"too late")


def test_a_body_is_what_it_was_when_it_was_sent(world: World) -> None:
    buffer = bytearray(b"before")

    async def work(storage: StorageBackend) -> None:
        with pytest.raises(PlatformError):
            await storage.put("key", memoryview(buffer), PLAIN)
        buffer[:] = b"after!"

    world.run(work, at_0=Fault.LATE)
    world.simulation.run()
    assert world.bodies == {"key": b"before"}


def test_the_same_bytes_have_another_etag_elsewhere() -> None:
    one, other = World(1), World(1)
    other.store.salt = b"r2"
    etags: list[Callable[[bytes], str]] = [one.store.etag, other.store.etag]
    first, second = (etag(b"body") for etag in etags)
    assert first != second
    assert first == one.store.etag(b"body")
    one.simulation.close()
    other.simulation.close()
