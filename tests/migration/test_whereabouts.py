"""Who is served by what, when a ledger knows where the data is: flags ask, the data decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.errors import (
    ConfigInvalidError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.migration.ledger import State, Subject
from cm_platform.migration.ledgers.sqlite import SqliteLedger
from cm_platform.migration.sync import Migration
from cm_platform.routing import Route, RouteEvent, Stage

from .doubles import DrivenClock

ACME = Tenant("acme")
TTL = 30.0
MOVE: dict[str, Any] = {
    "source": "a",
    "target": "b",
    "lease": 1,
    "upload_ttl": 1,
    "soak": 0,
    "shadow_sample": 0,
}
BACK = {**MOVE, "source": "b", "target": "a"}
ON = {**MOVE, "source": "b", "target": "c"}
WAYS = {"move": MOVE, "on": ON}


class House:
    """A platform over three local stores, a ledger in a file and a driven clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = DrivenClock()
        self.events: list[RouteEvent] = []
        self.open: list[Platform] = []

    def table(
        self, migrations: Mapping[str, Any] | None = None, *, ledger: bool = True, **storage: Any
    ) -> dict[str, Any]:
        found: dict[str, Any] = {
            "storage": {
                "default": "a",
                "timeout": 2,
                "route_ttl": TTL,
                "backends": {
                    name: {"driver": "local", "path": str(self.root / name)} for name in "abc"
                },
                "migrations": {"move": MOVE} if migrations is None else dict(migrations),
                **storage,
            },
        }
        if ledger:
            path = str(self.root / "ledger.db")
            found["ledger"] = {"driver": "sqlite", "path": path, "fsync": False}
        return found

    def platform(self, migrations: Mapping[str, Any] | None = None, **more: Any) -> Platform:
        from cm_platform.config import load

        config = load(self.table(migrations, **more), environ={})
        self.open.append(Platform(config, clock=self.clock, on_route_event=self.events.append))
        return self.open[-1]

    def route(self, platform: Platform, tenant: Tenant = ACME) -> str:
        return str(platform._core.tables["storage"].lookup(tenant.id))

    def refresh(self) -> None:
        self.clock.advance(TTL)

    def keep(self, platform: Platform, route: str) -> None:
        """Let the platform know this route, as it does a while after it was right."""
        table = platform._core.tables["storage"]
        entry = table._entries["acme"]
        table._entries["acme"] = replace(
            entry,
            route=Route.parse(route),
            generation=table.generation,
            expires=self.clock.now + TTL,
        )
        assert str(table.cached("acme")) == route

    def where(self, key: str, tenant: str = "acme") -> str:
        """The stores that have this key."""
        return "".join(
            name for name in "abc" if list((self.root / name / "objects").rglob(f"*{key}*"))
        )


def walk(migration: Migration, to: Stage) -> None:
    """As it should be gone."""
    migration.start(no_other_writers=True, accept_losses=True)
    while (now := migration.state().stage) is not to:
        if now is Stage.DUALWRITE:
            migration.backfill()
        if now in (Stage.SHADOW, Stage.RAMPDOWN):
            migration.verify()
        migration.advance()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    for platform in found.open:
        platform.close()


# Never migrated -------------------------------------------------------------------------------


def test_a_tenant_at_home_is_served_under_the_migration_that_may_begin_there(house: House) -> None:
    platform = house.platform()
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    assert house.route(platform) == "move:off"
    assert house.where("key-1") == "a"
    assert house.events == []


def test_a_tenant_whose_home_no_migration_leaves_is_served_by_its_backend(house: House) -> None:
    platform = house.platform({"move": ON})
    platform.get_service("storage", ACME).put("key-1", b"1")
    assert house.route(platform) == "a"
    assert house.where("key-1") == "a"


def test_a_rule_that_names_tenants_says_where_their_home_is(house: House) -> None:
    platform = house.platform(rules=[{"tenants": ["acme"], "route": "b"}])
    assert house.route(platform) == "b"
    assert house.route(platform, Tenant("beta")) == "move:off"
    assert house.events == []


def test_without_a_ledger_a_migration_that_nobody_is_routed_to_changes_nothing(
    house: House,
) -> None:
    platform = house.platform(ledger=False)
    assert house.route(platform) == "a"
    with pytest.raises(ConfigInvalidError, match=r"add a \[ledger\] table"):
        platform.migration("storage", ACME)


def test_of_two_ways_from_home_the_one_that_is_asked_for_is_lent(house: House) -> None:
    ways = {"first": MOVE, "second": {**MOVE, "target": "c"}}
    rules = [{"tenants": ["acme"], "route": "second:off"}]
    platform = house.platform(ways, rules=rules)
    assert house.route(platform) == "second:off"
    assert house.route(platform, Tenant("beta")) == "first:off"
    assert house.events == []


# Flags ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["b", "move:shadow", "move:live", "move:complete"])
def test_a_rule_that_asks_for_what_is_not_proven_is_told_of_and_not_followed(
    house: House, route: str
) -> None:
    platform = house.platform(rules=[{"percent": 100, "route": route}])
    platform.get_service("storage", ACME).put("key-1", b"1")
    assert house.route(platform) == "move:off"
    assert house.where("key-1") == "a"
    assert {(e.reason, e.requested, e.kept) for e in house.events} == {
        ("not_proven", route, "move:off")
    }


def test_a_named_tenant_that_is_asked_into_a_stage_stays_at_home(house: House) -> None:
    platform = house.platform(rules=[{"tenants": ["acme"], "route": "move:live"}])
    platform.get_service("storage", ACME).put("key-1", b"1")
    assert house.where("key-1") == "a"
    assert {e.reason for e in house.events} == {"not_proven"}


def test_percentages_move_no_data_to_and_fro(house: House) -> None:
    platform = house.platform(rules=[{"percent": 50, "route": "b"}])
    for number in range(20):
        platform.get_service("storage", Tenant(f"t{number}")).put("key-1", b"")
    assert house.where("key-1") == "a"
    assert house.events
    platform.reload(house.table(rules=[{"percent": 99, "route": "b"}]))
    house.refresh()
    for number in range(20):
        assert platform.get_service("storage", Tenant(f"t{number}")).exists("key-1")


def test_a_percentage_for_off_is_no_event(house: House) -> None:
    platform = house.platform(rules=[{"percent": 100, "route": "move:off"}])
    assert house.route(platform) == "move:off"
    assert house.events == []


def test_the_stage_that_is_proven_is_followed_whatever_is_asked(house: House) -> None:
    platform = house.platform(rules=[{"percent": 100, "route": "move:dualwrite"}])
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    migration = platform.migration("storage", ACME)
    walk(migration, Stage.DUALWRITE)
    house.events.clear()
    house.refresh()
    storage.put("key-2", b"2")
    assert house.route(platform) == "move:dualwrite"
    assert house.events == []
    assert house.where("key-2") == "ab"


# The end --------------------------------------------------------------------------------------


def test_complete_leads_to_the_new_backend_alone(house: House) -> None:
    platform = house.platform()
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    walk(platform.migration("storage", ACME), Stage.COMPLETE)
    storage.put("key-2", b"2")
    house.refresh()
    assert house.route(platform) == "b"
    storage.put("key-3", b"3")
    assert [house.where(f"key-{n}") for n in (1, 2, 3)] == ["ab", "b", "b"]
    assert storage.get("key-1").read() == b"1"
    other = house.platform()
    assert other.get_service("storage", ACME).get("key-3").read() == b"3"


def test_complete_is_no_event_for_who_asks_for_the_target(house: House) -> None:
    platform = house.platform()
    walk(platform.migration("storage", ACME), Stage.COMPLETE)
    for route in ("b", "move:complete"):
        asked = house.platform(rules=[{"percent": 100, "route": route}])
        assert house.route(asked) == "b"
    assert house.events == []


def test_after_the_end_the_migration_may_leave_the_configuration(house: House) -> None:
    platform = house.platform()
    walk(platform.migration("storage", ACME), Stage.COMPLETE)
    platform.get_service("storage", ACME).put("key-1", b"1")
    assert house.route(house.platform({})) == "b"


def test_back_in_off_the_migration_may_leave_the_configuration(house: House) -> None:
    platform = house.platform()
    migration = platform.migration("storage", ACME)
    walk(migration, Stage.DUALWRITE)
    migration.rollback()
    platform.get_service("storage", ACME).put("key-1", b"1")
    without = house.platform({})
    assert without.get_service("storage", ACME).get("key-1").read() == b"1"
    assert house.route(without) == "a"


def test_in_between_a_process_that_does_not_know_the_migration_serves_nobody(house: House) -> None:
    walk(house.platform().migration("storage", ACME), Stage.DUALWRITE)
    without = house.platform({})
    with pytest.raises(UnavailableError):
        without.get_service("storage", ACME).put("key-1", b"1")
    assert house.where("key-1") == ""


# From where to where --------------------------------------------------------------------------


def test_a_migration_that_is_complete_is_not_started_again(house: House) -> None:
    platform = house.platform()
    storage = platform.get_service("storage", ACME)
    migration = platform.migration("storage", ACME)
    storage.put("key-1", b"1")
    walk(migration, Stage.COMPLETE)
    storage.put("key-1", b"22")
    with pytest.raises(PreconditionFailedError, match="b"):
        migration.start(no_other_writers=True, accept_losses=True)
    house.refresh()
    assert storage.get("key-1").read() == b"22"


def test_a_migration_starts_where_the_data_is_and_nowhere_else(house: House) -> None:
    platform = house.platform(
        {"move": MOVE, "on": ON}, rules=[{"tenants": ["elsewhere"], "route": "c"}]
    )
    for tenant, name in ((Tenant("elsewhere"), "move"), (ACME, "on")):
        storage = platform.get_service("storage", tenant)
        storage.put("key-1", b"1")
        with pytest.raises(PreconditionFailedError):
            platform.migration("storage", tenant, name).start(
                no_other_writers=True, accept_losses=True
            )
        house.refresh()
        assert storage.get("key-1").read() == b"1"


@pytest.mark.parametrize("way", ["back", "on"])
def test_who_moved_may_move_again(house: House, way: str) -> None:
    platform = house.platform({"move": MOVE, "back": BACK, "on": ON})
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    walk(platform.migration("storage", ACME, "move"), Stage.COMPLETE)
    storage.put("key-1", b"22")
    storage.put("key-2", b"2")
    house.refresh()
    assert storage.get("key-1").read() == b"22"
    walk(platform.migration("storage", ACME, way), Stage.COMPLETE)
    house.refresh()
    assert storage.get("key-1").read() == b"22"
    assert sorted(found.key for found in storage.list()) == ["key-1", "key-2"]
    assert house.route(platform) == {"back": "move:off", "on": "c"}[way]


def test_a_process_with_an_old_route_does_not_write_past_the_next_migration(house: House) -> None:
    platform, other = (house.platform({"move": MOVE, "on": ON}) for _ in range(2))
    walk(platform.migration("storage", ACME, "move"), Stage.COMPLETE)
    house.refresh()
    storage = other.get_service("storage", ACME)
    storage.put("key-1", b"1")
    walk(platform.migration("storage", ACME, "on"), Stage.DUALWRITE)
    house.clock.advance(MOVE["lease"])
    # Its route is fresh for a while, its lease is over.
    storage.put("key-2", b"2")
    assert house.where("key-2") == "bc"


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.DUALWRITE, Stage.LIVE])
def test_a_route_that_turns_out_to_be_outdated_is_found_out_again_at_once(
    house: House, stage: Stage
) -> None:
    platform, other = (house.platform(WAYS) for _ in range(2))
    storage = other.get_service("storage", ACME)
    storage.put("key-1", b"1")
    walk(platform.migration("storage", ACME, "move"), Stage.COMPLETE)
    on = platform.migration("storage", ACME, "on")
    walk(on, stage)
    house.clock.advance(MOVE["lease"])
    # Its route is of the first migration, and would be for a while.
    house.keep(other, "move:off")
    storage.put("key-2", b"2")
    assert house.where("key-2") == {Stage.OFF: "b"}.get(stage, "bc")
    assert house.route(other) == f"on:{stage}"
    assert storage.get("key-1").read() == b"1"
    assert [found.key for found in storage.list()] == ["key-1", "key-2"]


@pytest.mark.parametrize("act", ["head", "get", "delete", "list", "copy"])
def test_every_first_call_finds_the_route_out_again_or_leaves_it_to_the_next(
    house: House, act: str
) -> None:
    platform, other = (house.platform(WAYS) for _ in range(2))
    storage = other.get_service("storage", ACME)
    storage.put("key-1", b"1")
    walk(platform.migration("storage", ACME, "move"), Stage.COMPLETE)
    walk(platform.migration("storage", ACME, "on"), Stage.DUALWRITE)
    house.clock.advance(MOVE["lease"])
    house.keep(other, "move:off")
    acts: dict[str, Callable[[], object]] = {
        "head": lambda: storage.head("key-1"),
        "get": lambda: storage.get("key-1").read(),
        "delete": lambda: storage.delete("key-1"),
        "list": lambda: list(storage.list()),
        "copy": lambda: storage.copy("key-1", "key-2"),
    }
    if act == "list":
        # A listing may have begun elsewhere: it is never continued by another's cursor.
        with pytest.raises(UnavailableError):
            acts[act]()
    acts[act]()
    assert house.route(other) == "on:dualwrite"


def test_a_process_that_does_not_know_the_next_migration_says_so_and_asks_no_more_than_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, other = house.platform(WAYS), house.platform()
    storage = other.get_service("storage", ACME)
    storage.put("key-1", b"1")
    walk(platform.migration("storage", ACME, "move"), Stage.COMPLETE)
    walk(platform.migration("storage", ACME, "on"), Stage.DUALWRITE)
    house.clock.advance(MOVE["lease"])
    house.keep(other, "move:off")
    state, asked = SqliteLedger.state, list[Subject]()

    async def counted(self: SqliteLedger, subject: Subject) -> State | None:
        asked.append(subject)
        return await state(self, subject)

    monkeypatch.setattr(SqliteLedger, "state", counted)
    with pytest.raises(UnavailableError, match="its configuration is outdated"):
        storage.delete("key-1")
    assert len(asked) <= 2 * 4
    assert house.where("key-1") == "ab"


# The ledger is down ---------------------------------------------------------------------------


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Call it, and no ledger answers until it is called again."""
    state = SqliteLedger.state
    down: list[bool] = []

    async def asked(self: SqliteLedger, subject: Subject) -> State | None:
        if len(down) % 2:
            raise UnavailableError("the connection was refused", retryable=True, not_sent=True)
        return await state(self, subject)

    monkeypatch.setattr(SqliteLedger, "state", asked)
    yield lambda: down.append(True)


def test_a_ledger_that_cannot_tell_is_unavailable_and_never_a_guess(
    house: House, outage: Callable[[], None]
) -> None:
    platform = house.platform()
    outage()
    with pytest.raises(UnavailableError) as caught:
        platform.get_service("storage", ACME).put("key-1", b"1")
    assert caught.value.not_sent
    assert house.where("key-1") == ""
    assert {(e.reason, e.kept) for e in house.events} == {("no_evidence", None)}
    outage()
    platform.get_service("storage", ACME).put("key-1", b"1")
    assert house.where("key-1") == "a"


def test_with_a_last_known_good_route_nothing_is_written_without_the_ledger(
    house: House, outage: Callable[[], None]
) -> None:
    platform = house.platform()
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    outage()
    assert storage.get("key-1").read() == b"1"
    house.refresh()
    with pytest.raises(UnavailableError):
        storage.put("key-2", b"2")
    with pytest.raises(UnavailableError):
        storage.get("key-1")
    assert ("no_evidence", "move:off") in {(e.reason, e.kept) for e in house.events}
    assert house.where("key-2") == ""
    outage()
    house.refresh()
    storage.put("key-2", b"2")
    assert house.where("key-2") == "a"


def test_a_tenant_at_rest_needs_no_ledger_while_its_route_is_known(
    house: House, outage: Callable[[], None]
) -> None:
    platform = house.platform()
    walk(platform.migration("storage", ACME), Stage.COMPLETE)
    house.refresh()
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    outage()
    house.refresh()
    storage.put("key-1", b"22")
    assert storage.get("key-1").read() == b"22"


# Reloading ------------------------------------------------------------------------------------


def test_a_reload_that_changes_the_ledger_is_refused(house: House) -> None:
    platform = house.platform()
    other = house.table()
    other["ledger"]["path"] = str(house.root / "other.db")
    with pytest.raises(ConfigInvalidError, match="ledger"):
        platform.reload(other)
    with pytest.raises(ConfigInvalidError, match="ledger"):
        platform.reload(house.table(ledger=False))


@pytest.mark.parametrize("changed", [{"move": {**MOVE, "lease": 9}}, {"move": BACK}, {}])
def test_a_reload_that_changes_a_migration_is_refused(
    house: House, changed: Mapping[str, Any]
) -> None:
    platform = house.platform()
    with pytest.raises(ConfigInvalidError, match=r"storage\.migrations\.move"):
        platform.reload(house.table(changed))


def test_a_reload_that_brings_a_migration_puts_tenants_under_its_lease(house: House) -> None:
    platform = house.platform({})
    storage = platform.get_service("storage", ACME)
    storage.put("key-1", b"1")
    assert house.route(platform) == "a"
    platform.reload(house.table())
    storage.put("key-2", b"2")
    assert house.route(platform) == "move:off"


# Other kinds ----------------------------------------------------------------------------------


def test_a_ledger_is_not_in_the_way_of_a_kind_that_holds_no_data(house: House) -> None:
    table = house.table()
    table["cache"] = {
        "default": "one",
        "backends": {name: {"driver": "local"} for name in ("one", "two")},
        "rules": [{"percent": 100, "route": "two"}],
    }
    with Platform.from_config(table, on_route_event=house.events.append) as platform:
        platform.get_service("cache", ACME).set("k", b"1", ttl=60)
        assert str(platform._core.tables["cache"].lookup("acme")) == "two"
    assert house.events == []


# The face -------------------------------------------------------------------------------------


def test_a_migration_is_asked_for_by_names_that_exist(house: House) -> None:
    platform = house.platform({"move": MOVE, "on": ON})
    wrong: Any
    for wrong in (("storag", ACME, "move"), ("storage", "acme", "move"), (None, ACME, "move")):
        with pytest.raises(InvalidArgumentError):
            platform.migration(*wrong)
    with pytest.raises(InvalidArgumentError, match="say which migration; storage has: move, on"):
        platform.migration("storage", ACME)
    with pytest.raises(InvalidArgumentError, match="no migration of storage has this name"):
        platform.migration("storage", ACME, "mov")


def test_what_was_never_started_is_not_found(house: House) -> None:
    migration = house.platform().migration("storage", ACME)
    assert repr(migration) == "Migration('move', 'storage')"
    for act in (migration.state, migration.evidence, migration.advance, migration.rollback):
        with pytest.raises(NotFoundError, match="never started"):
            act()
    assert migration.log() == []


def test_the_async_face_moves_a_tenant_too(tmp_path: Path) -> None:
    house = House(tmp_path)
    migrations = {"move": {**MOVE, "lease": 0.05}}
    table = house.table(migrations, timeout=1)
    for backend in table["storage"]["backends"].values():
        backend["max_request_lifetime"] = 0.01

    async def run() -> None:
        async with AsyncPlatform.from_config(table) as platform:
            storage = platform.get_service("storage", ACME)
            await storage.put("key-1", b"1")
            migration = await platform.migration("storage", ACME)
            await migration.start(no_other_writers=True)
            await migration.advance()
            await migration.backfill()
            await migration.advance()
            await migration.verify()
            stop = asyncio.Event()

            async def write(number: int) -> int:
                count = 0
                while not stop.is_set():
                    count += 1
                    await storage.put(f"writer-{number}", str(count).encode())
                return count

            writers = [asyncio.ensure_future(write(number)) for number in range(4)]
            step = await migration.advance()
            await asyncio.sleep(0.05)
            await migration.rollback()
            stop.set()
            counts = await asyncio.gather(*writers)
            assert step.paused < 1
            assert all(counts)
            for number, count in enumerate(counts):
                assert await (await storage.get(f"writer-{number}")).read() == str(count).encode()
            found = await migration.verify()
            assert (found["clean"], found["objects"]) == (True, 5)

    asyncio.run(run())
