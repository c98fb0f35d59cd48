"""Bringing over what was there before: all of it, resumed after any crash, nothing newer undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cm_platform.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.migration import points
from cm_platform.migration.points import Point
from cm_platform.migration.progress import Progress
from cm_platform.migration.stages import BACKFILL
from cm_platform.migration.storage import backfill
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import Attributes

from .doubles import (
    ACT,
    QUARANTINE,
    SETTLING,
    SUBJECT,
    CrashError,
    Process,
    World,
    crash_at,
    do_at,
    lost,
)

PAGE = 3


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "_BATCH", PAGE)


@pytest.fixture
def one(world: World) -> Process:
    """In dualwrite, with ten objects that were there before, one of which others wrote."""
    found = world.process()
    for number in range(9):
        found.put(f"k{number}", b"x" * number)
    world.source.write("k9", b"theirs")
    return found.to(Stage.DUALWRITE)


def _objects(world: World) -> dict[str, bytes]:
    assert world.same()
    return world.source.all()


def test_everything_is_brought_over_and_counted(world: World, one: Process) -> None:
    done = one.backfill()
    assert len(_objects(world)) == 10
    assert (done["complete"], done["objects"], done["skipped"]) == (True, 10, 0)
    assert done["moved"] == sum(range(9)) + 6
    assert world.pending().count == 0
    assert one.verify()["clean"]


def test_progress_is_told_page_by_page(one: Process) -> None:
    told: list[Progress] = []
    one.backfill(report=told.append)
    waiting = [line for line in told if line.waiting]
    assert waiting
    assert all(
        line.act == "backfill" and "every write that began before" in (line.waiting or "")
        for line in waiting
    )
    pages = [line for line in told if not line.waiting]
    assert [line.done for line in pages if line.act == "backfill"] == [3, 6, 9, 10]
    assert {line.act for line in pages} == {"backfill", "look for leftovers"}


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.COMPLETE])
def test_where_nothing_is_brought_over_it_is_refused(world: World, stage: Stage) -> None:
    one = world.process().to(stage)
    for act in (one.backfill, one.verify):
        with pytest.raises(PreconditionFailedError):
            act()


@pytest.mark.parametrize(
    "point",
    [
        Point.BACKFILL_BEGUN,
        Point.COPY_BEGUN,
        Point.OTHER_CHANGED,
        Point.COMPARED,
        Point.BACKFILL_DONE,
        Point.BACKFILL_NOTED,
    ],
)
def test_who_dies_at_any_page_is_followed_by_somebody_who_goes_on_there(
    world: World, one: Process, point: Point
) -> None:
    runs = 0
    while True:
        crash_at(point)
        try:
            done = world.process().backfill()
            break
        except CrashError:
            runs += 1
            assert runs < 40
            world.clock.advance(ACT + QUARANTINE)
            # Each run may come a page further before it dies.
            points.hook = None
            seen = 0

            async def later(reached: Point, point: Point = point, runs: int = runs) -> None:
                nonlocal seen
                if reached is point:
                    seen += 1
                    if seen > runs:
                        raise CrashError

            points.hook = later
            try:
                done = world.process().backfill()
                break
            except CrashError:
                runs += 1
                world.clock.advance(ACT + QUARANTINE)
            finally:
                points.hook = None
    assert runs >= 2
    assert done["complete"]
    world.process().repair()
    assert world.pending().count == 0
    assert len(_objects(world)) == 10


def test_what_was_done_is_not_done_again(world: World, one: Process) -> None:
    pages = 0

    async def third(reached: Point) -> None:
        nonlocal pages
        if reached is Point.BACKFILL_NOTED:
            pages += 1
            if pages == 2:
                raise CrashError

    points.hook = third
    with pytest.raises(CrashError):
        one.backfill()
    points.hook = None
    world.source.calls.clear()
    told: list[Progress] = []
    done = world.process().backfill(report=told.append)
    assert done["objects"] == 10
    # Six keys were brought over before; the look for leftovers looks at all of them.
    assert world.source.calls.count("get") == 4
    assert next(line.done for line in told if not line.waiting) == 9


def test_who_does_not_resume_begins_anew(world: World, one: Process) -> None:
    crash_at(Point.BACKFILL_NOTED)
    with pytest.raises(CrashError):
        one.backfill()
    points.hook = None
    assert world.process().backfill(resume=False)["objects"] == 10


def test_after_it_is_complete_it_begins_anew(world: World, one: Process) -> None:
    one.backfill()
    world.source.write("late", b"by others")
    done = one.backfill()
    assert (done["objects"], done["moved"]) == (11, len(b"by others"))


def test_a_cursor_that_the_store_does_not_know_any_more_begins_anew(
    world: World, one: Process
) -> None:
    crash_at(Point.BACKFILL_NOTED)
    with pytest.raises(CrashError):
        one.backfill()
    points.hook = None
    listed = world.source.inner.list
    refusals: list[str] = []

    async def forgetful(prefix: str, **options: object) -> object:
        if options["cursor"] is not None and not refusals:
            refusals.append("expired")
            raise InvalidArgumentError("the cursor has expired")
        return await listed(prefix, **options)

    world.source.inner.list = forgetful
    assert world.process().backfill()["complete"]
    assert refusals
    assert len(_objects(world)) == 10


def test_a_store_that_knows_no_cursor_of_its_own_is_given_up(world: World, one: Process) -> None:
    listed = world.source.inner.list
    asked = 0

    async def forgetful(prefix: str, **options: object) -> object:
        nonlocal asked
        asked += 1
        assert asked < 200, "for ever"
        if options["cursor"] is not None:
            raise InvalidArgumentError("the cursor has expired")
        return await listed(prefix, **options)

    world.source.inner.list = forgetful
    with pytest.raises(InvalidArgumentError):
        one.backfill()


def test_leftovers_on_the_target_are_removed(world: World, one: Process) -> None:
    for number in range(7):
        world.target.write(f"zombie{number}", b"of an earlier attempt")
    world.target.write("k1", b"an older one")
    done = one.backfill()
    assert done["objects"] == 10
    assert len(_objects(world)) == 10
    assert one.get("k1") == b"x"


def test_in_live_the_source_is_brought_in_line(world: World, one: Process) -> None:
    one.to(Stage.LIVE)
    world.target.write("new", b"by others")
    world.source.write("zombie", b"")
    world.source.remove("k3")
    one.backfill()
    assert sorted(_objects(world)) == sorted([*(f"k{n}" for n in range(10)), "new"])


# Writers meanwhile ----------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BACKFILL_BEGUN, Point.COPY_BEGUN, Point.OTHER_CHANGED])
@pytest.mark.parametrize(
    "act",
    [
        lambda two: two.put("k1", b"newer"),
        lambda two: two.delete("k1"),
        lambda two: (two.delete("k1"), two.put("k1", b"newer")),
    ],
    ids=["put", "delete", "both"],
)
def test_it_never_overwrites_newer_data_and_never_brings_back_what_was_removed(
    world: World, one: Process, point: Point, act: Callable[[Process], object]
) -> None:
    two = world.process()
    two.put("warm", b"")
    do_at(point, lambda: act(two))
    one.backfill()
    found = world.source.find("k1")
    assert found in (b"newer", None)
    assert world.target.find("k1") == found
    assert world.pending().count == 0


def test_with_a_writer_at_every_point_both_sides_end_up_the_same(
    world: World, one: Process
) -> None:
    two = world.process()
    busy = False
    count = 0

    async def hook(reached: Point) -> None:
        nonlocal busy, count
        if busy:
            return
        busy = True
        try:
            count += 1
            key = f"k{count * 7 % 12}"
            if count % 3:
                two.put(key, str(count).encode())
            else:
                two.delete(key)
        finally:
            busy = False

    points.hook = hook
    one.backfill()
    points.hook = None
    assert count > 20
    world.clock.advance(ACT + QUARANTINE)
    one.repair()
    assert world.same()
    assert one.verify()["clean"]


# What cannot be moved -------------------------------------------------------------------------


def test_what_cannot_be_moved_is_listed_with_its_reason_and_tried_again(
    world: World, one: Process
) -> None:
    drive(world.source.inner.put("odd", b"", Attributes(content_disposition="é")))
    done = one.backfill()
    assert (done["complete"], done["skipped"]) == (True, 1)
    (skipped,) = drive(one.migration.skipped())
    assert skipped.key == "odd"
    assert skipped.reason.startswith("invalid_argument: the content_disposition")
    (lacking,) = drive(one.migration.missing())
    assert "1" in lacking
    with pytest.raises(PreconditionFailedError) as caught:
        one.advance()
    assert lacking in caught.value.message
    world.clock.advance(ACT)
    # Its reason is written down; no intent is left that would hold up a flip for ever.
    assert one.repair() == {}
    drive(world.source.inner.put("odd", b"", Attributes()))
    assert one.backfill()["skipped"] == 0
    assert drive(one.migration.skipped()) == []
    assert drive(one.migration.missing()) == []


def test_what_was_left_behind_at_a_change_of_sides_is_not_removed_from_the_only_side_that_has_it(
    world: World, one: Process
) -> None:
    """An override gives up on moving it. It does not ask for the only copy to be deleted."""
    for key in ("gone", "odd", "odder", "written"):
        drive(world.source.inner.put(key, key.encode(), Attributes(content_disposition="é")))
    assert one.backfill()["skipped"] == 4
    for _ in range(2):
        one.advance(override="these four are of no use any more")
    assert drive(one.migration.state()).stage is Stage.LIVE
    one.put("written", b"anew")
    one.delete("gone")
    for resume in (True, False):
        done = one.backfill(resume=resume)
        assert (done["complete"], done["skipped"]) == (True, 2)
    assert [found.key for found in drive(one.migration.skipped())] == ["odd", "odder"]
    assert {"odd", "odder"} <= world.source.all().keys()
    assert world.source.all()["written"] == world.target.all()["written"] == b"anew"
    assert "gone" not in world.source.all()
    one.rollback(Stage.SHADOW)
    assert one.get("odd") == b"odd"
    one.delete("odder")
    drive(world.source.inner.put("odd", b"odd", Attributes()))
    assert one.backfill()["skipped"] == 0
    assert _objects(world)["odd"] == b"odd"


def test_a_key_that_was_skipped_and_removed_is_forgotten(world: World, one: Process) -> None:
    drive(world.source.inner.put("odd", b"", Attributes(content_disposition="é")))
    one.backfill()
    one.delete("odd")
    assert one.backfill()["skipped"] == 0
    assert drive(one.migration.skipped()) == []


def test_a_moments_failure_skips_nothing(world: World, one: Process) -> None:
    world.source.before("get", lost)
    world.target.before("head", lost)
    assert one.backfill()["skipped"] == 0
    assert len(_objects(world)) == 10


def test_a_moments_refusal_is_tried_again_at_the_end(world: World, one: Process) -> None:
    def denied() -> None:
        raise PermissionDeniedError("a moment ago")

    for _ in range(2):
        world.source.before("get", denied)
    done = one.backfill()
    assert done["skipped"] == 0
    assert drive(one.migration.skipped()) == []
    assert world.pending().due == 0 or one.repair() == {}
    assert len(_objects(world)) == 10


def test_what_remains_skipped_is_what_is_told(world: World, one: Process) -> None:
    for number in range(2 * PAGE):
        drive(world.source.inner.put(f"odd{number}", b"", Attributes(content_disposition="é")))

    def denied() -> None:
        raise PermissionDeniedError("a moment ago")

    for _ in range(2):
        world.source.before("get", denied)
    done = one.backfill()
    assert done["skipped"] == len(drive(one.migration.skipped())) == 2 * PAGE


def test_many_moments_failures_are_all_tried_again(world: World) -> None:
    one = world.process()
    for number in range(8 * PAGE):
        one.put(f"k{number:02}", b"1")
    one.to(Stage.DUALWRITE)

    def denied() -> None:
        raise PermissionDeniedError("a moment ago")

    for _ in range(8 * PAGE):
        world.source.before("get", denied)
    done = one.backfill()
    assert done["skipped"] == 0
    assert drive(one.migration.skipped()) == []
    assert len(_objects(world)) == 8 * PAGE


def test_a_store_that_is_down_ends_it_and_keeps_what_was_done(world: World, one: Process) -> None:
    pages = 0

    async def second(reached: Point) -> None:
        nonlocal pages
        if reached is Point.BACKFILL_NOTED:
            pages += 1
            if pages == 2:
                world.source.before("list", lost, always=True)

    points.hook = second
    with pytest.raises(UnavailableError):
        one.backfill()
    points.hook = None
    world.source.calm()
    note = drive(world.ledger.inner.notes(SUBJECT))[BACKFILL].body
    assert (note["objects"], note["complete"]) == (6, False)
    assert one.backfill()["objects"] == 10


def test_an_empty_tenant_is_brought_over_at_once(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    done = one.backfill()
    assert (done["complete"], done["objects"]) == (True, 0)


# The rate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1.0, 2.0, 10.0])
def test_it_takes_as_long_as_the_rate_says(tmp_path: Path, rate: float) -> None:
    world = World(tmp_path, rate=rate)
    try:
        one = world.process()
        for number in range(10):
            one.put(f"k{number}", b"")
        one.to(Stage.DUALWRITE)
        world.clock.advance(SETTLING)
        began = world.clock.now
        one.backfill()
        taken = world.clock.now - began
        # Ten keys, and ten more when the other side is looked through; the last page waits for
        # nobody.
        assert taken == (0 if not rate else pytest.approx((2 * 10 - 1) / rate, rel=0.2))
    finally:
        world.close()
