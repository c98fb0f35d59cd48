"""Reconciling: look at both, act, look again, until a look finds them the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cm_platform.errors import IntegrityError, InvalidArgumentError, UnavailableError
from cm_platform.migration.intents import Held
from cm_platform.migration.ledger import Purpose
from cm_platform.migration.points import Point
from cm_platform.migration.storage import reconcile
from cm_platform.migration.storage.sameness import FOREIGN, difference, same
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import (
    REVISION,
    SHA256,
    Attributes,
    ObjectInfo,
    StorageLimits,
)

from .doubles import (
    ACT,
    QUARANTINE,
    CrashError,
    Process,
    Store,
    World,
    crash_at,
    do_at,
    lost,
)

SIDES = [Stage.DUALWRITE, Stage.LIVE]


def right(world: World) -> Store:
    return world.source if world.state().authority == "source" else world.target


def other(world: World) -> Store:
    return world.target if world.state().authority == "source" else world.source


def held(one: Process, *keys: str) -> Held:
    _, found = drive(one.intents.begin(keys, Purpose.BACKFILL))
    assert found is not None
    return found


def reconciled(one: Process, key: str = "k", **options: Any) -> int | None:
    mine = held(one, key)
    sent = drive(one.reconciler.reconcile(mine, key, **options))
    assert drive(one.intents.finish(mine, [key])) == (key not in mine.doubt)
    return sent


@pytest.fixture(params=SIDES)
def one(request: pytest.FixtureRequest, world: World) -> Process:
    """In a stage where the source is right, and in one where the target is."""
    return world.process().to(request.param)


# What others wrote ----------------------------------------------------------------------------


def test_what_others_wrote_is_copied_with_all_that_it_says(world: World, one: Process) -> None:
    attributes = Attributes(
        "text/plain", "no-store", 'attachment; filename="f"', "gzip", "fr", {"note": "n"}
    )
    drive(right(world).inner.put("k", b"theirs", attributes))
    assert reconciled(one) == 6
    copy = other(world).head_of("k")
    assert copy is not None
    assert other(world).find("k") == b"theirs"
    assert (copy.content_type, copy.cache_control, copy.content_encoding) == (
        "text/plain",
        "no-store",
        "gzip",
    )
    assert (copy.content_disposition, copy.content_language) == ('attachment; filename="f"', "fr")
    assert copy.metadata["note"] == "n"
    assert copy.metadata[REVISION].startswith(FOREIGN)
    assert reconciled(one) == 0
    original = right(world).head_of("k")
    assert original is not None
    assert REVISION not in original.metadata


def test_what_others_write_again_is_copied_again(world: World, one: Process) -> None:
    right(world).write("k", b"1")
    reconciled(one)
    right(world).write("k", b"1", note="new")
    assert reconciled(one) == 1
    right(world).write("k", b"2", note="new")
    assert reconciled(one) == 1
    assert other(world).find("k") == b"2"


def test_two_that_others_wrote_are_never_the_same_by_accident(world: World, one: Process) -> None:
    right(world).write("k", b"same")
    other(world).write("k", b"same")
    assert reconciled(one) == 4
    assert reconciled(one) == 0


def test_what_others_wrote_stays_the_same_through_a_flip_and_back(world: World) -> None:
    one = world.process().to(Stage.SHADOW)
    world.source.write("k", b"theirs")
    reconciled(one)
    for stage in (Stage.LIVE, Stage.SHADOW, Stage.LIVE):
        one.to(stage)
        assert reconciled(one) == 0, stage
    assert one.verify()["clean"]


def test_what_others_uploaded_to_the_target_comes_back_to_the_source(world: World) -> None:
    one = world.process().to(Stage.LIVE)
    world.target.write("k", b"uploaded")
    reconciled(one)
    one.rollback()
    assert one.get("k") == b"uploaded"
    assert reconciled(one) == 0


@pytest.mark.parametrize("value", ["=?utf-8?q?=C3=A9?=", "plain"])
def test_metadata_that_is_written_in_words_is_carried(
    world: World, one: Process, value: str
) -> None:
    right(world).write("k", b"", note=value)
    reconciled(one)
    found = other(world).head_of("k")
    assert found is not None
    assert found.metadata["note"] == value


# What ours say --------------------------------------------------------------------------------


def test_a_digest_that_was_recorded_is_checked_before_anything_is_copied(
    world: World, one: Process
) -> None:
    metadata = {REVISION: "r", SHA256: "0" * 64}
    drive(right(world).inner.put("k", b"damaged", Attributes(metadata=metadata)))
    with pytest.raises(IntegrityError, match="damaged before it was moved"):
        reconciled(one)
    assert other(world).find("k") is None
    drive(other(world).inner.put("k", b"good copy", Attributes(metadata={REVISION: "q"})))
    with pytest.raises(IntegrityError):
        reconciled(one)
    assert other(world).find("k") == b"good copy"


def test_a_body_that_is_cut_short_is_not_copied(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    right(world).write("k", b"whole")
    opened = right(world).inner.get

    async def get(key: str, **options: Any) -> Any:
        reply = await opened(key, **options)
        read = reply.read

        async def cut() -> bytes:
            found: bytes = await read()
            return found[:-1]

        reply.read = cut
        return reply

    monkeypatch.setattr(right(world).inner, "get", get)
    with pytest.raises(IntegrityError, match="another size"):
        reconciled(one)
    assert other(world).find("k") is None


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("existing", [False, True])
def test_what_is_larger_than_a_part_goes_in_parts(
    world: World, one: Process, size: int, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PART_SIZE", 8)
    other(world).limits = replace(other(world).limits, min_part=1)
    body = bytes(range(size))
    attributes = Attributes("text/plain", metadata={REVISION: "r", "note": "n"})
    drive(right(world).inner.put("k", body, attributes))
    if existing:
        other(world).write("k", b"old")
    assert reconciled(one) == size
    assert other(world).find("k") == body
    found = other(world).head_of("k")
    assert found is not None
    assert (found.content_type, found.metadata["note"]) == ("text/plain", "n")
    assert ("complete_multipart" in other(world).calls) == (size > 8)
    assert "abort_multipart" not in other(world).calls
    assert reconciled(one) == 0


def test_parts_are_as_many_as_the_other_side_takes(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PART_SIZE", 2)
    limits: StorageLimits = other(world).limits
    other(world).limits = replace(limits, min_part=1, max_parts=3)
    right(world).write("k", bytes(100))
    reconciled(one)
    assert other(world).calls.count("put_part") == 3
    assert other(world).find("k") == bytes(100)


def test_an_upload_that_fails_is_aborted_unless_it_may_have_happened(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PART_SIZE", 8)
    other(world).limits = replace(other(world).limits, min_part=1)
    right(world).write("k", bytes(20))
    other(world).before("put_part", lost)
    with pytest.raises(UnavailableError):
        reconciled(one)
    assert other(world).calls.count("abort_multipart") == 1
    other(world).after("complete_multipart", lost)
    mine = held(one, "k")
    with pytest.raises(UnavailableError):
        drive(one.reconciler.reconcile(mine, "k"))
    assert other(world).calls.count("abort_multipart") == 1
    assert mine.doubt == {"k"}


def test_what_is_damaged_and_large_leaves_no_parts(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PART_SIZE", 8)
    other(world).limits = replace(other(world).limits, min_part=1)
    metadata = {REVISION: "r", SHA256: "0" * 64}
    drive(right(world).inner.put("k", bytes(20), Attributes(metadata=metadata)))
    with pytest.raises(IntegrityError):
        reconciled(one)
    assert other(world).find("k") is None
    assert "abort_multipart" in other(world).calls


def test_what_changes_while_its_parts_are_read_is_begun_anew(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PART_SIZE", 8)
    other(world).limits = replace(other(world).limits, min_part=1)
    right(world).write("k", b"a" * 20)
    other(world).before("put_part", lambda: right(world).write("k", b"b" * 20))
    reconciled(one)
    assert other(world).find("k") == b"b" * 20


def test_what_is_larger_than_agreed_is_left_for_later(world: World, one: Process) -> None:
    right(world).write("k", b"12345")
    mine = held(one, "k")
    assert drive(one.reconciler.reconcile(mine, "k", up_to=4)) is None
    assert other(world).find("k") is None
    assert drive(one.reconciler.reconcile(mine, "k", up_to=5)) == 5
    # What is the same needs no bytes, however large.
    assert drive(one.reconciler.reconcile(mine, "k", up_to=0)) == 0


# Removing -------------------------------------------------------------------------------------


def test_what_only_the_follower_has_is_removed(world: World, one: Process) -> None:
    other(world).write("k", b"zombie")
    assert reconciled(one) == 0
    assert other(world).find("k") is None


def test_nothing_on_both_sides_is_the_same(world: World, one: Process) -> None:
    world.source.calls.clear()
    world.target.calls.clear()
    assert reconciled(one) == 0
    assert world.source.calls == world.target.calls == ["head"]


# With and without conditions ------------------------------------------------------------------


def _lacking(path: Path, stage: Stage, lacks: Iterable[str]) -> tuple[World, Process]:
    side = "target" if stage is Stage.DUALWRITE else "source"
    world = World(path, lacks={side: lacks})
    for store in (world.source, world.target):
        store.capabilities = store.inner.capabilities
    return world, world.process().to(stage)


@pytest.mark.parametrize("stage", SIDES)
@pytest.mark.parametrize(
    "lacks",
    [
        (),
        ("conditional_create", "conditional_replace", "conditional_delete", "conditional_copy"),
        ("conditional_delete",),
    ],
    ids=["all", "none", "r2"],
)
@pytest.mark.parametrize("now", ["new", "gone", "same"])
@pytest.mark.parametrize("before", ["old", "nothing"])
def test_whoever_changes_the_authority_meanwhile_is_followed(
    tmp_path: Path, stage: Stage, lacks: tuple[str, ...], now: str, before: str
) -> None:
    world, one = _lacking(tmp_path, stage, lacks)
    try:
        right(world).write("k", b"first")
        if before == "old":
            other(world).write("k", b"older")

        def meanwhile() -> None:
            if now == "new":
                right(world).write("k", b"second")
            elif now == "gone":
                right(world).remove("k")

        do_at(Point.COPY_BEGUN, meanwhile)
        reconciled(one)
        assert other(world).find("k") == {"new": b"second", "gone": None, "same": b"first"}[now]
    finally:
        world.close()


@pytest.mark.parametrize("stage", SIDES)
def test_with_conditions_what_somebody_brought_over_meanwhile_is_not_written_again(
    tmp_path: Path, stage: Stage
) -> None:
    world, one = _lacking(tmp_path, stage, ())
    two = world.process()
    try:
        right(world).write("k", b"1")
        do_at(Point.COPY_BEGUN, lambda: reconciled(two))
        assert reconciled(one) == 0
        assert other(world).calls.count("put") == 2
        assert other(world).find("k") == b"1"
    finally:
        world.close()


def test_what_never_stands_still_is_given_up(world: World, one: Process) -> None:
    numbers = iter(range(100))
    other(world).after(
        "put", lambda: right(world).write("k", str(next(numbers)).encode()), always=True
    )
    right(world).write("k", b"first")
    with pytest.raises(UnavailableError, match="changes faster") as caught:
        reconciled(one)
    assert caught.value.retryable


def test_what_the_other_side_cannot_hold_is_an_invalid_argument(world: World, one: Process) -> None:
    drive(right(world).inner.put("k", b"", Attributes(content_disposition="é")))
    with pytest.raises(InvalidArgumentError, match="content_disposition"):
        reconciled(one)
    assert other(world).find("k") is None


# Doubt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["put", "delete"])
def test_what_was_sent_and_not_answered_is_in_doubt(
    world: World, one: Process, method: str
) -> None:
    (right if method == "put" else other)(world).write("k", b"1")
    other(world).after(method, lost)
    mine = held(one, "k")
    with pytest.raises(UnavailableError):
        drive(one.reconciler.reconcile(mine, "k"))
    assert mine.doubt == {"k"}
    # It has happened, and may happen once more.
    assert drive(one.reconciler.reconcile(mine, "k")) == 0
    assert not drive(one.intents.finish(mine, ["k"]))
    assert world.pending().count == 1
    world.clock.advance(QUARANTINE)
    assert one.repair() == {}
    assert world.pending().count == 0


def test_a_read_that_fails_leaves_no_doubt(world: World, one: Process) -> None:
    right(world).write("k", b"1")
    right(world).before("get", lost)
    mine = held(one, "k")
    with pytest.raises(UnavailableError):
        drive(one.reconciler.reconcile(mine, "k"))
    assert mine.doubt == set()


def test_who_was_taken_over_changes_nothing(world: World, one: Process) -> None:
    right(world).write("k", b"1")
    mine = held(one, "k")
    world.clock.advance(ACT + QUARANTINE)
    assert drive(world.process().intents.claim(9))
    with pytest.raises(TimeoutError):
        drive(one.reconciler.reconcile(mine, "k"))
    assert other(world).find("k") is None


@pytest.mark.parametrize("point", [Point.COPY_BEGUN, Point.COPY_IN_PARTS, Point.OTHER_CHANGED])
def test_who_dies_on_the_way_is_followed_by_whoever_repairs(
    world: World, one: Process, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    if point is Point.COPY_IN_PARTS:
        monkeypatch.setattr(reconcile, "PART_SIZE", 8)
        other(world).limits = replace(other(world).limits, min_part=1)
    right(world).write("k", bytes(20))
    crash_at(point)
    with pytest.raises(CrashError):
        reconciled(one)
    world.clock.advance(ACT + QUARANTINE)
    assert world.process().repair() == {}
    assert other(world).find("k") == bytes(20)
    assert world.pending().count == 0


# Sameness -------------------------------------------------------------------------------------

INFO = ObjectInfo("k", 1, "e", content_type="text/plain", metadata={REVISION: "r", "note": "n"})


def test_absent_on_both_sides_is_the_same() -> None:
    assert same(None, None)
    assert difference(None, None) is None


@pytest.mark.parametrize(
    ("other_side", "how"),
    [
        (None, "missing on the target"),
        (replace(INFO, size=2), "size"),
        (replace(INFO, metadata={**INFO.metadata, SHA256: "0"}), "digest"),
        (replace(INFO, metadata={REVISION: "q", "note": "n"}), "revision"),
        (replace(INFO, metadata={"note": "n"}), "revision"),
    ],
)
def test_these_are_not_the_same(other_side: ObjectInfo | None, how: str) -> None:
    assert not same(INFO, other_side)
    assert difference(INFO, other_side) == how


@pytest.mark.parametrize(
    "change",
    [
        {"content_type": "text/html"},
        {"cache_control": "no-store"},
        {"content_disposition": "inline"},
        {"content_encoding": "gzip"},
        {"content_language": "fr"},
        {"metadata": {REVISION: "r"}},
        {"metadata": {REVISION: "r", "note": "m"}},
        {"metadata": {REVISION: "r", "note": "n", "more": "m"}},
    ],
)
def test_attributes_that_differ_are_a_difference(change: dict[str, Any]) -> None:
    assert difference(INFO, replace(INFO, **change)) == "metadata"
    assert difference(replace(INFO, **change), INFO) == "metadata"


def test_etags_and_times_say_nothing() -> None:
    assert same(INFO, replace(INFO, etag="another"))
    assert difference(INFO, replace(INFO, etag="another", last_modified=None)) is None
