"""What the isolation suites of all kinds have in common: attempts are judged, layouts vary."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from cm_platform.errors import PlatformError
from cm_platform.testing.faces import FACES, Face

SITE = "s1"
HARMLESS = "harmless"
"""The outcome of an act that goes through, and stays in the attacker's own store."""


def listen(caplog: pytest.LogCaptureFixture) -> None:
    """Hear what is logged: all of ours, and of others what is usually kept."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "cm_platform")


class Judge:
    """Attempts on one face are judged. Nothing of `secrets` may be in a value, error or log."""

    def __init__(
        self, face: Face, secrets: tuple[str, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        self.face = face
        self._secrets = secrets
        self._caplog = caplog

    def attempt(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """Do it: an error code or `HARMLESS`, and the value. Nothing secret may be in either."""
        value: Any = None
        outcome = HARMLESS
        try:
            value = self.consumed(act(*args, **kwargs))
        except PlatformError as error:
            outcome = error.code
            self._check_silence(_chain(error))
        self._check_silence(repr(value))
        self._check_silence(self._caplog.text)
        return outcome, value

    def refused(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """It must be an `invalid_argument` that never reached the store."""
        self.face.calls.clear()
        assert self.attempt(act, *args, **kwargs)[0] == "invalid_argument"
        assert not self.face.calls, f"reached the backend: {self.face.calls}"

    def expect(self, outcome: str, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It must end so; the value."""
        found, value = self.attempt(act, *args, **kwargs)
        assert found == outcome, f"{found}: {value!r}"
        return value

    def consumed(self, value: Any) -> Any:
        """What a result has to tell, in full."""
        return value

    def _check_silence(self, text: str) -> None:
        found = [secret for secret in self._secrets if secret in text]
        assert not found, "something of a victim came back"


def unchained(act: Callable[[], Any]) -> Callable[[], Any]:
    """The same act, whose error is judged without what the backend raised.

    That is for developers, who see it in the traceback, and not part of our message.
    """

    def attempted() -> Any:
        try:
            return act()
        except Exception as error:
            error.__cause__ = None
            error.__context__ = None
            raise

    return attempted


class LayoutsHarness:
    """Every attack, over both faces and each of the layouts."""

    layouts: ClassVar[tuple[str, ...]]

    @pytest.fixture(scope="class", params=FACES)
    @classmethod
    def face_name(cls, request: pytest.FixtureRequest) -> str:
        """Which face is attacked."""
        return str(request.param)

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Called by pytest: each test, once per layout."""
        if "placed" in metafunc.fixturenames:
            metafunc.parametrize("placed", cls.layouts, scope="class")


def _chain(error: BaseException | None) -> str:
    told: list[str] = []
    while error is not None:
        told += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(told)


__all__ = ["HARMLESS", "SITE", "Judge", "LayoutsHarness", "listen", "unchained"]
