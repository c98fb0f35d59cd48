"""What a process holds for tenants under a migration: bounded, shared, and idle when they are."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cm_platform import AsyncPlatform, Platform, Tenant, opening
from cm_platform.errors import UnavailableError
from cm_platform.migration.guarding import Guarded
from cm_platform.migration.ledger import State, Subject
from cm_platform.migration.ledgers.sqlite import SqliteLedger
from cm_platform.resilience import CircuitBreaker
from cm_platform.routing import Stage
from cm_platform.session import MovingTable
from cm_platform.storage.local.store import LocalStorage

from .doubles import World, refused
from .test_whereabouts import House

TENANTS = [Tenant(f"t{number}") for number in range(5)]
KEPT = 3


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    init = opening.Opener.__init__

    def small(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs, moving_kept=KEPT)

    monkeypatch.setattr(opening.Opener, "__init__", small)
    found = House(tmp_path)
    yield found
    for platform in found.open:
        platform.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tenants that the ledger was asked about."""
    state, found = SqliteLedger.state, list[str]()

    async def counted(self: SqliteLedger, subject: Subject) -> State | None:
        found.append(subject.tenant_id)
        return await state(self, subject)

    monkeypatch.setattr(SqliteLedger, "state", counted)
    return found


def moving(platform: Platform) -> MovingTable:
    return platform._core.opener.session().moving


# The table ------------------------------------------------------------------------------------


def test_no_more_tenants_are_held_than_was_said_and_all_are_served(house: House) -> None:
    platform = house.platform()
    services = [platform.get_service("storage", tenant) for tenant in TENANTS]
    for turn in range(3):
        for number, storage in enumerate(services):
            storage.put("key", f"{turn}{number}".encode())
            assert len(moving(platform)) <= KEPT
        for number, storage in enumerate(services):
            assert storage.get("key").read() == f"{turn}{number}".encode()
    assert len(moving(platform)) == KEPT


def test_who_was_served_last_stays(house: House, asked: list[str]) -> None:
    platform = house.platform()
    services = {tenant.id: platform.get_service("storage", tenant) for tenant in TENANTS}
    for name in ("t0", "t1", "t2"):
        services[name].put("key", b"")
    house.refresh()
    for name in ("t0", "t3"):
        services[name].put("key", b"")
    asked.clear()
    for name in ("t0", "t3"):
        services[name].put("key", b"")
    assert asked == []
    services["t1"].put("key", b"")
    # It came back, and took a new lease; its route was not known any more, either.
    assert set(asked) == {"t1"}


def test_who_had_to_go_leaves_nothing_behind(house: House) -> None:
    platform = house.platform()
    services = [platform.get_service("storage", tenant) for tenant in TENANTS]
    services[0].put("key", b"")
    session = platform._core.opener.session()
    found = session.moving.get(("storage", "move", "t0"))
    assert found is not None
    endpoint, backend = weakref.ref(found.endpoint), weakref.ref(found.moving.backend)
    del found
    for storage in services[1:]:
        storage.put("key", b"")
    platform._core.opener.session().runtime._background.close(5)  # type: ignore[attr-defined]
    gc.collect()
    # The tenant's handle is still held, and so is the platform.
    assert (endpoint(), backend()) == (None, None)
    services[0].put("key", b"1")
    assert services[0].get("key").read() == b"1"


def test_a_call_under_way_ends_where_it_began(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is taken from the table while it waits for the store."""

    put, held, began, go_on = LocalStorage.put, list[bool](), asyncio.Event(), asyncio.Event()

    async def waiting(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        if held and key.startswith("t0/"):
            began.set()
            await go_on.wait()
        return await put(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStorage, "put", waiting)

    async def run() -> None:
        async with AsyncPlatform.from_config(house.table()) as platform:
            first = platform.get_service("storage", TENANTS[0])
            await first.put("key", b"0")
            held.append(True)
            writing = asyncio.ensure_future(first.put("key", b"1"))
            await began.wait()
            reply = await first.get("key")
            for tenant in TENANTS[1:]:
                await platform.get_service("storage", tenant).put("key", b"")
            session = platform._core.opener.session()
            assert session.moving.get(("storage", "move", "t0")) is None
            go_on.set()
            assert (await writing).size == 1
            assert await reply.read() == b"0"
            assert await (await first.get("key")).read() == b"1"
            assert len(session.moving) == KEPT

    asyncio.run(run())


def test_what_was_counted_is_written_down_before_it_goes(house: House) -> None:
    table = house.table()
    del table["storage"]
    table["cache"] = {
        "default": "a",
        "timeout": 2,
        "backends": {name: {"driver": "local"} for name in "ab"},
        "migrations": {"move": {"source": "a", "target": "b", "lease": 1}},
    }
    with Platform.from_config(table) as platform:
        platform.get_service("cache", TENANTS[0]).increment("n", ttl=60)
        for tenant in TENANTS[1:]:
            platform.get_service("cache", tenant).set("key", b"", ttl=60)
        assert len(moving(platform)) == KEPT
        session = platform._core.opener.session()
        session.runtime._background.close(5)  # type: ignore[attr-defined]
        plan = platform.migration("cache", TENANTS[0]).plan()
        assert "increments" in str(plan.body)


def test_a_platform_that_closes_lets_all_go(house: House) -> None:
    platform = house.platform()
    storage = platform.get_service("storage", TENANTS[0])
    storage.put("key", b"")
    table = moving(platform)
    platform.close()
    assert len(table) == 0
    with pytest.raises(UnavailableError):
        storage.get("key")


# Leases ---------------------------------------------------------------------------------------


def test_the_ledger_is_asked_only_of_tenants_with_traffic(house: House, asked: list[str]) -> None:
    platform = house.platform()
    services = [platform.get_service("storage", tenant) for tenant in TENANTS[:3]]
    for storage in services:
        storage.put("key", b"")
    asked.clear()
    for _ in range(10):
        # Of a lease of one second; routes are good for thirty.
        house.clock.advance(0.96)
        for _ in range(100):
            services[0].get("key")
            services[0].put("key", b"")
    assert set(asked) == {"t0"}
    # And once or so for the route: the flags announce themselves a moment after the start.
    assert 10 <= len(asked) <= 12


# Breakers -------------------------------------------------------------------------------------


class Outage:
    """Stores that do not answer, by the name of their directory; counts what they are asked."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.asked: dict[str, int] = {}


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    found = Outage()

    def failing(method: str) -> Callable[..., Any]:
        real = getattr(LocalStorage, method)

        async def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
            name = self._root.name
            found.asked[name] = found.asked.get(name, 0) + 1
            if name in found.down:
                raise UnavailableError("the connection was refused", retryable=False, not_sent=True)
            return await real(self, *args, **kwargs)

        return asked

    for method in ("get", "head", "put"):
        monkeypatch.setattr(LocalStorage, method, failing(method))
    return found


def _failing(act: Callable[[], object]) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        act()
    return caught.value


def test_a_sick_store_is_left_alone_for_all_tenants_at_once(house: House, outage: Outage) -> None:
    platform = house.platform(breaker={"failures": 3, "open_for": 10})
    services = [platform.get_service("storage", tenant) for tenant in TENANTS]
    for storage in services:
        storage.put("key", b"")
    outage.down.add("a")
    outage.asked.clear()
    for storage in services:
        _failing(lambda storage=storage: storage.get("key"))  # type: ignore[misc]
    # Three found it out for the other two, who are told which of the two stores it is.
    assert outage.asked == {"a": 3}
    refused = _failing(lambda: services[0].put("key", b""))
    assert (refused.backend, refused.not_sent, refused.retryable) == ("a", True, True)
    house.clock.advance(10)
    for storage in services:
        _failing(lambda storage=storage: storage.get("key"))  # type: ignore[misc]
    # One probe in ten seconds, not one for each tenant.
    assert outage.asked == {"a": 4}
    outage.down.clear()
    house.clock.advance(10)
    for storage in services:
        assert storage.get("key").read() == b""


def test_who_does_not_move_shares_the_breaker(house: House, outage: Outage) -> None:
    rules = [{"tenants": ["t1"], "route": "b"}]
    platform = house.platform(rules=rules, breaker={"failures": 3, "open_for": 10})
    moved, unmoved = (platform.get_service("storage", tenant) for tenant in TENANTS[:2])
    moved.put("key", b"")
    unmoved.put("key", b"")
    assert house.route(platform, TENANTS[0]) == "move:off"
    assert house.route(platform, TENANTS[1]) == "b"
    outage.down.add("b")
    outage.asked.clear()
    for _ in range(5):
        _failing(lambda: unmoved.get("key"))
    assert outage.asked == {"b": 3}
    session = platform._core.opener.session()
    found = session.moving.get(("storage", "move", "t0"))
    assert found is not None
    # The other store is well, and so is whoever is there.
    moved.get("key")
    target = session.endpoints["storage", "b", None]
    assert target.breaker.open_until
    assert not found.endpoint.breaker.open_until


def test_a_sick_target_cuts_nobody_off_from_a_source_that_is_well(world: World) -> None:
    target: Any = world.target
    breaker = CircuitBreaker(world.clock, failures=3, open_for=10)
    world.target = Guarded(target, breaker, world.clock, name="new", patience=30.0)  # type: ignore[assignment]
    one = world.process().to(Stage.DUALWRITE)
    for method in ("put", "head", "delete"):
        target.before(method, refused, always=True)
    target.calls.clear()
    for number in range(10):
        one.put("key", f"{number}".encode())
        assert one.get("key") == f"{number}".encode()
    # Three without an answer, and not two for each write.
    assert len(target.calls) == 3
    assert world.pending().count == 10
    target.calm()
    world.clock.advance(10)
    one.put("key", b"again")
    assert target.find("key") == b"again"


def test_a_ledger_that_does_not_answer_is_not_asked_for_each_tenant(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, asked, down = SqliteLedger.state, list[str](), list[bool]()

    async def refusing(self: SqliteLedger, subject: Subject) -> State | None:
        asked.append(subject.tenant_id)
        if down:
            raise UnavailableError("the connection was refused", retryable=False, not_sent=True)
        return await state(self, subject)

    monkeypatch.setattr(SqliteLedger, "state", refusing)
    retry = {"attempts": 1}
    platform = house.platform(breaker={"failures": 3, "open_for": 10}, retry=retry, route_ttl=3600)
    services = [platform.get_service("storage", tenant) for tenant in TENANTS[:KEPT]]
    for storage in services:
        storage.put("key", b"")
    house.clock.advance(1)
    down.append(True)
    asked.clear()
    for _ in range(10):
        for storage in services:
            _failing(lambda storage=storage: storage.get("key"))  # type: ignore[misc]
    # Three for the leases; of the rest, one for each route at most.
    assert len(asked) <= 6
    down.clear()
    # It rests for a second only: without it nothing is written.
    house.clock.advance(1)
    for storage in services:
        storage.get("key")
