"""The route table: fresh, last known good, or unavailable; never a guess."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from cm_platform.errors import UnavailableError
from cm_platform.routing import (
    KINDS,
    Home,
    Route,
    RouteEvent,
    RouteTable,
    Stage,
    Whereabouts,
    known_routes,
)

STORAGE = KINDS["storage"]
S3, R2 = Route.parse("s3"), Route.parse("r2")
TTL = 30.0


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        raise AssertionError("a route table does not sleep")

    async def sleep_async(self, seconds: float) -> None:
        raise AssertionError("a route table does not sleep")


class Flags:
    """A flag service with one value for all, that can be down. Counts what it is asked."""

    def __init__(self, value: str = "s3") -> None:
        self.value: object = value
        self.down: Exception | None = None
        self.asked = 0

    def __call__(self, tenant_id: str) -> str:
        self.asked += 1
        if self.down is not None:
            raise self.down
        return self.value  # type: ignore[return-value]


class Evidence:
    """A ledger with one answer for all."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.down: Exception | None = None

    def authority(self, kind: str, tenant_id: str) -> str | None:
        if self.down is not None:
            raise self.down
        return self.answer


class World:
    def __init__(
        self,
        *,
        ledger: Whereabouts | None = None,
        home: Home | None = None,
        end: Callable[[Route], Route] | None = None,
        capacity: int = 100,
    ) -> None:
        self.time = Time()
        self.flags = Flags()
        self.events: list[RouteEvent] = []
        self.table = RouteTable(
            STORAGE,
            self.flags,
            known=known_routes({"s3", "r2"}, {"to-r2"}),
            ttl=TTL,
            clock=self.time,
            on_event=self.events.append,
            ledger=ledger,
            home=home,
            end=end,
            capacity=capacity,
        )


@pytest.fixture
def world() -> World:
    return World()


def test_a_hit_does_not_ask(world: World) -> None:
    assert world.table.cached("acme") is None
    assert [world.table.lookup("acme") for _ in range(3)] == [S3, S3, S3]
    assert world.table.cached("acme") == S3
    assert world.flags.asked == 1
    assert world.events == []


def test_an_expired_route_is_asked_for_again(world: World) -> None:
    world.table.lookup("acme")
    world.flags.value = "r2"
    world.time.now = TTL - 0.001
    assert world.table.lookup("acme") == S3
    world.time.now = TTL
    assert world.table.cached("acme") is None
    assert world.table.lookup("acme") == R2


def test_invalidate_asks_again_for_everybody(world: World) -> None:
    for tenant_id in ("acme", "other"):
        world.table.lookup(tenant_id)
    before = world.table.generation
    world.flags.value = "r2"
    world.table.invalidate()
    assert world.table.generation != before
    assert world.table.lookup("acme") == world.table.lookup("other") == R2


def test_invalidate_asks_again_for_one_tenant_only(world: World) -> None:
    for tenant_id in ("acme", "other"):
        world.table.lookup(tenant_id)
    world.flags.value = "r2"
    world.table.invalidate("acme")
    assert world.table.lookup("acme") == R2
    assert world.table.lookup("other") == S3


def _expire(world: World) -> None:
    world.time.now += TTL


def _invalidate(world: World) -> None:
    world.table.invalidate()


def _invalidate_one(world: World) -> None:
    world.table.invalidate("acme")


@pytest.mark.parametrize("staleness", [_expire, _invalidate, _invalidate_one])
@pytest.mark.parametrize(
    ("value", "reason", "requested"),
    [
        (RuntimeError("https://flags/?key=hush"), "evaluation_failed", None),
        (UnavailableError("down"), "evaluation_failed", None),
        ("", "invalid_route", None),
        ("no route!", "invalid_route", None),
        (17, "invalid_route", None),
        ("s4", "invalid_route", "s4"),
        ("to-r3:live", "invalid_route", "to-r3:live"),
        ("to-r2", "invalid_route", "to-r2"),
        ("to-r2:nearly", "invalid_route", None),
    ],
)
def test_a_flag_that_fails_or_talks_nonsense_keeps_the_last_known_good_route(
    world: World,
    value: object,
    reason: str,
    requested: str | None,
    staleness: Callable[[World], None],
) -> None:
    world.table.lookup("acme")
    world.flags.value = value
    world.flags.down = value if isinstance(value, Exception) else None
    staleness(world)
    assert world.table.lookup("acme") == S3
    (event,) = world.events
    assert (event.kind, event.tenant_id) == ("storage", "acme")
    assert (event.reason, event.requested, event.kept) == (reason, requested, "s3")
    assert "hush" not in event.detail


@pytest.mark.parametrize("value", [RuntimeError("hush"), "nonsense!", "s4"])
def test_without_a_last_known_good_route_it_is_unavailable_and_never_a_guess(
    world: World, value: object
) -> None:
    world.flags.value = value
    world.flags.down = value if isinstance(value, Exception) else None
    with pytest.raises(UnavailableError) as caught:
        world.table.lookup("acme")
    assert caught.value.retryable
    assert caught.value.not_sent
    assert "hush" not in str(caught.value)
    assert "acme" not in str(caught.value)
    assert world.events[0].kept is None
    world.flags.value, world.flags.down = "r2", None
    assert world.table.lookup("acme") == R2


def test_a_service_that_is_down_is_not_asked_by_every_operation(world: World) -> None:
    world.table.lookup("acme")
    world.flags.down = RuntimeError()
    world.table.invalidate()
    asked = world.flags.asked
    for _ in range(10):
        assert world.table.lookup("acme") == S3
    assert world.flags.asked == asked + 1
    world.time.now += 5.0
    world.flags.value, world.flags.down = "r2", None
    assert world.table.lookup("acme") == R2


def test_a_failure_is_logged_once_without_a_tenants_name(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for tenant_id in ("acme", "other"):
        world.table.lookup(tenant_id)

    def fail() -> None:
        world.flags.down = RuntimeError("hush")
        for _ in range(3):
            world.table.invalidate()
            world.table.lookup("acme")
            world.table.lookup("other")

    with caplog.at_level(logging.WARNING, "cm_platform.routing"):
        fail()
        assert len(caplog.records) == 1
        assert len(world.events) == 6
        world.flags.down = None
        world.table.invalidate()
        world.table.lookup("acme")
        fail()
    assert len(caplog.records) == 2
    assert "acme" not in caplog.text
    assert "hush" not in caplog.text


def test_a_failure_is_not_said_again_because_one_of_many_tenants_got_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    tenants = [f"t{number}" for number in range(5)]
    with caplog.at_level(logging.WARNING, "cm_platform.routing"):
        for tenant_id in tenants:
            world.table.lookup(tenant_id)
        world.flags.value = "nowhere"
        for _ in range(3):
            world.table.invalidate()
            for tenant_id in tenants:
                world.table.lookup(tenant_id)
        assert len(caplog.records) == 1
        # The rule of one tenant is mended: for the others nothing has changed.
        world.flags.value = "s3"
        world.table.invalidate("t0")
        world.table.lookup("t0")
        world.flags.value = "nowhere"
        world.time.now += TTL
        for tenant_id in tenants[1:]:
            world.table.lookup(tenant_id)
        assert len(caplog.records) == 1
        # It fails again there: that is news.
        world.table.lookup("t0")
    assert len(caplog.records) == 2


def test_a_request_ahead_of_the_ledger_is_no_warning_and_said_once_per_tenant_and_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Evidence("to-r2:off")
    world = World(ledger=ledger, home=_under_lease, end=_end)
    world.flags.value = "to-r2:live"
    with caplog.at_level(logging.DEBUG, "cm_platform.routing"):
        for _ in range(3):
            for tenant_id in ("acme", "other"):
                world.table.lookup(tenant_id)
            world.time.now += TTL
        levels = [record.levelno for record in caplog.records]
        assert levels == [logging.INFO, logging.DEBUG]
        caplog.clear()
        # They go their way, one after the other; and what was said of one is not said again.
        for proven in ("to-r2:dualwrite", "to-r2:live"):
            ledger.answer = proven
            for tenant_id in ("acme", "other"):
                world.table.lookup(tenant_id)
                world.time.now += TTL
        assert [record.levelno for record in caplog.records] == [logging.INFO, logging.DEBUG]
        caplog.clear()
        ledger.answer = "to-r2:off"
        world.table.lookup("acme")
        assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert "acme" not in caplog.text


def test_what_was_said_is_remembered_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.WARNING, "cm_platform.routing"):
        for number in range(1000):
            world.flags.value = f"nowhere-{number}"
            world.time.now += TTL
            with suppress(UnavailableError):
                world.table.lookup("acme")
    assert len(caplog.records) == 1000
    assert len(world.table._logged) == 256


def test_an_observer_that_fails_does_not_fail_the_operation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def observer(event: RouteEvent) -> None:
        raise ZeroDivisionError

    flags = Flags()
    table = RouteTable(
        STORAGE, flags, known=known_routes({"s3"}, {}), ttl=TTL, clock=Time(), on_event=observer
    )
    table.lookup("acme")
    flags.value = "nonsense!"
    table.invalidate()
    assert table.lookup("acme") == S3
    assert "ZeroDivisionError" in caplog.text


def test_memory_is_bounded_and_the_tenants_in_use_stay() -> None:
    world = World(capacity=3)
    for tenant_id in ("a", "b", "c"):
        world.table.lookup(tenant_id)
    _expire(world)
    world.table.lookup("a")
    for tenant_id in ("d", "e"):
        world.table.lookup(tenant_id)
    assert len(world.table) == 3
    assert world.table.cached("a") == S3
    assert world.table.cached("b") is None


def test_an_evicted_tenant_is_asked_for_anew_and_not_guessed() -> None:
    world = World(capacity=1)
    world.table.lookup("a")
    world.table.lookup("b")
    world.flags.value = "r2"
    assert world.table.lookup("a") == R2
    world.table.lookup("b")
    world.flags.down = RuntimeError()
    with pytest.raises(UnavailableError):
        world.table.lookup("a")


@pytest.mark.parametrize("invalidated", ["acme", None])
@pytest.mark.parametrize("seen_before", [True, False])
def test_an_evaluation_that_was_under_way_when_the_flags_changed_is_not_kept_as_fresh(
    world: World, invalidated: str | None, seen_before: bool
) -> None:
    if seen_before:
        world.table.lookup("acme")
        _expire(world)

    def change_meanwhile(tenant_id: str) -> str:
        world.table.invalidate(invalidated)
        return "s3"

    table = world.table
    asking = table._judge
    table._judge = type(asking)(asking.kind, change_meanwhile, asking.known)
    assert table.refresh("acme") == S3
    assert table.cached("acme") is None
    table._judge = asking
    world.flags.value = "r2"
    assert table.lookup("acme") == R2


def test_a_slow_old_answer_does_not_replace_a_newer_one(world: World) -> None:
    under_way, go_on = threading.Event(), threading.Event()
    table, asking = world.table, world.table._judge

    def slow(tenant_id: str) -> str:
        under_way.set()
        assert go_on.wait(10)
        return "s3"

    found: list[Route] = []
    table._judge = type(asking)(asking.kind, slow, asking.known)
    thread = threading.Thread(target=lambda: found.append(table.refresh("acme")))
    thread.start()
    assert under_way.wait(10)
    table._judge = asking
    world.flags.value = "r2"
    assert table.refresh("acme") == R2
    go_on.set()
    thread.join(10)
    assert found == [R2]
    assert table.cached("acme") == R2


def test_a_failure_does_not_outlive_the_answer_that_overtook_it(world: World) -> None:
    world.table.lookup("acme")
    table, asking = world.table, world.table._judge

    def overtaken(tenant_id: str) -> str:
        table._judge = asking
        world.flags.value = "r2"
        table.invalidate()
        assert table.refresh("acme") == R2
        raise RuntimeError

    table._judge = type(asking)(asking.kind, overtaken, asking.known)
    assert table.refresh("acme") == R2
    assert table.cached("acme") == R2


def test_a_failure_during_which_the_flags_changed_does_not_delay_the_next_question(
    world: World,
) -> None:
    world.table.lookup("acme")
    table, asking = world.table, world.table._judge

    def change_and_fail(tenant_id: str) -> str:
        table.invalidate("acme")
        raise RuntimeError

    table._judge = type(asking)(asking.kind, change_and_fail, asking.known)
    assert table.refresh("acme") == S3
    table._judge = asking
    assert table.cached("acme") is None


def test_the_ledger_decides_and_a_flag_only_requests() -> None:
    ledger = Evidence("to-r2:shadow")
    world = World(ledger=ledger)
    world.flags.value = "to-r2:complete"
    assert world.table.lookup("acme") == Route.parse("to-r2:shadow")
    (event,) = world.events
    assert (event.reason, event.requested, event.kept) == (
        "not_proven",
        "to-r2:complete",
        "to-r2:shadow",
    )


def test_a_request_that_the_ledger_supports_is_no_event() -> None:
    world = World(ledger=Evidence("s3"))
    assert world.table.lookup("acme") == S3
    assert world.events == []


def test_the_ledger_holds_when_the_flag_service_is_down() -> None:
    world = World(ledger=Evidence("r2"))
    world.flags.down = RuntimeError()
    assert world.table.lookup("acme") == R2
    assert world.events[0].reason == "evaluation_failed"
    assert world.events[0].kept == "r2"


@pytest.mark.parametrize("answer", [None, "nonsense!", "s4", RuntimeError("hush")])
def test_a_ledger_that_cannot_tell_keeps_the_last_known_good_or_is_unavailable(
    answer: object,
) -> None:
    ledger = Evidence("r2")
    world = World(ledger=ledger)
    assert world.table.lookup("acme") == R2
    ledger.answer = answer if isinstance(answer, str) else None
    ledger.down = answer if isinstance(answer, Exception) else None
    world.flags.value = "s3"
    world.table.invalidate()
    assert world.table.lookup("acme") == R2
    assert world.events[-1].reason == "no_evidence"
    assert world.events[-1].requested == "s3"
    with pytest.raises(UnavailableError):
        world.table.lookup("new")


# A home, for whom the ledger knows nothing ------------------------------------------------------


def _end(route: Route) -> Route:
    ends = {Stage.OFF: S3, Stage.COMPLETE: R2}
    return ends.get(route.stage, route) if route.stage is not None else route


def _under_lease(tenant_id: str, requested: Route | None) -> Route:
    return Route.parse("to-r2:off")


def test_who_was_never_migrated_is_at_home() -> None:
    asked: list[tuple[str, Route | None]] = []

    def home(tenant_id: str, requested: Route | None) -> Route:
        asked.append((tenant_id, requested))
        return R2

    world = World(ledger=Evidence(None), home=home)
    assert world.table.lookup("acme") == R2
    assert asked == [("acme", S3)]
    assert [event.reason for event in world.events] == ["not_proven"]


def test_who_is_at_home_needs_no_flag_service() -> None:
    seen: list[Route | None] = []

    def home(tenant_id: str, requested: Route | None) -> Route:
        seen.append(requested)
        return S3

    world = World(ledger=Evidence(None), home=home)
    world.flags.down = RuntimeError("hush")
    assert world.table.lookup("acme") == S3
    assert seen == [None]
    assert [event.reason for event in world.events] == ["evaluation_failed"]


def test_a_ledger_that_is_down_says_nothing_of_home() -> None:
    ledger = Evidence(None)
    ledger.down = RuntimeError("hush")
    world = World(ledger=ledger, home=_under_lease)
    with pytest.raises(UnavailableError) as caught:
        world.table.lookup("acme")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("answer", ["nonsense!", "s4", "to-r3:live"])
def test_an_answer_that_means_nothing_here_is_not_taken_for_home(answer: str) -> None:
    with pytest.raises(UnavailableError):
        World(ledger=Evidence(answer), home=_under_lease).table.lookup("acme")


@pytest.mark.parametrize("requested", ["s3", "to-r2:off"])
def test_asking_for_where_the_data_is_in_whatever_words_is_no_event(requested: str) -> None:
    world = World(ledger=Evidence(None), home=_under_lease, end=_end)
    world.flags.value = requested
    assert world.table.lookup("acme") == Route.parse("to-r2:off")
    assert world.events == []


@pytest.mark.parametrize("requested", ["r2", "to-r2:complete"])
def test_asking_for_the_end_at_the_end_is_no_event(requested: str) -> None:
    world = World(ledger=Evidence("r2"), home=_under_lease, end=_end)
    world.flags.value = requested
    assert world.table.lookup("acme") == R2
    assert world.events == []


@pytest.mark.parametrize(
    ("proven", "requested"),
    [
        ("to-r2:off", "to-r2:dualwrite"),
        ("to-r2:off", "r2"),
        ("to-r2:live", "to-r2:shadow"),
        ("to-r2:live", "r2"),
        ("to-r2:live", "s3"),
        ("r2", "s3"),
        ("r2", "to-r2:rampdown"),
    ],
)
def test_asking_for_another_stage_than_is_proven_is_told_of(proven: str, requested: str) -> None:
    world = World(ledger=Evidence(proven), home=_under_lease, end=_end)
    world.flags.value = requested
    assert str(world.table.lookup("acme")) == proven
    (event,) = world.events
    assert (event.reason, event.requested, event.kept) == ("not_proven", requested, proven)


def test_a_stage_that_is_proven_anew_is_followed_when_the_route_is_old() -> None:
    ledger = Evidence("to-r2:shadow")
    world = World(ledger=ledger, end=_end)
    world.table.lookup("acme")
    ledger.answer = "to-r2:live"
    assert str(world.table.lookup("acme")) == "to-r2:shadow"
    world.time.now += TTL
    assert str(world.table.lookup("acme")) == "to-r2:live"
    ledger.answer, ledger.down = None, RuntimeError()
    world.time.now += TTL
    assert str(world.table.lookup("acme")) == "to-r2:live"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_can_use_the_table_although_its_lock_was_held(world: World) -> None:
    world.table.lookup("acme")
    with world.table._guard:
        child = os.fork()
        if child == 0:
            try:
                # A child that waits for the lock for ever must not outlive the test.
                signal.alarm(10)
                world.table.after_fork()
                world.flags.value = "r2"
                os._exit(0 if world.table.lookup("acme") == R2 else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
