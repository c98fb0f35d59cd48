"""Changing the side that is right, then the other: under an intent, from the first to the last."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from cm_platform.errors import AmbiguousError, PlatformError
from cm_platform.migration.intents import Held, Intents, OverdueError
from cm_platform.migration.lease import View
from cm_platform.migration.ledger import Side
from cm_platform.migration.points import Point, reach
from cm_platform.storage.backend import StorageBackend

from .pair import Pair, opposite, unanswered
from .reconcile import Reconciler
from .repair import Repairer

T = TypeVar("T")

Change = Callable[[Side, "Held | None"], Awaitable[T]]
"""Makes the change on that side; the intents under which it happens, where there are any."""

Mirror = Callable[[StorageBackend], Awaitable[Any]]
"""Makes the same change on the other side, blindly."""

logger = logging.getLogger("cm_platform.migration")

_CONCURRENCY: Final = 8
INLINE: Final = 32 * 1024 * 1024
"""Bytes of an object that is brought over before its writer is answered; larger ones follow."""


class Writer:
    """Makes changes that both sides end up with."""

    __slots__ = ("_intents", "_pair", "_reconciler", "_repairer", "_runtime")

    def __init__(
        self, pair: Pair, intents: Intents, reconciler: Reconciler, repairer: Repairer
    ) -> None:
        self._pair = pair
        self._intents = intents
        self._reconciler = reconciler
        self._repairer = repairer
        self._runtime = pair.runtime

    async def change(
        self,
        key: str,
        change: Change[T],
        mirror: Mirror | None = None,
    ) -> T:
        """Change the authority, then the other side; both under an intent, where one is due."""
        view, held = await self._intents.begin([key])
        if held is None:
            return await self._straight(view, [key], lambda: change(view.authority, None))
        await reach(Point.INTENT_BEGUN)
        try:
            # The ledger may have taken its time.
            self._intents.check(held)
            result = await change(view.authority, held)
        except Exception as error:
            await self._refused(held, error)
            raise
        await reach(Point.AUTHORITY_CHANGED)
        await self._follow(held, [key], mirror)
        return result

    async def _straight(
        self, view: View, keys: Sequence[str], change: Callable[[], Awaitable[T]]
    ) -> T:
        """Change the one side that matters; no intent is needed in `off` and `complete`."""
        result = await change()
        await reach(Point.STRAIGHT_CHANGED)
        if self._runtime.clock.monotonic() > view.until + view.terms.longest:
            # It took longer than those who change the stage wait for anybody.
            await self._too_late(view, keys)
        return result

    async def _refused(self, held: Held, error: Exception) -> None:
        """The authority did not take a change, or did not say so."""
        await reach(Point.AUTHORITY_FAILED)
        if isinstance(error, PlatformError) and error.not_sent:
            await self._intents.finish(held, held.ids)
            return
        if unanswered(error):
            held.doubt.update(held.ids)
            await self._finish(held, ())
            return
        # A conflict may be one with ourselves: a request that was delivered twice has happened
        # and is refused.
        await self._follow(held, list(held.ids), None)

    async def _follow(
        self,
        held: Held,
        keys: Sequence[str],
        mirror: Mirror | None,
    ) -> None:
        """Bring the other side in line with what the authority has now, as far as it goes.

        Raises nothing but `ambiguous`, when the change itself came too late to count.
        """
        try:
            await self._intents.renew(held)
        except OverdueError:
            await self._too_late(held.view, keys)
            return
        except PlatformError:
            await self._intents.finish(held, ())
            return
        if mirror is not None and keys:
            # Blindly: the looks that follow see what came of it.
            try:
                answer = await self._pair.on(opposite(held.view.authority), mirror)
                if isinstance(answer, Mapping):
                    failures = cast("Mapping[str, PlatformError]", answer)
                    held.doubt.update(key for key in failures if unanswered(failures[key]))
            except Exception as error:  # noqa: BLE001 - the write itself has happened
                if unanswered(error):
                    held.doubt.update(keys)
            await reach(Point.OTHER_CHANGED)
        clean = await self._reconciled(held, list(held.ids))
        await self._finish(held, clean)

    async def _reconciled(self, held: Held, keys: Collection[str]) -> Sequence[str]:
        async def reconciled(key: str) -> bool:
            try:
                sent = await self._reconciler.reconcile(held, key, up_to=INLINE)
            except Exception as error:  # noqa: BLE001 - the write itself has happened
                logger.debug("the other side does not follow yet: %s", type(error).__name__)
                return False
            return sent is not None

        if len(keys) == 1:
            return [key for key in keys if await reconciled(key)]
        outcomes = await self._runtime.gather((reconciled(key) for key in keys), limit=_CONCURRENCY)
        return [key for key, clean in zip(keys, outcomes, strict=True) if clean]

    async def _finish(self, held: Held, clean: Collection[str]) -> None:
        if await self._intents.finish(held, clean):
            self._repairer.tick()
        else:
            self._repairer.wake()

    async def _too_late(self, view: View, keys: Sequence[str]) -> None:
        """A change was made when it had no right to any more: see what it is worth."""
        try:
            now, held = await self._intents.begin(keys)
        except PlatformError as error:
            raise overtaken() from error
        if held is not None:
            await self._finish(held, await self._reconciled(held, keys))
        if now.authority != view.authority:
            # It is on the wrong side, and was, or will be, undone there.
            raise overtaken()

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """Remove keys on both sides; the failures by key."""
        view, held = await self._intents.begin(keys)
        authority = view.authority
        if held is None:
            return await self._straight(
                view, keys, lambda: self._pair.on(authority, lambda b: b.delete_many(keys))
            )
        await reach(Point.INTENT_BEGUN)
        failures: Mapping[str, PlatformError]
        try:
            self._intents.check(held)
            failures = await self._pair.on(authority, lambda b: b.delete_many(keys))
        except Exception as error:
            await self._refused(held, error)
            raise
        await reach(Point.AUTHORITY_CHANGED)
        held.doubt.update(key for key, error in failures.items() if unanswered(error))
        gone = [key for key in keys if key not in failures]
        await self._follow(held, gone, lambda backend: backend.delete_many(gone))
        return failures


def overtaken() -> AmbiguousError:
    """The error of a change that a flip has overtaken."""
    return AmbiguousError(
        "the tenant's data changed sides while this was written: it may have been undone. Read "
        "before you write again"
    )


__all__ = ["INLINE", "Change", "Mirror", "Writer", "overtaken"]
