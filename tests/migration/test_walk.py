"""A tenant moves, and nothing is lost: the whole way, and what a change of sides leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cm_platform.errors import (
    AmbiguousError,
    InvalidArgumentError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.migration.points import Point
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import REVISION, Attributes, Part

from .doubles import (
    ACT,
    LEASE,
    QUARANTINE,
    SETTLING,
    SUBJECT,
    UPLOAD_TTL,
    Process,
    World,
    do_at,
    lost,
)

MIRRORED = [Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN]
FLIPS = [(Stage.SHADOW, Stage.LIVE), (Stage.LIVE, Stage.SHADOW)]


def test_a_walk_to_the_end_leaves_both_sides_the_same(world: World) -> None:
    one = world.process()
    for number in range(12):
        one.put(f"k/{number}", b"x" * number)
    world.source.write("foreign", b"theirs", note="n")
    before = {key: one.get(key) for key in one.listed()}
    for stage in list(Stage)[:-1]:
        one.to(stage)
        assert {key: one.get(key) for key in one.listed()} == before
        one.put(f"at-{stage}", b"new")
        before[f"at-{stage}"] = b"new"
    one.to(Stage.COMPLETE)
    assert {key: one.get(key) for key in one.listed()} == before
    assert world.source.all() == world.target.all() == before
    assert [line.to for line in drive(one.migration.log())] == list(Stage)
    assert world.pending().count == 0


@pytest.mark.parametrize("stage", MIRRORED)
def test_what_is_written_is_on_both_sides(world: World, stage: Stage) -> None:
    one = world.process().to(stage)
    one.put("k", b"1")
    one.put("k", b"22")
    one.put("gone", b"")
    one.delete("gone")
    assert world.source.all() == world.target.all() == {"k": b"22"}
    assert world.source.revisions() == world.target.revisions()
    assert world.pending().count == 0


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.COMPLETE])
def test_where_one_side_has_everything_the_other_is_left_alone(world: World, stage: Stage) -> None:
    one = world.process().to(stage)
    world.source.calls.clear()
    world.target.calls.clear()
    one.put("k", b"1")
    one.get("k")
    one.delete("k")
    right, other = (
        (world.source, world.target) if stage is Stage.OFF else (world.target, world.source)
    )
    assert other.calls == []
    assert right.calls == ["put", "get", "delete"]
    assert world.pending().count == 0


# A condition outlives a flip ------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_an_etag_from_before_a_flip_is_good_after_it(
    world: World, before: Stage, after: Stage
) -> None:
    one = world.process().to(before)
    put = one.put("k", b"1")
    assert one.head("k").etag == put
    listed = drive(one.storage.list("", delimiter=None, cursor=None, limit=9)).objects[0].etag
    assert listed == put
    one.to(after)
    assert one.get("k", if_match=put) == b"1"
    one.put("k", b"2", if_match=put)
    with pytest.raises(PreconditionFailedError):
        one.put("k", b"3", if_match=put)
    with pytest.raises(PreconditionFailedError):
        one.get("k", if_match=put)
    with pytest.raises(PreconditionFailedError):
        one.delete("k", if_match=put)
    assert world.source.all() == world.target.all() == {"k": b"2"}


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_an_etag_of_what_was_replaced_after_the_flip_is_good_no_more(
    world: World, before: Stage, after: Stage
) -> None:
    one = world.process().to(before)
    put = one.put("k", b"1")
    one.to(after)
    one.put("k", b"1")
    for act in (
        lambda: one.get("k", if_match=put),
        lambda: one.put("k", b"3", if_match=put),
        lambda: one.delete("k", if_match=put),
    ):
        with pytest.raises(PreconditionFailedError):
            act()
    assert world.pending().count == 0


def test_an_etag_from_before_the_migration_is_good_till_the_end(world: World) -> None:
    one = world.process()
    etag = one.put("k", b"1")
    for stage in Stage:
        one.to(stage)
        assert one.get("k", if_match=etag) == b"1", stage
    one.put("k", b"2", if_match=etag)
    with pytest.raises(PreconditionFailedError):
        one.put("k", b"3", if_match=etag)


def test_an_etag_that_looks_like_one_of_ours_is_not_taken_for_one(world: World) -> None:
    one = world.process().to(Stage.LIVE)
    etag = one.put("k", b"1")
    for wrong in (f"s-{etag}", f"t-{etag}", etag.removeprefix("t-"), "t-", "s-", "x"):
        with pytest.raises(PreconditionFailedError):
            one.get("k", if_match=wrong)


def test_a_copy_goes_by_an_etag_of_before_a_flip(world: World) -> None:
    one = world.process().to(Stage.SHADOW)
    etag = one.put("k", b"1")
    one.to(Stage.LIVE)
    attributes = Attributes(metadata={REVISION: "copied"})
    drive(one.storage.copy("k", "copy", attributes, etag=etag))
    assert world.source.all() == world.target.all() == {"k": b"1", "copy": b"1"}
    assert world.source.revisions() == world.target.revisions()


# A listing outlives a flip --------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), FLIPS)
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_listing_that_a_flip_interrupts_sees_every_key_once(
    world: World, before: Stage, after: Stage, limit: int, when: int
) -> None:
    one = world.process().to(before)
    keys = sorted([*(f"a/{n}" for n in range(6)), "é", "\N{GRINNING FACE}", "ﬀ", "z/1", "z/2"])
    for key in keys:
        one.put(key, b"")

    def meanwhile(number: int) -> None:
        if number == when:
            one.to(after)
        if number == when + 2:
            one.to(before)

    assert one.listed(limit=limit, between=meanwhile) == keys


@pytest.mark.parametrize("when", [1, 2, 3, 4])
def test_a_listing_by_folders_outlives_a_flip(world: World, when: int) -> None:
    one = world.process().to(Stage.SHADOW)
    for key in ("a", "a.", "a/1", "a/2", "a0", "b/1", "b/2", "c", "d/x/1"):
        one.put(key, b"")
    seen: list[str] = []
    cursor = None
    pages = 0
    while True:
        page = drive(one.storage.list("", delimiter="/", cursor=cursor, limit=1))
        seen += sorted([*(found.key for found in page.objects), *page.prefixes])
        cursor = page.cursor
        pages += 1
        if pages == when:
            one.to(Stage.LIVE)
        if cursor is None:
            break
    assert seen == ["a", "a.", "a/", "a0", "b/", "c", "d/"]


@pytest.mark.parametrize("cursor", ["", "x", "[]", "null", '["source",1,""]', '["here",null,""]'])
def test_a_cursor_that_it_did_not_make_is_an_invalid_argument(world: World, cursor: str) -> None:
    one = world.process().to(Stage.SHADOW)
    with pytest.raises(InvalidArgumentError):
        drive(one.storage.list("", delimiter=None, cursor=cursor, limit=9))


# Uploads in parts outlive a flip --------------------------------------------------------------


def _begin(one: Process, key: str) -> tuple[str, list[Part]]:
    storage = one.storage
    attributes = Attributes("text/plain", metadata={REVISION: "in-parts"})
    upload = drive(storage.create_multipart(key, attributes))
    limits = storage.limits
    return upload, [
        drive(storage.put_part(key, upload, 1, b"a" * limits.min_part)),
        drive(storage.put_part(key, upload, 2, b"b")),
    ]


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_an_upload_that_began_before_a_flip_is_completed_after_it(
    world: World, before: Stage, after: Stage
) -> None:
    one = world.process().to(before)
    upload, parts = _begin(one, "k")
    one.to(after)
    written = drive(one.storage.complete_multipart("k", upload, parts))
    assert one.get("k")[-1:] == b"b"
    info = one.head("k")
    assert (info.etag, info.content_type) == (written.etag, "text/plain")
    assert world.source.all() == world.target.all()
    assert world.source.revisions() == world.target.revisions() == {"k": "in-parts"}
    assert world.pending().count == 0
    with pytest.raises(PlatformError) as caught:
        drive(one.storage.complete_multipart("k", upload, parts))
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_a_conditional_upload_that_a_flip_overtook_keeps_to_its_condition(
    world: World, before: Stage, after: Stage
) -> None:
    one = world.process().to(before)
    etag = one.put("old", b"old")
    taken, parts = _begin(one, "taken")
    replaced, more = _begin(one, "old")
    free, rest = _begin(one, "free")
    one.to(after)
    one.put("taken", b"mine")
    with pytest.raises(PlatformError) as caught:
        drive(one.storage.complete_multipart("taken", taken, parts, if_none_match=True))
    assert caught.value.code == "already_exists"
    assert world.source.find("taken") == world.target.find("taken") == b"mine"
    drive(one.storage.complete_multipart("old", replaced, more, if_match=etag))
    assert one.get("old")[-1:] == b"b"
    drive(one.storage.complete_multipart("free", free, rest, if_none_match=True))
    assert world.source.all() == world.target.all()
    assert world.pending().count == 0


def test_a_conditional_upload_whose_object_was_replaced_after_the_flip_is_refused(
    world: World,
) -> None:
    one = world.process().to(Stage.SHADOW)
    etag = one.put("k", b"old")
    upload, parts = _begin(one, "k")
    one.to(Stage.LIVE)
    one.put("k", b"newer")
    with pytest.raises(PreconditionFailedError):
        drive(one.storage.complete_multipart("k", upload, parts, if_match=etag))
    assert world.source.find("k") == world.target.find("k") == b"newer"
    assert world.pending().count == 0


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("method", ["head", "get"])
def test_an_upload_that_is_overtaken_on_its_way_across_is_ambiguous(
    world: World, method: str, conditional: bool
) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()
    upload, parts = _begin(one, "k")
    one.to(Stage.LIVE)

    # Another writer brings the follower in line while the upload is staged there.
    def staged() -> None:
        world.source.before(method, lambda: two.put("k", b"other"))

    do_at(Point.CROSSED_STAGED, staged)
    with pytest.raises(AmbiguousError):
        drive(one.storage.complete_multipart("k", upload, parts, if_none_match=conditional))
    world.clock.advance(ACT + QUARANTINE)
    assert one.repair() == {}
    assert world.source.all() == world.target.all() == {"k": b"other"}
    assert world.pending().count == 0


def test_an_upload_is_copied_part_by_part_across_a_flip(world: World) -> None:
    one = world.process().to(Stage.SHADOW)
    etag = one.put("k", b"0123456789")
    upload = drive(one.storage.create_multipart("copy", Attributes(metadata={REVISION: "r"})))
    one.to(Stage.LIVE)
    part = drive(one.storage.copy_part("copy", upload, 1, "k", 0, 10, etag))
    drive(one.storage.complete_multipart("copy", upload, [part]))
    assert world.source.all() == world.target.all() == {"k": b"0123456789", "copy": b"0123456789"}


@pytest.mark.parametrize("upload", ["", "x", "source", "other:1", "source:", "target:nothing"])
def test_an_upload_that_is_unknown_is_not_found(world: World, upload: str) -> None:
    one = world.process().to(Stage.LIVE)
    drive(one.storage.abort_multipart("k", upload))
    with pytest.raises(PlatformError) as caught:
        drive(one.storage.put_part("k", upload, 1, b""))
    assert caught.value.code == "not_found"
    with pytest.raises(PlatformError) as caught:
        drive(one.storage.complete_multipart("k", upload, [Part(1, "e")]))
    assert caught.value.code == "not_found"
    assert world.pending().count == 0


# Signed URLs and a flip -----------------------------------------------------------------------


def _sign(one: Process, seconds: int = UPLOAD_TTL) -> None:
    drive(one.storage.presign("up", "PUT", expires_in=seconds, attributes=Attributes()))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_url_to_upload_lives_no_longer_than_was_agreed(world: World, stage: Stage) -> None:
    one = world.process().to(stage)
    with pytest.raises(InvalidArgumentError, match="60 seconds"):
        _sign(one, UPLOAD_TTL + 1)
    _sign(one)
    assert world.pending().uploads == (1 if stage in MIRRORED else 0)


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_a_flip_waits_for_urls_to_upload_and_brings_over_what_came_by_them(
    world: World, before: Stage, after: Stage
) -> None:
    one = world.process().to(before)
    _sign(one)
    began = world.clock.now
    right, other = (world.source, world.target)
    if before is Stage.LIVE:
        right, other = other, right
    # It is used when it has nearly expired, while the flip waits for it.
    world.clock.asleep += [lambda: None, lambda: right.write("up", b"uploaded")]
    told: list[str] = []
    if before is Stage.SHADOW:
        one.verify()
        step = one.advance(report=lambda progress: told.append(progress.waiting or ""))
    else:
        step = one.rollback(report=lambda progress: told.append(progress.waiting or ""))
    # Writers do not wait for it.
    assert step.paused < 0.1
    assert world.clock.now - began >= UPLOAD_TTL + 5
    assert any("1 URLs to upload" in line for line in told)
    assert other.find("up") == b"uploaded"
    assert one.get("up") == b"uploaded"
    assert world.pending().count == 0


def test_while_a_flip_is_announced_no_url_to_upload_is_signed(world: World) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()
    one.verify()
    two.put("k", b"")
    refusals: list[UnavailableError] = []

    def sign() -> None:
        with pytest.raises(UnavailableError) as caught:
            _sign(two)
        refusals.append(caught.value)

    do_at(Point.FLIP_ANNOUNCED, sign)
    one.advance()
    (refusal,) = refusals
    assert refusal.retryable
    assert refusal.not_sent
    _sign(two)
    assert world.pending().uploads == 1


def test_a_url_to_read_is_of_the_side_that_is_right(world: World) -> None:
    one = world.process().to(Stage.LIVE)
    world.source.calls.clear()
    drive(one.storage.presign("k", "GET", expires_in=3600, attributes=Attributes()))
    assert world.source.calls == []
    assert world.pending().count == 0


# Settling -------------------------------------------------------------------------------------


def test_a_backfill_waits_until_nobody_writes_without_an_intent(world: World) -> None:
    one = world.process()
    one.start()
    one.advance()
    began = world.clock.now
    one.backfill()
    assert world.clock.now - began >= SETTLING


def test_who_overrides_the_backfill_still_waits_before_anything_counts(world: World) -> None:
    one, two = world.process(), world.process()
    two.put("k", b"1")
    one.start()
    two.get("k")
    one.advance()
    one.advance(override="the tenant is small")
    began = world.clock.now

    # A write that began in off, under the lease of before, lands late.
    world.clock.asleep.append(lambda: world.source.write("k", b"late"))
    one.backfill()
    assert world.clock.now - began >= SETTLING - LEASE
    assert world.target.find("k") == b"late"


# Going back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN])
def test_from_every_stage_it_goes_back_to_off_with_everything(world: World, stage: Stage) -> None:
    one = world.process()
    one.put("old", b"1")
    one.to(stage)
    one.put("new", b"2")
    one.delete("old")
    one.rollback(Stage.OFF)
    assert world.state().stage is Stage.OFF
    assert one.get("new") == b"2"
    assert one.listed() == ["new"]
    assert world.source.all() == {"new": b"2"}
    log = [line.to for line in drive(one.migration.log())]
    back = list(Stage)[: list(Stage).index(stage)]
    assert log[-len(back) :] == back[::-1]


def test_from_the_end_nothing_goes_back(world: World) -> None:
    one = world.process().to(Stage.COMPLETE)
    with pytest.raises(InvalidArgumentError, match="configure a migration the other way round"):
        one.rollback()


def test_what_was_written_in_off_after_a_rollback_is_brought_over_by_the_next_backfill(
    world: World,
) -> None:
    one = world.process()
    for key in ("a", "b", "c"):
        one.put(key, b"1")
    one.to(Stage.SHADOW)
    one.rollback(Stage.OFF)
    one.put("a", b"22")
    one.delete("b")
    one.advance()
    assert drive(one.migration.missing()) == ["the backfill is not complete"]
    one.backfill()
    assert one.verify()["clean"]
    assert world.source.all() == world.target.all() == {"a": b"22", "c": b"1"}


def test_a_backfill_that_a_rollback_overtook_ends_and_its_evidence_does_not_count(
    world: World,
) -> None:
    one, two = world.process(), world.process()
    for number in range(250):
        one.put(f"{number:03}", b"1")
    one.to(Stage.DUALWRITE)

    def overtake() -> None:
        # Off, something written there, and on again, while a page is under way.
        two.rollback(Stage.OFF)
        two.put("000", b"22")
        two.advance()

    def at_the_second_page() -> None:
        do_at(Point.BACKFILL_BEGUN, overtake)

    do_at(Point.BACKFILL_NOTED, at_the_second_page)
    with pytest.raises(UnavailableError, match="stage changed"):
        one.backfill()
    assert "the backfill is not complete" in drive(two.migration.missing())
    two.backfill()
    assert two.verify()["clean"]
    assert world.target.find("000") == b"22"


def test_evidence_that_arrives_after_a_rollback_does_not_count(world: World) -> None:
    one, two = world.process(), world.process()
    one.put("k", b"1")
    one.to(Stage.DUALWRITE)

    def overtake() -> None:
        two.rollback(Stage.OFF)
        two.put("k", b"22")
        two.advance()

    # The page's note is under way while others go back to off and on again.
    world.ledger.before("note", overtake)
    with pytest.raises(UnavailableError):
        one.backfill()
    assert "the backfill is not complete" in drive(two.migration.missing())


# Processes see a change at different times ----------------------------------------------------


def test_a_process_that_sleeps_through_a_flip_writes_to_the_right_side(world: World) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()
    two.put("k", b"1")
    one.to(Stage.LIVE)
    two.put("k", b"2")
    assert world.target.find("k") == b"2"
    one.rollback()
    two.put("k", b"3")
    assert world.source.find("k") == b"3"
    assert world.same()


def test_a_read_that_a_flip_overtook_is_made_again(world: World) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()
    one.put("k", b"1")
    assert two.get("k") == b"1"

    def overtake() -> None:
        one.to(Stage.LIVE)
        one.put("k", b"2")

    do_at(Point.READ_ANSWERED, overtake)
    assert two.get("k") == b"2"


def test_a_failed_read_that_a_flip_overtook_is_made_again(world: World) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()
    two.listed()

    def overtake() -> None:
        one.to(Stage.LIVE)
        one.put("k", b"2")

    do_at(Point.READ_ANSWERED, overtake)
    assert two.get("k") == b"2"


def test_without_a_ledger_reads_count_as_long_as_its_answer_and_writes_wait_for_nobody(
    world: World,
) -> None:
    one = world.process().to(Stage.SHADOW)
    one.put("k", b"1")
    world.ledger.before("state", lost, always=True)
    world.ledger.before("begin", lost, always=True)
    assert one.get("k") == b"1"
    act: Callable[[], object]
    for act in (lambda: one.put("k", b"2"), lambda: one.delete("k")):
        with pytest.raises(UnavailableError) as caught:
            act()
        assert caught.value.not_sent
    world.clock.advance(LEASE)
    with pytest.raises(UnavailableError):
        one.get("k")
    assert world.source.find("k") == b"1"
    world.ledger.calm()
    assert one.get("k") == b"1"
    assert drive(world.ledger.inner.state(SUBJECT)) is not None
