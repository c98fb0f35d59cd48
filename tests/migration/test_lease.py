"""A stage lease: an answer of the ledger is used for its time, and not a moment longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cm_platform.errors import InternalError, PlatformError, UnavailableError
from cm_platform.migration.lease import StageLease
from cm_platform.migration.ledger import Move, Subject, Terms
from cm_platform.migration.points import Point
from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .doubles import LEASE, SUBJECT, Process, World, do_at, late, lost, refused


@pytest.fixture
def one(world: World) -> Process:
    return world.process()


def _asked(world: World) -> int:
    return world.ledger.calls.count("state")


def test_an_answer_is_asked_for_once_in_its_time(world: World, one: Process) -> None:
    for _ in range(5):
        drive(one.stage.current())
    assert _asked(world) == 1
    world.clock.advance(LEASE * 0.94)
    drive(one.stage.current())
    assert _asked(world) == 1
    # Clocks do not run equally fast: a little of what was lent is not used.
    world.clock.advance(LEASE * 0.02)
    assert one.stage.held() is None
    drive(one.stage.current())
    assert _asked(world) == 2


def test_the_time_of_an_answer_begins_before_the_question(world: World, one: Process) -> None:
    world.ledger.before("state", lambda: world.clock.advance(LEASE))
    drive(one.stage.ask())
    assert one.stage.held() is None


def test_what_was_never_started_is_off_and_under_a_lease_too(world: World, one: Process) -> None:
    view = drive(one.stage.current())
    assert (view.stage, view.epoch, view.authority, view.other) == (
        Stage.OFF,
        0,
        "source",
        "target",
    )
    assert not view.is_mirrored
    world.clock.advance(LEASE)
    assert one.stage.held() is None


def test_an_answer_that_says_nothing_may_be_lent_is_good_for_no_second_question(
    world: World, one: Process
) -> None:
    one.to(Stage.SHADOW)
    drive(world.ledger.inner.announce(SUBJECT, world.state().epoch, 60))
    fresh = world.process().stage
    assert drive(fresh.current()).stage is Stage.SHADOW
    assert fresh.held() is None


def test_an_answer_from_before_the_announcement_is_used_to_its_end(
    world: World, one: Process
) -> None:
    one.to(Stage.SHADOW)
    view = drive(one.stage.ask())
    drive(world.ledger.inner.announce(SUBJECT, world.state().epoch, 60))
    drive(one.stage.ask())
    assert one.stage.held() == view


def test_an_older_answer_that_arrives_late_does_not_replace_a_newer_one(
    world: World, one: Process
) -> None:
    one.to(Stage.DUALWRITE)

    def overtake() -> None:
        one.advance(override="test")
        assert drive(one.stage.ask()).stage is Stage.SHADOW

    world.ledger.after("state", overtake)
    assert drive(one.stage.ask()).stage is Stage.DUALWRITE
    held = one.stage.held()
    assert held is not None
    assert held.stage is Stage.SHADOW


@pytest.mark.parametrize("failure", [lost, late, refused])
def test_a_ledger_that_does_not_answer_is_unavailable_and_nothing_was_sent(
    world: World, one: Process, failure: Callable[[], None]
) -> None:
    world.ledger.before("state", failure)
    with pytest.raises(UnavailableError) as caught:
        drive(one.stage.ask())
    assert caught.value.not_sent
    assert caught.value.retryable


def test_a_defect_of_the_ledger_is_not_called_an_outage(world: World, one: Process) -> None:
    def broken() -> None:
        raise InternalError("broken")

    world.ledger.before("state", broken)
    with pytest.raises(InternalError):
        drive(one.stage.ask())


# Writing and reading by it --------------------------------------------------------------------


@pytest.mark.parametrize("stage", list(Stage))
def test_when_the_lease_is_over_and_the_ledger_is_down_nothing_is_written(
    world: World, one: Process, stage: Stage
) -> None:
    one.to(stage)
    one.put("k", b"1")
    before = (world.source.all(), world.target.all())
    world.clock.advance(LEASE)
    world.ledger.before("state", lost, always=True)
    world.ledger.before("begin", lost, always=True)
    acts: list[Callable[[], object]] = [
        lambda: one.put("k", b"2"),
        lambda: one.put("k", b"2", if_none_match=True),
        lambda: one.delete("k"),
        lambda: drive(one.storage.delete_many(["k"])),
    ]
    for act in acts:
        with pytest.raises(UnavailableError) as caught:
            act()
        assert caught.value.not_sent
        assert caught.value.retryable
    assert (world.source.all(), world.target.all()) == before


@pytest.mark.parametrize("stage", list(Stage))
def test_when_the_lease_is_over_and_the_ledger_is_down_no_read_counts(
    world: World, one: Process, stage: Stage
) -> None:
    one.to(stage)
    one.put("k", b"1")
    assert one.get("k") == b"1"
    world.clock.advance(LEASE)
    world.ledger.before("state", lost, always=True)
    acts: list[Callable[[], object]] = [
        lambda: one.get("k"),
        lambda: one.head("k"),
        lambda: one.head("absent"),
        one.listed,
    ]
    for act in acts:
        with pytest.raises(UnavailableError):
            act()
    world.ledger.calm()
    assert one.get("k") == b"1"


def test_a_reply_that_does_not_count_is_closed(world: World, one: Process) -> None:
    one.to(Stage.SHADOW)
    one.put("k", b"x" * (3 << 20))
    assert one.head("k").size == 3 << 20
    closed: list[str] = []

    def watch() -> None:
        opened = world.source.inner.get

        async def get(*args: object, **kwargs: object) -> object:
            reply = await opened(*args, **kwargs)
            close = reply.close

            async def watched() -> None:
                closed.append("yes")
                await close()

            reply.close = watched
            return reply

        world.source.inner.get = get

    watch()
    world.clock.advance(LEASE)
    world.ledger.before("state", lost)
    with pytest.raises(UnavailableError):
        drive(one.storage.get("k"))
    assert closed == ["yes"]


def test_a_read_takes_an_old_answer_and_checks_it_afterwards(world: World, one: Process) -> None:
    one.to(Stage.SHADOW)
    one.put("k", b"1")
    assert one.get("k") == b"1"
    world.clock.advance(10 * LEASE)
    asked = _asked(world)
    assert one.get("k") == b"1"
    assert _asked(world) == asked + 1


def test_while_a_flip_is_announced_every_read_asks(world: World, one: Process) -> None:
    one.to(Stage.SHADOW)
    one.put("k", b"1")
    world.clock.advance(LEASE)
    drive(world.ledger.inner.announce(SUBJECT, world.state().epoch, 60))
    asked = _asked(world)
    for _ in range(3):
        assert one.get("k") == b"1"
    assert _asked(world) == asked + 3


def test_a_flip_between_a_read_and_its_answer_is_seen_by_who_holds_no_lease(
    world: World, one: Process
) -> None:
    two = world.process()
    one.to(Stage.SHADOW)
    one.put("k", b"1")
    assert two.get("k") == b"1"
    world.clock.advance(LEASE)

    def flip_and_write() -> None:
        one.to(Stage.LIVE)
        one.put("k", b"2")

    do_at(Point.READ_ANSWERED, flip_and_write)
    assert two.get("k") == b"2"


def test_a_listing_between_whose_pages_the_side_changes_back_and_forth_still_counts(
    world: World, one: Process
) -> None:
    one.to(Stage.SHADOW)
    for number in range(4):
        one.put(f"{number}", b"")
    two = world.process()
    two.listed()

    def there_and_back() -> None:
        one.to(Stage.LIVE)
        one.put("4", b"")
        one.rollback()

    do_at(Point.READ_ANSWERED, there_and_back)
    assert two.listed() == ["0", "1", "2", "3", "4"]


# Another migration ----------------------------------------------------------------------------


def _other(world: World, source: str, target: str, stage: Stage) -> None:
    """What the ledger knows is another migration, at this stage."""
    ledger = world.ledger.inner
    terms = Terms("other", source, target, lease=LEASE, soak=0)
    state = drive(ledger.start(SUBJECT, terms, Move("other", Stage.OFF, "t")))
    for to in list(Stage)[1 : list(Stage).index(stage) + 1]:
        if to in (Stage.LIVE, Stage.COMPLETE):
            drive(ledger.announce(SUBJECT, state.epoch, 60))
            world.clock.advance(LEASE)
            drive(ledger.pause(SUBJECT, state.epoch, 60))
        state = drive(ledger.move(SUBJECT, state.epoch, Move(f"other-{to}", to, "t")))


@pytest.mark.parametrize(
    ("source", "target", "stage"),
    [("source", "third", Stage.OFF), ("third", "source", Stage.COMPLETE)],
)
def test_another_migration_that_rests_where_ours_begins_is_our_off(
    world: World, one: Process, source: str, target: str, stage: Stage
) -> None:
    _other(world, source, target, stage)
    one.put("k", b"1")
    assert world.source.find("k") == b"1"
    assert world.target.find("k") is None
    assert drive(one.stage.current()).epoch == world.state().epoch


@pytest.mark.parametrize(
    ("source", "target", "stage"),
    [
        ("source", "third", Stage.DUALWRITE),
        ("source", "third", Stage.COMPLETE),
        ("third", "source", Stage.OFF),
        ("third", "source", Stage.RAMPDOWN),
        ("target", "source", Stage.OFF),
    ],
)
def test_under_another_migration_nothing_is_read_or_written(
    world: World, one: Process, source: str, target: str, stage: Stage
) -> None:
    world.source.write("k", b"1")
    _other(world, source, target, stage)
    acts: list[Callable[[], object]] = [lambda: one.get("k"), lambda: one.put("k", b"2")]
    for act in acts:
        with pytest.raises(PlatformError, match="outdated") as caught:
            act()
        assert caught.value.code == "unavailable"
    assert world.source.find("k") == b"1"


def test_a_lease_is_of_one_subject(world: World, one: Process) -> None:
    one.to(Stage.DUALWRITE)
    beta = StageLease(world.ledger, Subject("storage", "beta"), one.terms, one.runtime)
    assert drive(beta.current()).stage is Stage.OFF
