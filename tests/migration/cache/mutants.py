"""The protocol with one guard removed: what the simulation must see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from cm_platform.cache.backend import CacheBackend
from cm_platform.migration.cache import (
    assembling,
    atomics,
    judging,
    mover,
    moving,
    names,
    reads,
    standing,
    writes,
)
from cm_platform.migration.cache.moving import Moving
from cm_platform.migration.cache.reads import Here
from cm_platform.migration.cache.standing import Phase, Standing

from .simulating import AND_AGAIN, AND_BACK, LATE, THERE, Scenario


@dataclass(frozen=True, slots=True)
class Mutant:
    """break_it: removes the guard. scenario: in which it is needed."""

    name: str
    break_it: Callable[[pytest.MonkeyPatch], None]
    scenario: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def scenarios(self, seed: int) -> Scenario:
        way = (THERE, AND_BACK, AND_AGAIN)[seed % 3]
        return Scenario(
            seed,
            way=self.scenario.get("way", way),
            **{name: value for name, value in self.scenario.items() if name != "way"},
        )


async def _nothing(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {}


def _values_are_not_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writes.Writer, "_taken", _nothing)
    patch.setattr(writes.Writer, "take", _nothing)


def _deletes_stay_on_one_side(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writes.Writer, "take", _nothing)


def _always(answer: Any) -> Callable[..., Any]:
    def answered(*args: Any, **kwargs: Any) -> Any:
        return answer

    return answered


def _writes_are_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing.Standing, "same_way", _always(True))


def _nothing_is_flushed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "_floor", _always(0))
    patch.setattr(mover, "raise_all", _nothing)


def _values_are_copied_blindly(patch: pytest.MonkeyPatch) -> None:
    async def settle(self: Moving, at: Standing, partition: str, key: str) -> Here:
        name = names.read_name(key)
        here = await self.reader.one(at, partition, key, name)
        if here.value is not None or not self.can(at) or name.is_version:
            return here
        _, value = await self.reader.left(at, partition, key, name, here.told)
        if value is not None:
            found: bytes = value
            pair = self._pair  # pyright: ignore[reportPrivateUsage]
            ttl = judging.seconds_left(found, pair.runtime.clock.wall())

            def put(backend: CacheBackend) -> Any:
                return backend.set(partition, key, found, ttl=ttl)

            await pair.on(at.authority, put)
        return Here(value, value, here.told)

    patch.setattr(moving.Moving, "settle", settle)


def _clears_stay_on_one_side(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(atomics.Atomics, "_raise_left", _nothing)


def _absence_is_believed_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "_LOOKS", 1)
    patch.setattr(reads, "carried", _always(None))


def _generations_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    def told(self: Any, at: Any, partition: str, namespace: str, own: int | None) -> int | None:
        return own

    patch.setattr(reads.Reader, "told", told)


def _counters_begin_by_what_the_service_knows(patch: pytest.MonkeyPatch) -> None:
    def stamped(data: bytes, generation: int) -> bytes:
        return data

    patch.setattr(atomics, "stamped", stamped)


def _what_was_given_away_is_overwritten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(moving, "belongs", _always(False))


def _the_last_phase_holds_at_once(patch: pytest.MonkeyPatch) -> None:
    genuine = standing.phases_of

    def phases_of(*args: Any) -> list[Phase]:
        return genuine(*args)[-1:]

    patch.setattr("cm_platform.migration.cache.stand.phases_of", phases_of)


def _nothing_need_be_exact(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("cm_platform.migration.cache.stand.longest_exact", _always(0.0))


def _a_delete_leaves_nothing(patch: pytest.MonkeyPatch) -> None:
    async def gone(self: Any, at: Standing, partition: str, keys: Any) -> Any:
        return await genuine(self, at._replace(late=False), partition, keys)

    genuine: Any = writes.Writer._gone  # pyright: ignore[reportPrivateUsage]
    patch.setattr(writes.Writer, "_gone", gone)


def _tombstones_are_short(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(assembling, "staleness", _always(0.05))


_FEW: Final = {"counting": False}

MUTANTS: Final = [
    Mutant("values are not taken", _values_are_not_taken, _FEW),
    Mutant("deletes stay on one side", _deletes_stay_on_one_side, {**_FEW, "target_late": LATE}),
    Mutant("writes are not confirmed", _writes_are_not_confirmed, _FEW),
    Mutant("nothing is flushed", _nothing_is_flushed, {**_FEW, "target_late": LATE}),
    Mutant("values are copied blindly", _values_are_copied_blindly),
    Mutant("clears stay on one side", _clears_stay_on_one_side, _FEW),
    Mutant(
        "what is left is let go at once",
        _the_last_phase_holds_at_once,
        {**_FEW, "way": AND_BACK, "hurry": 0.6, "lease": 3.0},
    ),
    Mutant("counters are let go at once", _nothing_need_be_exact, {"way": AND_BACK, "hurry": 0.7}),
    Mutant("a delete leaves nothing", _a_delete_leaves_nothing, {**_FEW, "source_late": LATE}),
    Mutant("tombstones are short", _tombstones_are_short, {**_FEW, "source_late": LATE}),
    Mutant("absence is believed", _absence_is_believed_at_once),
    Mutant("generations are not remembered", _generations_are_not_remembered),
    Mutant("counters begin anew", _counters_begin_by_what_the_service_knows),
    Mutant("journals are overwritten", _what_was_given_away_is_overwritten, {"crash": 0.002}),
]
