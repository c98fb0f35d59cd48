"""A process that asks as often as its token's limiter lets it: python greedy.py URL ..."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx

from cm_platform.cloudflare.limiter import Limiter
from cm_platform.cloudflare.throttled import Throttled
from cm_platform.runtime import BlockingRuntime


def main(url: str, directory: str, cap: str, period: str, seconds: str) -> None:
    """Ask until the time is up; fail when the limit is not shared, or an answer is not 200."""
    runtime = BlockingRuntime()
    limiter = Limiter.of_token(
        "the token of four processes",
        runtime,
        max_requests=int(cap),
        period=float(period),
        directory=Path(directory),
    )
    if not limiter.shared:
        raise SystemExit("the limiter is not shared")
    transport = Throttled(limiter, httpx.HTTPTransport(trust_env=False))
    timeout = httpx.Timeout(10, pool=3 * float(period))
    with httpx.Client(transport=transport, trust_env=False, timeout=timeout) as client:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            client.get(url).raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:])
