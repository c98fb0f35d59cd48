"""A subject on its way through the stages, with short names for what most tests do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import pytest

from cm_platform.migration.ledger import (
    Busy,
    Fenced,
    Intent,
    Move,
    Pending,
    Purpose,
    State,
    Subject,
    Terms,
    authority,
)
from cm_platform.routing import Stage

from .face import LedgerFace

LONG: Final = 1000.0
"""Seconds; longer than a test."""

WRITER: Final = "writer"
REPAIRER: Final = "repairer"


class Moving:
    """A subject and its ledger. Leases are `LONG` and owners `WRITER`, unless it is said."""

    def __init__(
        self, face: LedgerFace, subject: Subject, pass_time: Callable[[float], None]
    ) -> None:
        self.face = face
        self.ledger = face.calls
        self.subject = subject
        self._pass_time = pass_time

    @property
    def state(self) -> State:
        """Where it is."""
        found = self.ledger.state(self.subject)
        assert isinstance(found, State)
        return found

    @property
    def epoch(self) -> int:
        """The current one."""
        return self.state.epoch

    @property
    def pending(self) -> Pending:
        """Its intents."""
        found = self.ledger.pending(self.subject)
        assert isinstance(found, Pending)
        return found

    def is_pending(self, key: str) -> bool:
        """Whether there is an intent for the key."""
        found = self.ledger.is_pending(self.subject, key)
        assert isinstance(found, bool)
        return found

    # Intents ------------------------------------------------------------------------------

    def begin(
        self,
        *intents: Intent | str,
        epoch: int | None = None,
        owner: str = WRITER,
        lease: float = LONG,
    ) -> list[str]:
        """Begin intents, given as such or by their keys; their ids."""
        taken = [intent_at(one) if isinstance(one, str) else one for one in intents]
        epoch = self.epoch if epoch is None else epoch
        self.ledger.begin(self.subject, epoch, owner, taken, lease)
        return [intent.id for intent in taken]

    def is_refused(
        self, *, epoch: int | None = None, purpose: Purpose = Purpose.WRITE, key: str = "refused"
    ) -> bool:
        """Whether an intent may not begin now. One that may is ended again."""
        before = self.pending.count
        intent = intent_at(key, purpose)
        try:
            self.begin(intent, epoch=epoch)
        except Fenced:
            assert self.pending.count == before, "refused, and there all the same"
            assert not self.is_pending(key)
            return True
        self.ledger.end(WRITER, [intent.id])
        return False

    def claim(
        self, *, owner: str = REPAIRER, lease: float = LONG, limit: int = 100
    ) -> list[Intent]:
        """Take over what is due."""
        return list(self.ledger.claim(self.subject, owner, lease, limit))

    # Stages -------------------------------------------------------------------------------

    def start(self, terms: Terms, move: Move | None = None) -> State:
        """Begin a migration."""
        found = self.ledger.start(self.subject, terms, move or move_to(Stage.OFF))
        assert isinstance(found, State)
        return found

    def announce(self, seconds: float = LONG) -> None:
        """Announce a flip."""
        self.ledger.announce(self.subject, self.epoch, seconds)

    def pause(self, seconds: float = LONG) -> None:
        """Pause writing."""
        self.ledger.pause(self.subject, self.epoch, seconds)

    def prepare_flip(self) -> None:
        """Announce it for as long as it must be, and pause."""
        self.announce()
        self._pass_time(self.state.terms.lease + 0.001)
        self.pause()

    def move(self, to: Stage | Move, *, epoch: int | None = None) -> State:
        """Enter a stage, with nothing prepared."""
        move = to if isinstance(to, Move) else move_to(to)
        epoch = self.epoch if epoch is None else epoch
        found = self.ledger.move(self.subject, epoch, move)
        assert isinstance(found, State)
        return found

    def to(self, *stages: Stage) -> State:
        """Enter stages one after the other, with flips prepared."""
        for stage in stages:
            if authority(stage) != self.state.authority:
                self.prepare_flip()
            self.move(stage)
        return self.state

    def to_dualwrite(self) -> None:
        """Enter the first stage in which both sides are written."""
        self.move(Stage.DUALWRITE)

    def is_busy(self, to: Stage) -> bool:
        """Whether it may not flip now. One that may has done so."""
        try:
            self.move(to)
        except Busy:
            return True
        return False

    def check_busy(self, to: Stage) -> str:
        """It may not flip now, and nothing has changed by the attempt; why."""
        before, lines = self.state, len(self.ledger.log(self.subject))
        with pytest.raises(Busy) as caught:
            self.move(to)
        after = self.state
        assert (after.stage, after.epoch) == (before.stage, before.epoch)
        assert (after.paused, after.lease) == (before.paused, before.lease)
        assert len(self.ledger.log(self.subject)) == lines
        assert str(caught.value), "it must say what is missing"
        return str(caught.value)


def intent_at(key: str, purpose: Purpose = Purpose.WRITE) -> Intent:
    """A new intent for a key."""
    return Intent(uuid4().hex, key, purpose)


def intents_at(keys: Sequence[str], purpose: Purpose = Purpose.WRITE) -> list[Intent]:
    """New intents for keys."""
    return [intent_at(key, purpose) for key in keys]


def move_to(
    to: Stage,
    *,
    who: str = "operator",
    evidence: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> Move:
    """A new transition."""
    return Move(uuid4().hex, to, who, evidence or {}, reason)


PATH: Final = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN, Stage.COMPLETE)
"""The stages after off, in order."""


def path_to(stage: Stage) -> tuple[Stage, ...]:
    """The stages from off, without it, to this one."""
    return PATH[: PATH.index(stage) + 1] if stage in PATH else ()


__all__ = [
    "LONG",
    "PATH",
    "REPAIRER",
    "WRITER",
    "Moving",
    "intent_at",
    "intents_at",
    "move_to",
    "path_to",
]
