"""Verification: every kind of difference is found, and nothing that somebody is about to remove."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cm_platform.errors import InvalidArgumentError, UnavailableError
from cm_platform.migration.points import Point
from cm_platform.migration.progress import Progress
from cm_platform.migration.stages import VERIFICATION
from cm_platform.migration.storage import verify
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import REVISION, SHA256, Attributes

from .doubles import (
    SETTLING,
    SUBJECT,
    CrashError,
    Process,
    Store,
    World,
    crash_at,
    do_at,
    lost,
)


@pytest.fixture(params=[Stage.DUALWRITE, Stage.LIVE])
def one(request: pytest.FixtureRequest, world: World) -> Process:
    """With three objects on both sides; where the source is right, and where the target is."""
    found = world.process().to(request.param)
    for key, body in (("a", b"1"), ("b", b"22"), ("c", b"333")):
        found.put(key, body)
    world.clock.advance(SETTLING)
    return found


def right(world: World) -> Store:
    return world.source if world.state().authority == "source" else world.target


def other(world: World) -> Store:
    return world.target if world.state().authority == "source" else world.source


def _rewrite(store: Store, key: str, body: bytes | None = None, **change: Any) -> None:
    """Damage an object on one side: the same but for this."""
    info = store.head_of(key)
    assert info is not None
    metadata = {**info.metadata, **change.pop("metadata", {})}
    bytes_ = store.find(key) if body is None else body
    assert bytes_ is not None
    drive(store.inner.put(key, bytes_, Attributes(info.content_type, metadata=metadata, **change)))


def test_what_is_the_same_is_clean_and_counted(one: Process) -> None:
    found = one.verify()
    assert (found["clean"], found["full"]) == (True, True)
    assert (found["objects"], found["divergent"], found["unread"], found["busy"]) == (3, 0, 0, 0)
    assert found["differences"] == []


DAMAGE: dict[str, tuple[Callable[[Store], object], str]] = {
    "bytes": (lambda store: _rewrite(store, "b", b"2!"), "bytes"),
    "size": (lambda store: _rewrite(store, "b", b"2"), "size"),
    "metadata": (lambda store: _rewrite(store, "b", metadata={"note": "n"}), "metadata"),
    "cache control": (lambda store: _rewrite(store, "b", cache_control="no-store"), "metadata"),
    "revision": (lambda store: _rewrite(store, "b", metadata={REVISION: "x"}), "revision"),
    "digest": (lambda store: _rewrite(store, "b", metadata={SHA256: "0" * 64}), "digest"),
    "foreign": (lambda store: store.write("b", b"22"), "revision"),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("damaged", [right, other])
def test_damage_of_any_kind_is_found_on_either_side(
    world: World, one: Process, name: str, damaged: Callable[[World], Store]
) -> None:
    damage, how = DAMAGE[name]
    damage(damaged(world))
    found = one.verify()
    assert not found["clean"]
    assert (found["objects"], found["divergent"]) == (3, 1)
    assert [tuple(line) for line in found["differences"]] == [("b", how)]


@pytest.mark.parametrize(("side", "how"), [("source", "source"), ("target", "target")])
def test_what_is_missing_on_a_side_is_found(
    world: World, one: Process, side: str, how: str
) -> None:
    store = world.source if side == "source" else world.target
    store.remove("c")
    found = one.verify()
    assert [tuple(line) for line in found["differences"]] == [("c", f"missing on the {how}")]


@pytest.mark.parametrize("key", ["!", "bb", "zz"])
def test_what_is_too_much_on_a_side_is_found_wherever_it_stands(
    world: World, one: Process, key: str
) -> None:
    other(world).write(key, b"zombie")
    found = one.verify()
    assert (found["objects"], found["divergent"]) == (4, 1)
    assert found["differences"][0][0] == key


def test_every_difference_is_counted_and_a_hundred_are_named(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "LISTED", 4)
    for number in range(9):
        other(world).write(f"zombie{number}", b"")
    found = one.verify()
    assert (found["divergent"], len(found["differences"])) == (9, 4)


def test_bytes_are_compared_with_the_writers_own_digest(world: World, one: Process) -> None:
    import hashlib

    digest = hashlib.sha256(b"body").hexdigest()
    attributes = Attributes(metadata={REVISION: "r", SHA256: digest})
    drive(one.storage.put("d", b"body", attributes))
    right(world).calls.clear()
    other(world).calls.clear()
    assert one.verify()["clean"]
    # Three have none, so that both sides are read; and the target always is.
    reads = (world.source.calls.count("get"), world.target.calls.count("get"))
    assert reads == ((4, 4) if right(world) is world.target else (3, 4))
    _rewrite(other(world), "d", b"BODY")
    assert [tuple(line) for line in one.verify()["differences"]] == [("d", "bytes")]


@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_of_a_sample_all_are_described_and_some_are_read(
    world: World, one: Process, sample: float
) -> None:
    other(world).calls.clear()
    found = one.verify(sample=sample)
    assert found["clean"]
    assert (found["sample"], found["full"]) == (sample, sample == 1)
    assert other(world).calls.count("get") == (3 if sample else 0)
    assert found["size"] == (12 if sample else 0)
    _rewrite(other(world), "b", b"2")
    assert not one.verify(sample=sample)["clean"]


@pytest.mark.parametrize("sample", [-0.1, 1.1, float("nan")])
def test_a_sample_is_a_share(one: Process, sample: float) -> None:
    with pytest.raises(InvalidArgumentError):
        one.verify(sample=sample)


def test_progress_and_failures_are_told(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_BATCH", 2)
    other(world).write("z", b"")
    told: list[Progress] = []
    one.verify(report=told.append)
    lines = [(line.done, line.failed) for line in told if line.act == "verify" and not line.waiting]
    assert lines == [(2, 0), (4, 1), (4, 1)] or lines == [(2, 0), (4, 1)]


# While others write ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda two: two.put("b", b"newer"),
        lambda two: two.delete("b"),
        lambda two: two.put("new", b""),
    ],
    ids=["put", "delete", "new"],
)
@pytest.mark.parametrize("method", ["list", "head", "get"])
def test_what_changes_meanwhile_is_looked_at_again(
    world: World, one: Process, method: str, act: Callable[[Process], object]
) -> None:
    two = world.process()
    two.put("warm", b"")
    for store in (world.source, world.target):
        store.before(method, lambda: act(two))
    found = one.verify()
    assert found["clean"], found


def test_what_somebody_is_about_to_bring_in_line_is_no_difference(
    world: World, one: Process
) -> None:
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        one.put("b", b"newer")
    found = one.verify()
    assert (found["clean"], found["pending"], found["divergent"]) == (True, 1, 0)


def test_what_is_brought_in_line_while_it_looks_is_found_so(world: World, one: Process) -> None:
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        one.put("b", b"newer")
    two = world.process()

    def repaired() -> None:
        world.clock.advance(60)
        two.repair()

    world.clock.asleep += [lambda: None, repaired]
    found = one.verify()
    assert (found["clean"], found["pending"]) == (True, 0)


def test_what_never_stands_still_is_busy_and_not_clean(world: World, one: Process) -> None:
    count = iter(range(1000))
    world.source.after(
        "head", lambda: world.source.write("b", str(next(count)).encode()), always=True
    )
    found = one.verify()
    assert not found["clean"]
    assert found["busy"] >= 1


def test_an_old_difference_without_an_intent_is_one_however_busy_the_rest_is(
    world: World, one: Process
) -> None:
    two = world.process()
    other(world).remove("a")
    do_at(Point.READ_ANSWERED, lambda: two.put("c", b"newer"))
    found = one.verify()
    assert [tuple(line) for line in found["differences"]] == [
        ("a", "missing on the source" if other(world) is world.source else "missing on the target")
    ]


# When stores fail -----------------------------------------------------------------------------


def test_a_moments_failure_is_asked_again(world: World, one: Process) -> None:
    for method in ("head", "get", "list"):
        other(world).before(method, lost)
    assert one.verify()["clean"]


def test_what_cannot_be_read_is_unread_and_not_clean(world: World, one: Process) -> None:
    from cm_platform.errors import PermissionDeniedError

    def denied() -> None:
        raise PermissionDeniedError("no")

    other(world).before("get", denied)
    found = one.verify()
    assert (found["clean"], found["unread"], found["divergent"]) == (False, 1, 0)
    assert found["differences"][0][1].startswith("unread: permission_denied")


def test_a_listing_that_fails_ends_it_without_evidence(world: World, one: Process) -> None:
    before = drive(world.ledger.inner.log(SUBJECT))
    notes = drive(world.ledger.inner.notes(SUBJECT))
    other(world).before("list", lost, always=True)
    with pytest.raises(UnavailableError):
        one.verify()
    after = drive(world.ledger.inner.notes(SUBJECT))
    assert {name: note.body for name, note in after.items()} == {
        name: note.body for name, note in notes.items()
    }
    assert drive(world.ledger.inner.log(SUBJECT)) == before


def test_a_cursor_that_expires_counts_no_key_twice(
    world: World, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cm_platform.migration.storage import listing

    monkeypatch.setattr(listing.pages, "__kwdefaults__", {"size": 2})
    listed = other(world).inner.list
    refusals: list[str] = []

    async def forgetful(prefix: str, **options: Any) -> Any:
        if options["cursor"] is not None and not refusals:
            refusals.append("expired")
            raise InvalidArgumentError("the cursor has expired")
        return await listed(prefix, **options)

    other(world).inner.list = forgetful
    found = one.verify()
    assert refusals
    assert (found["clean"], found["objects"]) == (True, 3)


# Evidence -------------------------------------------------------------------------------------


def test_a_stage_that_changes_meanwhile_makes_it_no_evidence(world: World) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()
    do_at(Point.VERIFIED, lambda: two.rollback())
    with pytest.raises(UnavailableError, match="verify again"):
        one.verify()
    assert VERIFICATION not in drive(world.ledger.inner.notes(SUBJECT))


def test_a_rollback_to_off_takes_a_late_verification_away(world: World) -> None:
    one, two = world.process().to(Stage.SHADOW), world.process()

    def overtake() -> None:
        two.rollback(Stage.OFF)
        two.advance()
        two.backfill()
        two.advance()

    world.ledger.before("note", overtake)
    one.verify()
    assert drive(two.migration.missing()) == ["nothing was verified"]


def test_it_repairs_what_is_due_before_it_looks(world: World, one: Process) -> None:
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        one.put("b", b"newer")
    world.clock.advance(60)
    found = one.verify()
    assert (found["clean"], found["pending"]) == (True, 0)
    assert world.pending().count == 0
