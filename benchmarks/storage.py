"""Storage over S3's protocol: boto3, obstore alone, the raw floor, and us."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import obstore
from botocore.config import Config as BotoConfig
from obstore.store import S3Store

from benchmarks.floor import REGION, RawClient
from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding
from cm_platform import AsyncPlatform, Platform, Tenant

KEY_ID, SECRET, BUCKET = "benchmark", "benchmark-secret", "media"
SMALL = os.urandom(1024)
LARGE = os.urandom(64 * 1024 * 1024)
IN_FLIGHT = 32


@contextmanager
def server() -> Iterator[int]:
    """The speed-only server in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().split()[1])
    finally:
        process.communicate(timeout=10)


class Clients:
    """Everybody who can put and get, on one server."""

    def __init__(self, port: int) -> None:
        endpoint = f"http://127.0.0.1:{port}"
        self.raw = RawClient(port, BUCKET, KEY_ID, SECRET)
        self.boto3: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=BotoConfig(
                max_pool_connections=64,
                # Its defaults, checksums computed as trailers, are slower; others' servers often
                # refuse them, so this is how boto3 is used with anything but Amazon.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )
        self.obstore = S3Store(
            BUCKET,
            endpoint=endpoint,
            region=REGION,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
        backend = {
            "driver": "s3",
            "bucket": BUCKET,
            "region": REGION,
            "endpoint": endpoint,
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
        }
        configuration = {"storage": {"default": "s3", "backends": {"s3": backend}}}
        tenant = Tenant("acme")
        self.platform = Platform.from_config(configuration)
        self.ours = self.platform.get_service("storage", tenant)
        self.async_platform = AsyncPlatform.from_config(configuration)
        self.ours_async = self.async_platform.get_service("storage", tenant)
        self.runner = asyncio.Runner()
        self.pool = ThreadPoolExecutor(IN_FLIGHT)

    def close(self) -> None:
        """Everything, in order."""
        self.pool.shutdown()
        self.runner.run(self.async_platform.close())
        self.runner.close()
        self.platform.close()
        self.raw.close()
        self.boto3.close()


@contextmanager
def clients() -> Iterator[Clients]:
    """All clients on a fresh server, an object in place to be read."""
    with server() as port:
        made = Clients(port)
        try:
            made.boto3.put_object(Bucket=BUCKET, Key="small", Body=SMALL)
            made.ours.put("small", SMALL)
            made.boto3.put_object(Bucket=BUCKET, Key="large", Body=LARGE)
            made.ours.put("large", LARGE)
            yield made
        finally:
            made.close()


def small(made: Clients, rounds: int) -> list[Finding]:
    """1 KB, one at a time: wall and client CPU."""
    c = made

    def times(call: Any) -> Any:
        def run(count: int) -> None:
            for _ in range(count):
                call()

        return run

    puts = {
        "raw socket": lambda: c.raw.request("PUT", "raw", SMALL),
        "obstore": lambda: obstore.put(c.obstore, "obstore", SMALL, use_multipart=False),
        "cm_platform": lambda: c.ours.put("ours", SMALL),
        "boto3": lambda: c.boto3.put_object(Bucket=BUCKET, Key="boto3", Body=SMALL),
    }
    gets = {
        "raw socket": lambda: c.raw.request("GET", "small"),
        "obstore": lambda: bytes(obstore.get(c.obstore, "small").bytes()),
        "cm_platform": lambda: c.ours.get("small").read(),
        "boto3": lambda: c.boto3.get_object(Bucket=BUCKET, Key="small")["Body"].read(),
    }
    findings = []
    for what, calls in (("put", puts), ("get", gets)):
        contenders = [Contender(name, times(call)) for name, call in calls.items()]
        samples = interleave(contenders, operations=200, rounds=rounds)
        finding = Finding.of(f"{what} of 1 KB, one at a time", samples)
        ratio = samples["cm_platform"].cpu_us / samples["boto3"].cpu_us
        finding.at_most(f"{what} of 1 KB: client CPU / boto3's", ratio, 0.25)
        findings.append(finding)
    return findings


def concurrent(made: Clients, rounds: int) -> list[Finding]:
    """1 KB, 32 in flight."""
    c = made

    def threads(call: Any) -> Any:
        def run(count: int) -> None:
            list(c.pool.map(lambda _: call(), range(count)))

        return run

    def tasks(call: Any) -> Any:
        async def work(numbers: Iterator[int]) -> None:
            for _ in numbers:
                await call()

        async def all_of(count: int) -> None:
            numbers = iter(range(count))
            await asyncio.gather(*(work(numbers) for _ in range(IN_FLIGHT)))

        return lambda count: c.runner.run(all_of(count))

    async def get_async() -> None:
        await (await c.ours_async.get("small")).read()

    async def put_async() -> None:
        await c.ours_async.put("ours", SMALL)

    puts = [
        Contender(
            "boto3 threads",
            threads(lambda: c.boto3.put_object(Bucket=BUCKET, Key="boto3", Body=SMALL)),
        ),
        Contender("cm_platform threads", threads(lambda: c.ours.put("ours", SMALL))),
        Contender("cm_platform async", tasks(put_async)),
    ]
    gets = [
        Contender(
            "boto3 threads",
            threads(lambda: c.boto3.get_object(Bucket=BUCKET, Key="small")["Body"].read()),
        ),
        Contender("cm_platform threads", threads(lambda: c.ours.get("small").read())),
        Contender("cm_platform async", tasks(get_async)),
    ]
    findings = []
    for what, contenders in (("put", puts), ("get", gets)):
        samples = interleave(contenders, operations=640, rounds=rounds)
        finding = Finding.of(f"{what} of 1 KB, {IN_FLIGHT} in flight", samples)
        base = samples["boto3 threads"].wall_us
        for face in ("threads", "async"):
            gain = base / samples[f"cm_platform {face}"].wall_us
            finding.at_least(
                f"{what} at {IN_FLIGHT} in flight, {face}: throughput / boto3's", gain, 4.0
            )
        findings.append(finding)
    return findings


def large(made: Clients, rounds: int) -> list[Finding]:
    """64 MiB: boto3's transfer functions, its plain calls, and us."""
    c = made

    def times(call: Any) -> Any:
        def run(count: int) -> None:
            for _ in range(count):
                call()

        return run

    def boto3_download() -> None:
        c.boto3.download_fileobj(BUCKET, "large", BytesIO())

    puts = [
        Contender(
            "boto3 upload_fileobj",
            times(lambda: c.boto3.upload_fileobj(BytesIO(LARGE), BUCKET, "up")),
        ),
        Contender(
            "boto3 put_object",
            times(lambda: c.boto3.put_object(Bucket=BUCKET, Key="up", Body=LARGE)),
        ),
        Contender("cm_platform", times(lambda: c.ours.put("up", LARGE))),
    ]
    gets = [
        Contender("boto3 download_fileobj", times(boto3_download)),
        Contender(
            "boto3 get_object",
            times(lambda: c.boto3.get_object(Bucket=BUCKET, Key="large")["Body"].read()),
        ),
        Contender("cm_platform", times(lambda: c.ours.get("large").read())),
    ]
    findings = []
    for what, contenders in (("put", puts), ("get", gets)):
        samples = interleave(contenders, operations=1, rounds=max(3, rounds))
        finding = Finding.of(f"{what} of 64 MiB", samples)
        ours = samples["cm_platform"].wall_us
        transfer = next(s.wall_us for name, s in samples.items() if name.endswith("_fileobj"))
        single = next(s.wall_us for name, s in samples.items() if name.endswith("_object"))
        finding.at_least(f"{what} of 64 MiB: speed / boto3's transfer", transfer / ours, 1.0)
        finding.at_least(f"{what} of 64 MiB: speed / boto3's single call", single / ours, 1.0)
        findings.append(finding)
    return findings
