"""The plan: what a move would mean, what would be lost by it, and what stands against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cm_platform.errors import PermissionDeniedError, PreconditionFailedError
from cm_platform.migration.mover import Planned
from cm_platform.migration.progress import Progress
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import Attributes, ObjectInfo

from .doubles import SUBJECT, World, lost


def plan(world: World) -> Planned:
    return drive(world.process().migration.plan())


def told(found: Planned, what: str) -> dict[str, tuple[int, list[str]]]:
    """Losses or obstacles: how often, and examples."""
    lines: list[dict[str, Any]] = found.body[what]
    return {line["what"]: (line["count"], line["examples"]) for line in lines}


def test_what_would_be_moved_is_counted(world: World) -> None:
    one = world.process()
    one.put("ours", b"12345")
    world.source.write("theirs", b"123")
    found = plan(world)
    assert (found.objects, found.losses, found.obstacles) == (2, 0, 0)
    body: Mapping[str, Any] = found.body
    assert (body["size"], body["foreign"], body["present"]) == (8, 1, 0)
    assert len(body["declared"]) == 4


def test_it_changes_nothing_and_starts_nothing(world: World) -> None:
    world.source.write("k", b"1")
    world.source.calls.clear()
    plan(world)
    assert set(world.source.calls) | set(world.target.calls) <= {"list", "head"}
    assert drive(world.ledger.inner.state(SUBJECT)) is None
    assert drive(world.ledger.inner.log(SUBJECT)) == []


def test_what_an_object_has_and_a_copy_would_not_is_a_loss(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a", "b", "c"):
        world.source.write(key, b"")
    head = world.source.inner.head

    async def described(key: str, *, uncarried: bool = False) -> ObjectInfo:
        info: ObjectInfo = await head(key, uncarried=uncarried)
        if not uncarried:
            return info
        lost_ = {"a": {"tags", "expires"}, "b": {"tags"}, "c": set[str]()}
        return replace(info, uncarried=frozenset(lost_[key]))

    monkeypatch.setattr(world.source.inner, "head", described)
    found = plan(world)
    assert found.losses == 2
    assert told(found, "losses") == {
        "has expires, which is not carried": (1, ["a"]),
        "has tags, which is not carried": (2, ["a", "b"]),
    }
    one = world.process()
    with pytest.raises(PreconditionFailedError, match="--accept-losses"):
        one.start()
    one.start(accept_losses=True)
    (line,) = drive(one.migration.log())
    assert line.evidence["accepted"] is True
    assert line.evidence["losses"] == 2


def test_what_the_target_has_already_is_a_loss_unless_it_is_the_same(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    one.put("same", b"1")
    one.rollback(Stage.OFF)
    world.source.write("changed", b"1")
    world.target.write("changed", b"2")
    world.target.write("only there", b"3")
    found = plan(world)
    assert told(found, "losses") == {
        "is on the target in another version, which would be replaced": (1, ["changed"]),
        "is on the target only, and would be removed there": (1, ["only there"]),
    }
    assert (found.objects, found.body["present"]) == (2, 1)


def test_examples_are_few(world: World) -> None:
    for number in range(9):
        world.target.write(f"k{number}", b"")
    ((count, examples),) = told(plan(world), "losses").values()
    assert (count, examples) == (9, [f"k{number}" for number in range(5)])


def test_what_the_target_cannot_hold_is_an_obstacle(world: World) -> None:
    world.target.limits = replace(
        world.target.limits, max_key=8, max_metadata=100, max_part=4, max_parts=2
    )
    world.source.write("a key that is long", b"")
    world.source.write("large", b"123456789")
    world.source.write("told", b"", note="n" * 60)
    drive(world.source.inner.put("odd", b"", Attributes(content_language="é")))
    found = plan(world)
    obstacles = told(found, "obstacles")
    assert {examples[0] for _, examples in obstacles.values()} == {
        "a key that is long",
        "large",
        "told",
        "odd",
    }
    assert found.obstacles == 4
    with pytest.raises(PreconditionFailedError, match="4 kinds of obstacles"):
        world.process().start(accept_losses=True)
    assert drive(world.ledger.inner.state(SUBJECT)) is None


def test_a_key_is_as_long_as_its_bytes(world: World) -> None:
    world.target.limits = replace(world.target.limits, max_key=8)
    world.source.write("é" * 4, b"")
    world.source.write("é" * 4 + "x", b"")
    ((count, examples),) = told(plan(world), "obstacles").values()
    assert (count, examples) == (1, ["é" * 4 + "x"])


def test_what_cannot_be_described_is_an_obstacle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.write("k", b"")

    async def denied(key: str, **options: object) -> ObjectInfo:
        raise PermissionDeniedError("no")

    monkeypatch.setattr(world.source.inner, "head", denied)
    assert told(plan(world), "obstacles") == {"cannot be described: permission_denied": (1, ["k"])}


def test_a_moments_failure_is_no_obstacle(world: World) -> None:
    world.source.write("k", b"")
    for method in ("list", "head"):
        world.source.before(method, lost)
        world.target.before(method, lost)
    assert plan(world).obstacles == 0


def test_what_is_removed_while_it_looks_is_nothing(world: World) -> None:
    world.source.write("k", b"")
    world.source.before("head", lambda: world.source.remove("k"))
    found = plan(world)
    assert (found.objects, found.losses, found.obstacles) == (0, 0, 0)


def test_capabilities_that_will_be_gone_are_named(tmp_path: Path) -> None:
    world = World(tmp_path, lacks={"target": ["conditional_delete"]})
    world.target.capabilities = world.target.inner.capabilities
    try:
        found = plan(world)
        assert found.body["capabilities"] == ["conditional_delete", "presign"]
        assert "conditional_delete" not in world.process().storage.capabilities
    finally:
        world.close()


def test_progress_is_told(world: World) -> None:
    for number in range(70):
        world.source.write(f"{number}", b"1")
    lines: list[Progress] = []
    drive(world.process().migration.plan(lines.append))
    assert [line.done for line in lines] == [64, 70]
    assert {line.act for line in lines} == {"plan"}


# Starting -------------------------------------------------------------------------------------


def test_nothing_starts_without_the_declaration(world: World) -> None:
    with pytest.raises(PreconditionFailedError, match="--no-other-writers"):
        world.process().start(no_other_writers=False)
    assert drive(world.ledger.inner.state(SUBJECT)) is None


def test_the_plan_is_kept_and_who_started_is_known(world: World) -> None:
    one = world.process()
    one.put("k", b"1")
    state = one.start()
    assert (state.stage, state.epoch, state.authority) == (Stage.OFF, 1, "source")
    evidence = drive(one.migration.evidence())
    assert evidence.notes["plan"].body["objects"] == 1
    (line,) = drive(one.migration.log())
    assert (line.who, line.before, line.to) == ("tester", None, Stage.OFF)
    assert line.evidence["no_other_writers"] is True


def test_what_was_started_is_not_started_again_under_way(world: World) -> None:
    one = world.process()
    one.start()
    one.start()
    one.advance()
    with pytest.raises(PreconditionFailedError, match="under way already"):
        one.start()
    assert world.state().stage is Stage.DUALWRITE


def test_a_start_whose_answer_was_lost_has_started_once(world: World) -> None:
    one = world.process()
    world.ledger.after("start", lost)
    assert one.start().epoch == 1
    assert len(drive(one.migration.log())) == 1


def test_after_off_it_starts_anew_without_what_was_known(world: World) -> None:
    one = world.process()
    one.put("k", b"1")
    one.to(Stage.SHADOW)
    one.rollback(Stage.OFF)
    state = one.start(accept_losses=True)
    assert state.epoch > 1
    evidence = drive(one.migration.evidence())
    assert set(evidence.notes) == {"plan"}
    one.to(Stage.COMPLETE)
    assert one.get("k") == b"1"


def test_a_home_that_is_not_the_source_is_refused(world: World) -> None:
    from cm_platform.migration.control import AsyncMigration

    one = world.process()
    migration = AsyncMigration(
        world.ledger, SUBJECT, one.terms, one.mover, one.runtime, home="elsewhere"
    )
    with pytest.raises(PreconditionFailedError, match="is on elsewhere"):
        drive(migration.start(no_other_writers=True))
