"""What the clients did and saw, for the judge."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass

from cm_platform.errors import (
    AlreadyExistsError,
    AmbiguousError,
    DeadlineExceededError,
    IntegrityError,
    InternalError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.testing.simulation.faults import Fault, RandomFaults
from cm_platform.testing.simulation.linearizability import Kind, Operation, Outcome


@dataclass(slots=True)
class Call:
    """An operation. One without an outcome was under way when its process died."""

    kind: Kind
    key: str
    start: float
    value: Hashable = None
    expected: Hashable = None
    end: float | None = None
    outcome: Outcome | None = None
    client: str = ""

    def told(self) -> Operation:
        """As the checker takes it."""
        return Operation(
            self.kind,
            self.start,
            self.end,
            self.value,
            self.expected,
            self.outcome or "ambiguous",
            self.client,
        )


class Record:
    """All calls of all clients, and when they were made: by a count, not by a clock.

    written: the bytes of each write, by its number. wrong: what no client may see, in words.
    """

    def __init__(self, faults: RandomFaults) -> None:
        self.calls: list[Call] = []
        self.written: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self._faults = faults
        self._now = 0

    def now(self) -> int:
        """A moment after all before it."""
        self._now += 1
        return self._now

    @contextmanager
    def call(
        self, client: str, kind: Kind, *keys: str, **more: Hashable
    ) -> Generator[list[Call], None, None]:
        """A call on one key or several. What fails with a known error is noted, and goes on."""
        start = self.now()
        calls = [Call(kind, key, start, client=client, **more) for key in keys]  # type: ignore[arg-type]
        self.calls += calls
        duplicates = self._faults.seen[Fault.DUPLICATE]
        outcome: Outcome = "done"
        try:
            yield calls
        except (PlatformError, TimeoutError) as error:
            doubled = self._faults.seen[Fault.DUPLICATE] > duplicates
            outcome = outcome_of(error, kind, doubled=doubled)
        end = self.now()
        for call in calls:
            call.end = end
            call.outcome = call.outcome or outcome

    def history(self, key: str) -> list[Operation]:
        """Of one key."""
        return [call.told() for call in self.calls if call.key == key]


def outcome_of(error: Exception, kind: Kind, *, doubled: bool) -> Outcome:
    """What a failure says about the effect.

    doubled: a request was delivered twice meanwhile. A refusal may then be of the second
    delivery, and the first has happened.
    """
    if not isinstance(error, PlatformError):
        return "ambiguous"
    if isinstance(error, AlreadyExistsError | PreconditionFailedError | NotFoundError):
        if doubled:
            return "ambiguous"
        is_telling = not error.not_sent and "_if_" in kind
        return "conflict" if is_telling and not isinstance(error, NotFoundError) else "refused"
    if error.not_sent:
        return "refused"
    if isinstance(error, _UNCLEAR):
        return "ambiguous"
    # An argument that is wrong, something that is not supported: a defect.
    raise error


_UNCLEAR = (
    AmbiguousError,
    DeadlineExceededError,
    IntegrityError,
    InternalError,
    RateLimitedError,
    UnavailableError,
)

__all__ = ["Call", "Record", "outcome_of"]
