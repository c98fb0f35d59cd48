"""`PostgresLedger`: what each method asks Postgres, and what it makes of the answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cm_platform.errors import InvalidArgumentError, PlatformError
from cm_platform.migration.ledger import (
    Busy,
    Fenced,
    Intent,
    Move,
    Note,
    Pending,
    Purpose,
    Side,
    Skipped,
    State,
    Subject,
    Terms,
    Transition,
    authority,
    home_of,
)
from cm_platform.routing import Stage

if TYPE_CHECKING:
    from .connections import Ask
    from .statements import Statements
    from .tables import Tables

_STAGES: Final = {str(stage): stage for stage in Stage}
_PURPOSES: Final = {str(purpose): purpose for purpose in Purpose}
_RESTS: Final = (Stage.OFF, Stage.COMPLETE)
_STATE: Final = 13
"""Columns of a state; the last one says whether something in it is to be settled."""


class PostgresLedger:
    """A `Ledger` over tables of Postgres. Its time is that of the server's machine."""

    def __init__(self, tables: Tables, statements: Statements) -> None:
        self._tables = tables
        self._ask = tables.ask
        self._say = statements

    # Intents ------------------------------------------------------------------------------

    async def begin(
        self, subject: Subject, epoch: int, owner: str, intents: Sequence[Intent], lease: float
    ) -> None:
        """See `Ledger.begin`."""
        seconds = _seconds(lease)
        if not intents:
            return
        fence = await self._ask(
            self._say.begin,
            {
                **_named(subject),
                "epoch": epoch,
                "owner": owner,
                "ids": [intent.id for intent in intents],
                "keys": [intent.key for intent in intents],
                "purposes": [str(intent.purpose) for intent in intents],
                "uploads": any(intent.purpose is Purpose.UPLOAD for intent in intents),
                "seconds": seconds,
            },
        )
        if not fence:
            raise Fenced("the epoch has changed, or writing is paused: ask for the state again")

    async def end(self, owner: str, ids: Sequence[str]) -> None:
        """See `Ledger.end`."""
        if ids:
            await self._ask(self._say.end, {"owner": owner, "ids": list(ids)})

    async def leave(self, owner: str, ids: Sequence[str], after: float) -> None:
        """See `Ledger.leave`."""
        seconds = _seconds(after)
        if ids:
            await self._ask(self._say.leave, {"owner": owner, "ids": list(ids), "seconds": seconds})

    async def extend(self, owner: str, ids: Sequence[str], lease: float) -> bool:
        """See `Ledger.extend`. When not all are this owner's, none is extended."""
        seconds = _seconds(lease)
        if not ids:
            return True
        wanted = sorted(set(ids))
        [(extended,)] = await self._ask(
            self._say.extend, {"owner": owner, "ids": wanted, "seconds": seconds}
        )
        return bool(extended == len(wanted))

    async def claim(
        self, subject: Subject, owner: str, lease: float, limit: int
    ) -> Sequence[Intent]:
        """See `Ledger.claim`."""
        named = {"owner": owner, "seconds": _seconds(lease), "limit": _limit(limit)}
        rows = await self._ask(self._say.claim, {**_named(subject), **named})
        return [Intent(id_, key, _PURPOSES[purpose]) for id_, key, purpose in rows]

    async def is_pending(self, subject: Subject, key: str) -> bool:
        """See `Ledger.is_pending`."""
        [(is_pending,)] = await self._ask(self._say.is_pending, {**_named(subject), "key": key})
        return bool(is_pending)

    async def pending(self, subject: Subject) -> Pending:
        """See `Ledger.pending`."""
        [(count, due, oldest, uploads, until)] = await self._ask(self._say.pending, _named(subject))
        return Pending(count, due, max(oldest, 0.0), uploads, max(until, 0.0))

    # Stages -------------------------------------------------------------------------------

    async def state(self, subject: Subject) -> State | None:
        """See `Ledger.state`."""
        rows = await self._ask(self._say.state, _named(subject))
        if not rows:
            return None
        return await self._settled(subject, rows[0])

    async def start(self, subject: Subject, terms: Terms, move: Move) -> State:
        """See `Ledger.start`."""
        if move.to is not Stage.OFF:
            raise InvalidArgumentError("a migration starts in the stage off", not_sent=True)
        evidence = _packed(move.evidence)
        async with self._tables.transaction() as ask:
            await ask(self._say.place, _named(subject))
            row = await self._looked(ask, subject, move)
            *_, logged = row
            if logged is None:
                _check_home(_state(row[:_STATE]), terms)
                row = await self._entered(
                    ask, subject, move, terms, evidence, before=None, flipped=0, afresh=True
                )
        return await self._settled(subject, row[:_STATE])

    async def announce(self, subject: Subject, epoch: int, seconds: float) -> None:
        """See `Ledger.announce`. One that is in force is never made shorter, but by 0."""
        named = {**_named(subject), "epoch": epoch, "seconds": _seconds(seconds)}
        rows = await self._ask(self._say.announce, named)
        if not rows:
            raise _changed()
        if rows[0][0]:
            await self._ask(self._say.announced, named)

    async def pause(self, subject: Subject, epoch: int, seconds: float) -> None:
        """See `Ledger.pause`. One that is in force is never made shorter, but by 0."""
        named = {**_named(subject), "epoch": epoch, "seconds": _seconds(seconds)}
        if not await self._ask(self._say.pause, named):
            raise _changed()

    async def move(self, subject: Subject, epoch: int, move: Move) -> State:
        """See `Ledger.move`."""
        evidence = _packed(move.evidence)
        async with self._tables.transaction() as ask:
            row = await self._looked(ask, subject, move)
            state = _state(row[:_STATE])
            announced, intents, logged = row[_STATE:]
            if logged != epoch + 1:
                if state.epoch != epoch:
                    raise _changed()
                if logged is not None:
                    raise InvalidArgumentError("a transition needs an id of its own", not_sent=True)
                flips = authority(state.stage) != authority(move.to)
                if flips and (missing := _missing(state, announced, intents)):
                    raise Busy("; ".join(missing))
                row = await self._entered(
                    ask,
                    subject,
                    move,
                    state.terms,
                    evidence,
                    before=state.stage,
                    flipped=epoch + 1 if flips else state.flipped,
                    afresh=state.stage is Stage.OFF and move.to is Stage.DUALWRITE,
                )
        return await self._settled(subject, row[:_STATE])

    async def log(self, subject: Subject) -> Sequence[Transition]:
        """See `Ledger.log`."""
        rows = await self._ask(self._say.log, _named(subject))
        return [
            Transition(
                id_,
                epoch,
                at,
                who,
                None if before is None else _STAGES[before],
                _STAGES[to],
                evidence,
                reason,
            )
            for id_, epoch, at, who, before, to, evidence, reason in rows
        ]

    async def subjects(self) -> Sequence[tuple[Subject, State]]:
        """See `Ledger.subjects`."""
        rows = await self._ask(self._say.subjects)
        return [(Subject(kind, tenant), _state(row)) for kind, tenant, *row in rows]

    async def _looked(self, ask: Ask, subject: Subject, move: Move) -> Sequence[Any]:
        """The row of the migration, locked, and what a transition is judged by."""
        await ask(self._say.lock, _named(subject))
        rows = await ask(self._say.look, {**_named(subject), "move": move.id})
        if not rows:
            raise _changed()
        return rows[0]

    async def _entered(
        self,
        ask: Ask,
        subject: Subject,
        move: Move,
        terms: Terms,
        evidence: str,
        *,
        before: Stage | None,
        flipped: int,
        afresh: bool,
    ) -> Sequence[Any]:
        """Write a transition, and its line in the log."""
        rows = await ask(
            self._say.enter,
            {
                **_named(subject),
                "migration_name": terms.migration,
                "source": terms.source,
                "target": terms.target,
                "lease": float(terms.lease),
                "longest": float(terms.longest),
                "soak": float(terms.soak),
                "stage": str(move.to),
                "flipped": flipped,
                "move": move.id,
                "who": move.who,
                "before": None if before is None else str(before),
                "evidence": evidence,
                "reason": move.reason,
                "afresh": afresh,
            },
        )
        return rows[0]

    async def _settled(self, subject: Subject, row: Sequence[Any]) -> State:
        """The state, once its stage's time has begun and an announcement that is past is over.

        Where somebody else was faster, the answer is the one of before: without a lease, or with
        the age 0.
        """
        state = _state(row)
        if row[-1]:
            # What is not settled now, is by whoever asks next.
            with suppress(PlatformError):
                named = {**_named(subject), "epoch": state.epoch}
                for settled in await self._ask(self._say.settle, named):
                    return _state(settled)
        return state

    # Evidence -----------------------------------------------------------------------------

    async def note(self, subject: Subject, name: str, body: Mapping[str, Any]) -> None:
        """See `Ledger.note`."""
        await self._ask(self._say.note, {**_named(subject), "name": name, "body": _packed(body)})

    async def notes(self, subject: Subject) -> Mapping[str, Note]:
        """See `Ledger.notes`."""
        rows = await self._ask(self._say.notes, _named(subject))
        return {name: Note(body, age) for name, body, age in rows}

    async def count(self, subject: Subject, counts: Mapping[tuple[str, str], int]) -> None:
        """See `Ledger.count`."""
        if counts:
            families, names = zip(*counts, strict=True)
            more = {"families": list(families), "names": list(names)}
            await self._ask(
                self._say.count, {**_named(subject), **more, "values": list(counts.values())}
            )

    async def counts(self, subject: Subject) -> Mapping[tuple[str, str], int]:
        """See `Ledger.counts`."""
        rows = await self._ask(self._say.counts, _named(subject))
        return {(family, name): value for family, name, value in rows}

    async def reset_counts(self, subject: Subject) -> None:
        """See `Ledger.reset_counts`."""
        await self._ask(self._say.reset_counts, _named(subject))

    async def skip(self, subject: Subject, key: str, reason: str, side: Side = "source") -> None:
        """See `Ledger.skip`."""
        said = {"key": key, "reason": reason, "side": side}
        await self._ask(self._say.skip, {**_named(subject), **said})

    async def unskip(self, subject: Subject, keys: Sequence[str]) -> None:
        """See `Ledger.unskip`."""
        if keys:
            await self._ask(self._say.unskip, {**_named(subject), "keys": list(keys)})

    async def skipped(self, subject: Subject, limit: int) -> Sequence[Skipped]:
        """See `Ledger.skipped`."""
        rows = await self._ask(self._say.skipped, {**_named(subject), "limit": _limit(limit)})
        return [Skipped(*row) for row in rows]

    async def skipped_among(self, subject: Subject, keys: Sequence[str]) -> Sequence[Skipped]:
        """See `Ledger.skipped_among`."""
        rows = await self._ask(self._say.skipped_among, {**_named(subject), "keys": list(keys)})
        return [Skipped(*row) for row in rows]

    # Life ---------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """See `Ledger.prepare`. Any number of processes may call it at once.

        Where the tables are there, no right to make any is needed. Raises `config_invalid` when
        Postgres answers before a commit is on disk, and for tables of a newer version.
        """
        await self._tables.prepare()

    async def ping(self) -> None:
        """See `Ledger.ping`. Raises `config_invalid` when the tables are not there, or of another
        version."""
        await self._ask(self._say.ping)

    async def close(self) -> None:
        """See `Ledger.close`."""
        await self._tables.close()


def _named(subject: Subject) -> dict[str, Any]:
    return {"kind": subject.kind, "tenant": subject.tenant_id}


def _check_home(state: State, terms: Terms) -> None:
    """Raise `Fenced` where a migration is under way, or none may begin with these terms."""
    if state.stage not in _RESTS:
        raise Fenced("a migration of this tenant is under way")
    # Of epoch 0 nobody knows where its data is.
    if state.epoch and home_of(state) != terms.source:
        raise Fenced("this tenant's data is not on the source")


def _state(row: Sequence[Any]) -> State:
    name, source, target, lease, longest, soak, stage, epoch, granted, paused, age, flipped, _ = row
    terms = Terms(name, source, target, lease, longest, soak)
    return State(terms, _STAGES[stage], epoch, granted, paused, age, flipped)


def _missing(state: State, announced: bool, intents: int) -> list[str]:
    """What a flip needs and has not."""
    needs = {
        f"it must have been announced for {state.terms.lease:g} s": announced,
        "writing must be paused": state.paused,
        f"no intent may be open, and {intents} are": not intents,
    }
    return [need for need, is_met in needs.items() if not is_met]


def _changed() -> Fenced:
    return Fenced("the epoch has changed: ask for the state again")


def _packed(body: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(body), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):
        raise InvalidArgumentError(
            "evidence must be JSON-ready: dicts with text as keys, lists, text, finite numbers, "
            "booleans and None",
            not_sent=True,
        ) from None


def _seconds(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise InvalidArgumentError("times are seconds, 0 or more, and finite", not_sent=True)
    return float(seconds)


def _limit(limit: int) -> int:
    if limit < 1:
        raise InvalidArgumentError("a limit is 1 or more", not_sent=True)
    return limit


__all__ = ["PostgresLedger"]
