"""Processes that die where a test wants them to."""

from __future__ import annotations

from cm_platform.migration import points
from cm_platform.migration.points import Point, reach
from cm_platform.testing.simulation import CrashPoints, Simulation


async def _protocol(log: list[str], name: str) -> None:
    for number in range(3):
        await reach(Point.INTENT_BEGUN)
        log.append(f"{name}{number}")
        await reach(Point.AUTHORITY_CHANGED)


def _run(seed: int, *crashes: tuple[str, int], **more: bool) -> tuple[list[str], CrashPoints]:
    log: list[str] = []
    with Simulation(seed) as simulation:
        hook = CrashPoints(simulation, *crashes, allowed=lambda: more.get("allowed", True))
        with hook.installed():
            tasks = [simulation.process(name).spawn(_protocol(log, name)) for name in "ab"]
            simulation.run(until=tasks)
    return log, hook


def test_what_is_reached_is_counted() -> None:
    log, hook = _run(1)
    assert len(log) == 6
    assert hook.reached == {"intent-begun": 6, "authority-changed": 6}
    assert hook.struck == []


def test_one_process_dies_at_the_nth_time() -> None:
    for seed in range(20):
        log, hook = _run(seed, (Point.AUTHORITY_CHANGED, 2))
        assert hook.struck == [("authority-changed", 2)]
        # It had got there, and no further.
        lengths = sorted(sum(entry[0] == name for entry in log) for name in "ab")
        assert lengths in ([1, 3], [2, 3])


def test_two_may_die() -> None:
    log, hook = _run(1, (Point.INTENT_BEGUN, 1), (Point.INTENT_BEGUN, 2))
    assert log == []
    assert len(hook.struck) == 2


def test_nobody_dies_where_it_is_not_allowed() -> None:
    log, hook = _run(1, (Point.INTENT_BEGUN, 1), allowed=False)
    assert (len(log), hook.struck, dict(hook.reached)) == (6, [], {})


def test_the_hook_is_taken_away() -> None:
    _run(1)
    assert points.hook is None
