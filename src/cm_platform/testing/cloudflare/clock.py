"""The controls of a running local Cloudflare: its clock, and what it has counted."""

from __future__ import annotations

import http.client
import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from cm_platform import arguments
from cm_platform.errors import UnavailableError

_TIMEOUT: Final = 10.0


class Controls:
    """Speaks to the server that only the Worker and we know. secret: what lets us in."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._secret = secret

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call. Raises `unavailable` when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            headers = {"cm-local-secret": self._secret, "content-type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        except OSError as error:
            raise UnavailableError("the local Cloudflare does not answer") from error
        finally:
            connection.close()
        if response.status != 200:
            raise UnavailableError(f"the local Cloudflare answered {response.status} to {path}")
        answer: dict[str, Any] = json.loads(text)
        return answer


class VirtualClock:
    """The clock of KV and of the REST cap: the machine's, plus what was advanced.

    Durable Objects and the gateway's signatures go by the machine's own.
    """

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        now: float = self._controls.post("/clock", {})["now"]
        return now

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Let it stand still within, but for `advance`; it then catches up."""
        self._controls.post("/clock", {"frozen": True})
        try:
            yield
        finally:
            self._controls.post("/clock", {"frozen": False})

    def advance(self, seconds: float) -> float:
        """Let time pass at once; what it is then. seconds: more than 0, to a day."""
        seconds = arguments.seconds(seconds, "seconds")
        now: float = self._controls.post("/clock", {"advance": seconds})["now"]
        return now


__all__ = ["Controls", "VirtualClock"]
