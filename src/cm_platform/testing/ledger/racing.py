"""The suite of races: writers, movers and repairers at once, in threads or tasks.

The fence's own race is in here: an intent that passes the check while a pause is being written,
and becomes visible after it was answered.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from cm_platform.migration.ledger import Busy, Fenced, Ledger, Subject, authority
from cm_platform.routing import Stage

from .harness import PATIENCE, LedgerFace, LedgerHarness, Moving, Opened
from .subject import LONG, intent_at, move_to

LEASE: Final = 0.02
"""Seconds; what a flip must be announced for in these tests."""

_POLL: Final = 0.002


@dataclass
class Stages:
    """What all know of the subject's way. Written by whoever moves it, when that was answered.

    moved: the newest epoch. flipped: the newest one by which the authority changed.
    pause: the number of the pause that is in force, 0 if none. begun: how many intents.
    broken: what must not have happened.
    """

    moved: int = 0
    flipped: int = 0
    pause: int = 0
    over: bool = False
    begun: int = 0
    broken: list[str] = field(default_factory=list[str])


class RacingConformance(LedgerHarness):
    """What holds while everything happens at once."""

    def test_after_a_pause_was_answered_no_intent_begins(
        self, face: LedgerFace, subject: Subject
    ) -> None:
        moving = self.started(face, subject, lease=LEASE)
        moving.to_dualwrite()
        seen = Stages(moved=moving.epoch)

        async def pauser() -> None:
            ledger, sleep = face.ledger, face.runtime.sleep
            try:
                for number in range(1, 13):
                    await sleep(_POLL)
                    await ledger.pause(subject, seen.moved, LONG)
                    seen.pause = number
                    count = (await ledger.pending(subject)).count
                    deadline = time.monotonic() + PATIENCE
                    while count and time.monotonic() < deadline:
                        await sleep(_POLL / 4)
                        before, count = count, (await ledger.pending(subject)).count
                        if count > before:
                            seen.broken.append(f"{count} intents, after {before}")
                    for _ in range(3):
                        if (await ledger.pending(subject)).count:
                            seen.broken.append("an intent, after there was none")
                    seen.pause = 0
                    await ledger.pause(subject, seen.moved, 0)
            finally:
                seen.over = True

        face.at_once([pauser(), *_writers(face, None, subject, seen)])
        assert seen.broken == []
        assert seen.begun > 0, "nobody wrote: the test has seen nothing"

    def test_after_a_flip_was_answered_nobody_writes_in_the_epoch_before(
        self, face: LedgerFace, subject: Subject
    ) -> None:
        moving = self.started(face, subject, lease=LEASE)
        moving.to_dualwrite()
        self._race(face, None, moving)

    def test_the_same_holds_between_two_that_have_opened_the_ledger(
        self, face: LedgerFace, other: Opened, subject: Subject
    ) -> None:
        moving = self.started(face, subject, lease=LEASE)
        moving.to_dualwrite()
        self._race(face, other.ledger, moving)

    def test_many_movers_at_once_leave_one_way(self, face: LedgerFace, subject: Subject) -> None:
        moving = self.started(face, subject, lease=0.0)
        moving.to_dualwrite()
        ways = {
            Stage.DUALWRITE: Stage.SHADOW,
            Stage.SHADOW: Stage.LIVE,
            Stage.LIVE: Stage.RAMPDOWN,
            Stage.RAMPDOWN: Stage.LIVE,
        }

        async def mover(number: int) -> list[str]:
            made: list[str] = []
            for _ in range(10):
                state = await face.ledger.state(subject)
                assert state is not None
                to = ways[state.stage]
                if number % 2 and state.stage is Stage.LIVE:
                    to = Stage.SHADOW
                move = move_to(to, who=f"mover {number}")
                try:
                    if authority(to) != state.authority:
                        await face.ledger.announce(subject, state.epoch, LONG)
                        await face.ledger.pause(subject, state.epoch, LONG)
                    await face.ledger.move(subject, state.epoch, move)
                except (Fenced, Busy):
                    continue
                made.append(move.id)
            return made

        made = face.at_once([mover(number) for number in range(5)])
        log = list(moving.ledger.log(subject))
        assert len({line.epoch for line in log}) == len(log)
        assert [line.epoch for line in log] == sorted(line.epoch for line in log)
        assert [line.before for line in log[1:]] == [line.to for line in log[:-1]]
        assert sorted(line.id for line in log[2:]) == sorted(id_ for some in made for id_ in some)
        assert (moving.state.stage, moving.epoch) == (log[-1].to, log[-1].epoch)

    def test_writers_of_many_subjects_do_not_wait_for_each_others_flips(
        self, face: LedgerFace
    ) -> None:
        ours = [self.started(face, lease=LEASE) for _ in range(3)]
        for moving in ours:
            moving.to_dualwrite()
        ours[0].pause()

        async def writer(moving: Moving, epoch: int) -> int:
            done = 0
            for _ in range(10):
                intent = intent_at("key")
                try:
                    await face.ledger.begin(moving.subject, epoch, intent.id, [intent], LONG)
                except Fenced:
                    continue
                await face.ledger.end(intent.id, [intent.id])
                done += 1
            return done

        epochs = [moving.epoch for moving in ours]
        found = face.at_once(
            [writer(moving, epoch) for moving, epoch in zip(ours, epochs, strict=True)]
        )
        assert found == [0, 10, 10]
        assert [moving.pending.count for moving in ours] == [0, 0, 0]

    def _race(self, face: LedgerFace, other: Ledger | None, moving: Moving) -> None:
        subject = moving.subject
        seen = Stages(moved=moving.epoch)
        flips = 4
        face.at_once([_flipper(face, subject, seen, flips), *_writers(face, other, subject, seen)])
        assert seen.broken == []
        assert seen.begun > 0, "nobody wrote: the test has seen nothing"
        log = list(moving.ledger.log(subject))
        assert len(log) == 2 + flips
        assert moving.epoch == seen.flipped
        assert moving.pending.count == 0


async def _flipper(face: LedgerFace, subject: Subject, seen: Stages, flips: int) -> None:
    ledger, sleep = face.ledger, face.runtime.sleep
    try:
        for number in range(flips):
            epoch = seen.moved
            move = move_to(Stage.DUALWRITE if number % 2 else Stage.LIVE)
            await ledger.announce(subject, epoch, LONG)
            await sleep(LEASE * 1.2)
            await ledger.pause(subject, epoch, LONG)
            deadline = time.monotonic() + PATIENCE
            while seen.moved == epoch:
                try:
                    state = await ledger.move(subject, epoch, move)
                except Busy:
                    assert time.monotonic() < deadline, "it never came to a flip"
                    await sleep(_POLL)
                else:
                    seen.moved = seen.flipped = state.epoch
            for _ in range(10):
                if await ledger.is_pending(subject, f"epoch-{epoch}"):
                    seen.broken.append("an intent of the epoch before")
                await sleep(_POLL / 2)
    finally:
        seen.over = True


def _writers(
    face: LedgerFace, other: Ledger | None, subject: Subject, seen: Stages
) -> list[Coroutine[Any, Any, None]]:
    ledgers = [face.ledger, other or face.ledger]
    return [_writer(face, ledgers[n % 2], subject, seen) for n in range(6)]


async def _writer(face: LedgerFace, ledger: Ledger, subject: Subject, seen: Stages) -> None:
    while not seen.over:
        state = await ledger.state(subject)
        assert state is not None
        intent = intent_at(f"epoch-{state.epoch}")
        pause = seen.pause
        try:
            await ledger.begin(subject, state.epoch, intent.id, [intent], LONG)
        except Fenced:
            await face.runtime.sleep(_POLL / 4)
            continue
        seen.begun += 1
        if pause and seen.pause == pause:
            seen.broken.append("begun in a pause that was answered before")
        for _ in range(2):
            # It stands: as long as it does, nobody can have been told of a flip.
            if seen.flipped > state.epoch:
                seen.broken.append("begun in an epoch whose end was answered before")
            await face.runtime.sleep(_POLL / 4)
        await ledger.end(intent.id, [intent.id])


__all__ = ["RacingConformance"]
