"""The runbook's commands, typed as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cm_platform.cli.exits import MEANINGS

from .conftest import Done
from .migrate_scene import DAY, Scene, scene

__all__ = ["scene"]

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOK = (DOCS / "migration-runbook.md").read_text(encoding="utf-8")
KEYS = ("a", "press/one", "press/two")


def section(title: str) -> str:
    """The text under a heading."""
    return RUNBOOK.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_steps_there_lead_to_the_end(scene: Scene) -> None:
    scene.put(*KEYS)
    commands = re.findall(r"^\| [a-z ]+ \| `([^`]+)`", section("There"), re.MULTILINE)
    assert len(commands) == 10
    for command in commands:
        words = command.replace("cm-platform migrate", "...").removeprefix("... ").split()
        words = [word for word in words if not word.startswith("[")]
        if words[0] == "plan":
            assert words[1:] == ["--service", "storage", "--tenant", "acme"]
            words = words[:3]
        if words[0] == "complete":
            scene.clock.sleep(DAY)
        done = scene.migrate(*words)
        assert done.code == 0, (command, done)
    assert scene.stage() == "complete"


@pytest.mark.parametrize("stage", ["dualwrite", "shadow", "live", "rampdown"])
def test_the_way_back_leads_back(scene: Scene, run: Callable[..., Done], stage: str) -> None:
    scene.put(*KEYS)
    scene.reach(stage)
    commands = re.findall(r"^    cm-platform (migrate [^#\n]+)", section("Back"), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = run(*command.split())
        # One stage back from the first is all the way already.
        assert done.code == (2 if stage == "dualwrite" and command is commands[1] else 0)
    assert scene.stage() == "off"
    with scene.storage() as storage:
        assert {key: storage.get(key).read() for key in KEYS} == {key: key.encode() for key in KEYS}


def test_every_exit_code_is_explained() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    assert listed == [int(code) for code in MEANINGS]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section("There"), re.MULTILINE)}
    assert told <= set(listed)
