"""What every suite of the ledger needs: one fixture of yours, and a subject of its own per test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final
from uuid import uuid4

import pytest

from cm_platform.migration.ledger import Subject, Terms
from cm_platform.testing.clocks import MovableClock
from cm_platform.testing.faces import FACES

from .face import Calls, LedgerFace, Opened
from .subject import Moving

PATIENCE: Final = 20.0
"""Seconds after which what should have happened has not."""

TOLERANCE: Final = 0.01
"""Seconds by which two clocks that run beside each other may differ within a test."""

_POLL: Final = 0.005


class LedgerHarness:
    """Subclass a suite in your tests, and say in the fixture `ledger_backend` what is tested.

        @pytest.fixture(scope="module")
        def ledger_backend() -> Mapping[str, Any]:
            return {"driver": "mine", "path": ...}

        class TestMine(LedgerConformance): ...

    ledger_backend: "driver" is the name of the ledger's backend, or its descriptor where it has
        no entry point; the rest are its settings. Its scope is "class" or wider. The ledger need
        not be empty: each test has subjects of its own, and they stay, because the log does.
    shared: another ledger, opened with the same table, sees what this one wrote. One that lives
        in the memory of one object says False.
    real_time: the ledger keeps time by itself, such as by its database's clock. One that goes by
        `runtime.clock` lives through all times in none.
    moment: seconds; a time that tests live through, where it matters that it passes. In real time
        it should be some tenfold of what a call takes.
    """

    shared: ClassVar[bool] = True
    real_time: ClassVar[bool] = False
    moment: ClassVar[float] = 30.0

    def pass_time(self, face: LedgerFace, seconds: float) -> None:
        """Let time pass for the ledger.

        Override it where the ledger has a virtual clock of its own, and move that.
        """
        clock = face.clock
        if isinstance(clock, MovableClock) and not self.real_time:
            clock.advance(seconds)
        else:
            time.sleep(seconds)

    def runs_out(
        self, face: LedgerFace, seconds: float, begin: Callable[[], Any], holds: Callable[[], Any]
    ) -> None:
        """What begins now must hold for so many seconds, and then no more."""
        begun = face.clock.monotonic()
        begin()
        # How long that took is not part of it: at the latest, its time began now.
        at_latest = face.clock.monotonic()
        for half in (False, True):
            if half:
                self.pass_time(face, seconds / 2)
            held = holds()
            # A machine may be slow.
            assert held or face.clock.monotonic() - begun >= seconds, "over before its time"
        self.pass_time(face, max(0.0, at_latest + seconds - face.clock.monotonic()) + TOLERANCE)
        self.comes_about(lambda: not holds())

    def comes_about(self, holds: Callable[[], Any]) -> None:
        """It holds: now, or, where the ledger keeps time by itself, soon."""
        deadline = time.monotonic() + (PATIENCE if self.real_time else 0.0)
        while not holds():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(_POLL)

    def terms(self, *, lease: float | None = None, migration: str = "to-new") -> Terms:
        """Of a migration whose flips take a moment, or so many seconds, to announce."""
        return Terms(
            migration,
            "old",
            "new",
            lease=self.moment if lease is None else lease,
            longest=120.5,
            soak=86_400.25,
        )

    @pytest.fixture(scope="class", params=FACES)
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, ledger_backend: Mapping[str, Any]
    ) -> Iterator[LedgerFace]:
        """The ledger under the sync and the async face; shared by the class's tests."""
        with LedgerFace(request.param, ledger_backend, MovableClock()) as face:
            yield face

    @pytest.fixture
    def ledger(self, face: LedgerFace) -> Calls:
        """The ledger's methods, run to their end."""
        return face.calls

    @pytest.fixture
    def other(self, face: LedgerFace) -> Iterator[Opened]:
        """The same ledger, opened once more: as another process has it."""
        if not self.shared:
            pytest.skip("the ledger is one object's own")
        with face.another() as other:
            yield other

    @pytest.fixture
    def subject(self) -> Subject:
        """A tenant whose data never moved."""
        return new_subject()

    @pytest.fixture
    def moving(self, face: LedgerFace, subject: Subject) -> Moving:
        """A tenant with a migration that was started: in the stage off."""
        return self.started(face, subject)

    @pytest.fixture
    def writing(self, moving: Moving) -> Moving:
        """A tenant in the stage dualwrite."""
        moving.to_dualwrite()
        return moving

    def started(
        self, face: LedgerFace, subject: Subject | None = None, *, lease: float | None = None
    ) -> Moving:
        """A migration that was started."""
        moving = Moving(face, subject or new_subject(), lambda s: self.pass_time(face, s))
        moving.start(self.terms(lease=lease))
        return moving


def new_subject(kind: str = "storage") -> Subject:
    """A tenant that nobody else has."""
    return Subject(kind, str(uuid4()))


__all__ = [
    "PATIENCE",
    "TOLERANCE",
    "Calls",
    "LedgerFace",
    "LedgerHarness",
    "Moving",
    "Opened",
    "new_subject",
]
