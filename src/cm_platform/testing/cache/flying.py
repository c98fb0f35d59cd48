"""The suite of single flight: of many who miss a value at once, one computes it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.tenant import Tenant

from .harness import OTHER, CacheFace, CacheHarness, call, need, on
from .loading import Source, SourceError

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


_CALLERS = 8


class FlyingConformance(CacheHarness):
    """In one process on every backend; across processes where the backend has the atomics."""

    def test_of_many_callers_one_computes(self, cache: Cache, face: CacheFace) -> None:
        source, keys = Source(), ["key"] * _CALLERS
        assert self._at_once(cache, face, keys, source) == [1] * _CALLERS
        assert source.asked == 1

    def test_of_many_callers_on_several_handles_one_computes(
        self, cache: Cache, face: CacheFace
    ) -> None:
        del cache
        source, space = Source(), face.cache().namespace(OTHER)
        labelled = Tenant(space.tenant.id, site_id=space.tenant.site_id, user_id="somebody")
        held = [
            space,
            space.with_timeout(30),
            face.cache(space.tenant).namespace(OTHER),
            face.cache(labelled).namespace(OTHER),
        ]
        face.calls.clear()
        wait = self._in_flight(face, len(held), source)
        calls = [on(handle, "get_or_set", "key", wait) for handle in held]
        assert face.at_once(space, calls) == [1] * len(held)
        assert source.asked == 1

    def test_other_keys_are_computed_beside(self, cache: Cache, face: CacheFace) -> None:
        source = Source()
        found = self._at_once(cache, face, [f"key-{n}" for n in range(_CALLERS)], source)
        assert sorted(found) == list(range(1, _CALLERS + 1))

    def test_a_failure_is_for_all_who_waited(self, cache: Cache, face: CacheFace) -> None:
        source = Source(error=SourceError("no source"))
        found = self._at_once(cache, face, ["key"] * _CALLERS, source)
        assert all(isinstance(outcome, SourceError) for outcome in found), found
        assert source.asked == 1
        assert cache.get_or_set("key", face.callback(Source())) == 1

    def test_of_callers_on_two_platforms_one_computes(
        self, cache: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        need(face, CacheCapability.COMPARE_AND_SET, CacheCapability.CONDITIONAL_SET)
        there = other.cache(cache.tenant)
        source, results = Source(), list[Any]()
        begun = threading.Event()

        def wait_there() -> None:
            assert begun.wait(10)
            results.append(there.get_or_set("key", other.callback(source)))

        thread = threading.Thread(target=wait_there)
        # They look, find that we compute, and look again: then we may end.
        looks = len(other.calls) + 3
        wait = face.waiting(lambda: len(other.calls) >= looks, source)

        def compute() -> Any:
            begun.set()
            return wait()

        thread.start()
        results.append(cache.get_or_set("key", compute))
        thread.join(10)
        assert results == [1, 1]
        assert source.asked == 1

    def test_a_caller_that_is_cancelled_holds_up_nobody(
        self, cache: Cache, face: CacheFace
    ) -> None:
        if not face.is_async:
            pytest.skip("there nobody can be cancelled")

        async def scenario(service: Any) -> Any:
            computing, never = asyncio.Event(), asyncio.Event()

            async def hang() -> None:
                computing.set()
                await never.wait()

            async def compute() -> str:
                return "computed"

            leader = asyncio.create_task(service.get_or_set("key", hang))
            await computing.wait()
            follower = asyncio.create_task(service.get_or_set("key", compute))
            impatient = asyncio.create_task(service.get_or_set("key", compute))
            for _ in range(3):
                await asyncio.sleep(0.005)
            impatient.cancel()
            leader.cancel()
            found = await asyncio.wait_for(follower, 10)
            ended = await asyncio.gather(leader, impatient, return_exceptions=True)
            return found, [type(outcome) for outcome in ended]

        (outcome,) = face.at_once(cache, [scenario])
        assert outcome == ("computed", [asyncio.CancelledError] * 2)
        assert cache.get("key") == "computed"

    def test_the_only_caller_that_is_cancelled_leaves_no_lock(
        self, cache: Cache, face: CacheFace
    ) -> None:
        if not face.is_async:
            pytest.skip("there nobody can be cancelled")

        async def scenario(service: Any) -> Any:
            async def hang() -> None:
                await asyncio.Event().wait()

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(service.get_or_set("key", hang), 0.1)
            return await asyncio.wait_for(service.get_or_set("key", lambda: "computed"), 10)

        assert face.at_once(cache, [scenario]) == ["computed"]

    def test_a_factory_that_is_interrupted_leaves_no_lock(
        self, cache: Cache, face: CacheFace
    ) -> None:
        if face.is_async:
            pytest.skip("there it ends the loop")

        def interrupted() -> Any:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cache.get_or_set("key", interrupted)
        begun = time.monotonic()
        assert cache.get_or_set("key", lambda: "computed") == "computed"
        assert time.monotonic() - begun < 10

    def test_a_platform_that_is_closed_while_it_computes_leaves_no_lock(
        self, cache: Cache, face: CacheFace
    ) -> None:
        if not self.shared:
            pytest.skip("the store is one platform's own")
        cache.set("key", "old", ttl=100, stale=1000)
        face.clock.advance(101)
        with face.another() as leaving:
            slow = leaving.waiting(lambda: False, lambda: "theirs", 0.1)
            there = leaving.cache(cache.tenant)
            assert there.get_or_set("key", slow, ttl=100, stale=1000) == "old"
            leaving.rest()
        begun = time.monotonic()
        found = cache.get_or_set("key", face.callback(lambda: "ours"), ttl=100)
        assert found in ("theirs", "ours")
        assert time.monotonic() - begun < 5

    def _in_flight(self, face: CacheFace, callers: int, source: Source) -> Callable[[], Any]:
        """A factory that answers when all have looked for the value and found nothing."""

        def looked() -> bool:
            # What was asked takes a moment to be answered.
            if face.calls.count("get_many") >= callers:
                since.append(time.monotonic())
            return bool(since) and time.monotonic() - since[0] > 0.1

        since: list[float] = []
        return face.waiting(looked, source, 1.0)

    def _at_once(self, cache: Cache, face: CacheFace, keys: list[str], source: Source) -> list[Any]:
        face.calls.clear()
        factory = self._in_flight(face, len(keys), source)
        return face.at_once(cache, [call("get_or_set", key, factory) for key in keys])


__all__ = ["FlyingConformance"]
