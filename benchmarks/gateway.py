"""The gateway's client: its signature, and a batch over httpx against httpx alone.

All ask a server on this machine that verifies nothing, for one value of 1 KB. Ours sign, frame,
and check what comes back; the others send the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson

from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding
from cm_platform.cloudflare.frame import encoded
from cm_platform.cloudflare.gateway import Gateway
from cm_platform.cloudflare.settings import GatewaySettings
from cm_platform.cloudflare.signature import RequestSigner
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, drive

PARTITION = "t/0b9e1d7e/"
VALUE = os.urandom(1024)
OPERATIONS = [{"op": "kv.get", "binding": "KV", "key": "user:7:profile"}]
IN_FLIGHT = 32
SIGNER = RequestSigner("2026-11", "a secret for benchmarks, of some length")
HEADERS = {
    name.decode(): value.decode()
    for name, value in SIGNER.headers(
        b"POST", b"/v1/batch", b"", "0" * 64, PARTITION, now=1_795_456_800.0
    )
}


def signing(rounds: int) -> Finding:
    """Digest, nonce, canonical form and MAC of a request."""

    def sign(body: bytes) -> Callable[[int], None]:
        def run(count: int) -> None:
            for _ in range(count):
                digest = hashlib.sha256(body).hexdigest()
                SIGNER.headers(b"POST", b"/v1/batch", b"", digest, PARTITION, now=time.time())

        return run

    contenders = [
        Contender("sign a body of 1 KB", sign(VALUE)),
        Contender("sign a body of 64 KB", sign(VALUE * 64)),
    ]
    samples = interleave(contenders, operations=5_000, rounds=rounds)
    finding = Finding.of("The gateway's signature", samples)
    finding.at_most("sign a body of 1 KB", samples["sign a body of 1 KB"].wall_us, 50, "us")
    return finding


@contextmanager
def server() -> Iterator[str]:
    """The speed-only server in a process of its own; its URL."""
    row = {"ok": True, "value": {"offset": 0, "length": len(VALUE)}, "metadata": None}
    head = orjson.dumps({"outcomes": [row]})
    answer = len(head).to_bytes(4, "big") + head + VALUE
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fixed_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(answer.hex() + "\n")
        process.stdin.flush()
        yield f"http://127.0.0.1:{process.stdout.readline().split()[1]}"
    finally:
        process.communicate(timeout=10)


def batches(url: str, rounds: int) -> Finding:
    """One batch at a time on the blocking face; on the async face, alone and 32 in flight."""
    settings = GatewaySettings.model_validate(
        {"url": url, "key_id": "2026-11", "secret": "a secret for benchmarks, of some length"}
    )
    body = encoded(OPERATIONS)
    target = f"{url}/v1/batch"
    blocking = Gateway.open(settings, BlockingRuntime())
    ours = Gateway.open(settings, AsyncRuntime())
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    plain = httpx.Client(trust_env=False, limits=limits)
    theirs = httpx.AsyncClient(trust_env=False, limits=limits)

    def ours_blocking(count: int) -> None:
        for _ in range(count):
            drive(blocking.batch(PARTITION, OPERATIONS))

    def theirs_blocking(count: int) -> None:
        for _ in range(count):
            _ = plain.post(target, content=body, headers=HEADERS).content

    async def ours_once() -> None:
        await ours.batch(PARTITION, OPERATIONS)

    async def theirs_once() -> None:
        _ = (await theirs.post(target, content=body, headers=HEADERS)).content

    with asyncio.Runner() as runner:

        def in_flight(ask: Callable[[], Awaitable[None]], lanes: int) -> Callable[[int], None]:
            async def lane(count: int) -> None:
                for _ in range(count):
                    await ask()

            async def run(count: int) -> None:
                await asyncio.gather(*(lane(-(-count // lanes)) for _ in range(lanes)))

            return lambda count: runner.run(run(count))

        contenders = [
            Contender("ours, blocking", ours_blocking),
            Contender("httpx, blocking", theirs_blocking),
            Contender("ours, async", in_flight(ours_once, 1)),
            Contender("httpx, async", in_flight(theirs_once, 1)),
            Contender("ours, async, 32 in flight", in_flight(ours_once, IN_FLIGHT)),
            Contender("httpx, async, 32 in flight", in_flight(theirs_once, IN_FLIGHT)),
        ]
        samples = interleave(contenders, operations=640, rounds=rounds)
        runner.run(ours.close())
        runner.run(theirs.aclose())
    drive(blocking.close())
    plain.close()
    finding = Finding.of("A batch of one operation, signed, over loopback", samples)
    for how in ("blocking", "async", "async, 32 in flight"):
        ratio = samples[f"ours, {how}"].cpu_us / samples[f"httpx, {how}"].cpu_us
        finding.at_most(f"CPU of a batch / of httpx.Client alone: {how}", ratio, 1.0)
    return finding
