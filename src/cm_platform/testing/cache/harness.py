"""What every suite of the cache needs: one fixture of yours, and a tenant of its own per test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import InvalidArgumentError, PlatformError
from cm_platform.runtime import SYSTEM_CLOCK, Clock
from cm_platform.tenant import DEFAULT_LAYOUT
from cm_platform.testing.faces import FACES

from .face import OTHER, RAW, CacheFace

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


class CacheHarness:
    """Subclass a suite in your tests, and say in the fixture `cache_backend` what is tested.

        @pytest.fixture(scope="module")
        def cache_backend() -> Mapping[str, Any]:
            return {"driver": "mine", "path": ...}

        class TestMine(CacheConformance): ...

    cache_backend: the backend's table, as in `[cache.backends.<name>]`; "driver" may be the
        descriptor itself of a backend that has no entry point. Its scope is "class" or wider.
        The store need not be empty: each test has a tenant of its own, and what it stored is
        removed in the end.
    layout: of physical keys.
    examples: that Hypothesis tries per property; fewer for a store that is slow.
    disposable: the store is thrown away after the tests, so nothing is removed.
    shared: another platform, opened with the same table, sees what this one wrote. A store that
        lives in one platform's memory says False.
    moment: seconds; the life that values get where the store itself must end it. A store that
        keeps time by `runtime.clock`, or lets `pass_time` move its clock, lives through it in no
        time. One that does not says `real_time`, and a moment worth waiting for.
    """

    layout: ClassVar[str] = DEFAULT_LAYOUT
    examples: ClassVar[int] = 40
    disposable: ClassVar[bool] = False
    shared: ClassVar[bool] = True
    moment: ClassVar[float] = 30.0
    real_time: ClassVar[bool] = False

    @classmethod
    def backend_clock(cls) -> Clock | None:
        """The clock that the backend is given; None for the library's, which tests put forward.

        Override it where that must not be: a signature counts for a minute.
        """
        return SYSTEM_CLOCK if cls.real_time else None

    @classmethod
    def settle(cls) -> None:
        """Make what was written visible to every reader.

        Called where `read_your_writes` is not declared, before a read that follows a write.
        Override it: move the store's own, virtual, clock, or wait.
        """
        raise NotImplementedError("a store that shows its writes later needs settle()")

    def pass_time(self, face: CacheFace, seconds: float) -> None:
        """Let time pass, for the library and for the store.

        Override it where the store has a virtual clock of its own, and move both.
        """
        if not self.real_time:
            face.clock.advance(seconds)
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            face.rest()

    def runs_out(
        self, face: CacheFace, seconds: float, begin: Callable[[], Any], is_there: Callable[[], Any]
    ) -> None:
        """What begins now must be there for so many seconds, and then no more."""
        begun = face.clock.monotonic()
        begin()
        # How long that took is not part of it: at the latest, its time began now.
        at_latest = face.clock.monotonic()
        for half in (False, True):
            if half:
                self.pass_time(face, seconds / 2)
            found = is_there()
            # A machine may be slow.
            assert found or face.clock.monotonic() - begun >= seconds, "gone before its time"
        self.pass_time(face, max(0.0, at_latest + seconds - face.clock.monotonic()) + 0.11)
        assert not is_there(), "there after its time"

    @pytest.fixture(scope="class", params=FACES)
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, cache_backend: Mapping[str, Any]
    ) -> Iterator[CacheFace]:
        """The backend behind the sync and the async face; shared by the class's tests."""
        with CacheFace(
            request.param, cache_backend, layout=cls.layout, backend_clock=cls.backend_clock()
        ) as face:
            if CacheCapability.READ_YOUR_WRITES not in face.capabilities:
                face.settle = cls.settle
            yield face
            if not cls.disposable:
                face.clear()

    @pytest.fixture
    def cache(self, face: CacheFace) -> Cache:
        """The empty cache of a new tenant."""
        return face.cache()

    @pytest.fixture
    def other(self, face: CacheFace) -> Iterator[CacheFace]:
        """The same store behind another platform."""
        if not self.shared:
            pytest.skip("the store is one platform's own")
        with face.another() as other:
            yield other


def need(face: CacheFace, *capabilities: CacheCapability) -> None:
    """Skip the test on a backend that does not declare them."""
    for capability in capabilities:
        if capability not in face.capabilities:
            pytest.skip(f"the backend does not declare {capability}")


def refused(face: CacheFace, act: Callable[..., Any], *args: Any, **kwargs: Any) -> PlatformError:
    """Make a call that must be an `invalid_argument` and never reach the backend."""
    face.calls.clear()
    with pytest.raises(InvalidArgumentError) as caught:
        act(*args, **kwargs)
    assert not face.calls, f"reached the backend: {face.calls}"
    return caught.value


def call(method: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A call on a service that is given later."""
    return lambda service: getattr(service, method)(*args, **kwargs)


def on(service: Any, method: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A call on this service, whichever is given."""
    target = getattr(service, "target", service)
    return lambda _service: getattr(target, method)(*args, **kwargs)


__all__ = ["OTHER", "RAW", "CacheFace", "CacheHarness", "call", "need", "on", "refused"]
