"""Four processes with one token: together they stay below its cap, and close to it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest

from .doubles import Reply, Request, Server
from .test_limiter import most_in_a_window

PERIODS = 3


class Counting:
    """Answers 429 from the first request on that is one too many in any window, for good."""

    def __init__(self, cap: int, period: float) -> None:
        self.cap = cap
        self.period = period
        self.arrivals: list[float] = []
        self.tripped = False
        self._window: deque[float] = deque()
        self._guard = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        with self._guard:
            now = time.monotonic()
            self.arrivals.append(now)
            while self._window and self._window[0] <= now - self.period:
                self._window.popleft()
            self._window.append(now)
            self.tripped = self.tripped or len(self._window) > self.cap
            return Reply(status=429 if self.tripped else 200)


@pytest.mark.parametrize(
    "period",
    [
        1.0,
        pytest.param(10.0, marks=pytest.mark.prove),
    ],
)
def test_four_processes_never_trip_the_cap_and_use_nearly_all_of_it(
    period: float, tmp_path: Path
) -> None:
    counting = Counting(60, period)
    with Server(counting) as server:
        command = [
            sys.executable,
            str(Path(__file__).with_name("greedy.py")),
            server.url,
            str(tmp_path / "record"),
            "60",
            str(period),
            str(PERIODS * period),
        ]
        children = [
            subprocess.Popen(  # noqa: S603 - our own interpreter and script
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            for child in children:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()
            codes = [child.wait(timeout=10 * PERIODS * period) for child in children]
        finally:
            for child in children:
                child.kill()
                child.wait()
                for stream in (child.stdin, child.stdout):
                    assert stream is not None
                    stream.close()
    assert codes == [0, 0, 0, 0]
    assert not counting.tripped
    assert most_in_a_window(counting.arrivals, period) <= counting.cap
    end = min(counting.arrivals) + PERIODS * period
    used = sum(arrival < end for arrival in counting.arrivals)
    assert used >= 0.9 * PERIODS * counting.cap
