"""`cm-platform migrate prove` sees what it is there to see."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.migration.intents import Held, Intents


def test_two_directories_are_proved_through_every_stage_and_back(run: Any) -> None:
    done = run("migrate", "prove", "--seconds", "1", "--seed", "7", "--json")
    assert done.code == 0
    proof = done.document
    assert proof["holds"] is True
    stages = ["off", "dualwrite", "shadow", "live", "rampdown"]
    assert proof["stages"] == [*stages, *stages[-2::-1], *stages[1:]]
    assert proof["faults"]["lost_reply"] > 0
    assert proof["operations"]["put done"] > 50


def test_another_migration_than_is_configured_is_refused(run: Any) -> None:
    done = run("migrate", "prove", "--migration", "to-nowhere", "--embedded")
    assert done.code == 2
    assert "no migration of storage has this name" in done.stderr


@pytest.mark.prove
def test_a_protocol_without_its_intents_is_found_out(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Intents.finish

    async def forgetful(self: Intents, held: Held, clean: Any, *, after: float = 0.0) -> bool:
        held.doubt.clear()
        return await finish(self, held, list(held.ids), after=after)

    monkeypatch.setattr(Intents, "finish", forgetful)
    codes = {run("migrate", "prove", "--seconds", "20", "--seed", seed).code for seed in range(5)}
    assert codes != {0}
