"""A body of any size goes up and comes down in bounded memory, over both faces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cm_platform.testing.servers import Endpoint, S3Server

pytestmark = pytest.mark.xdist_group("s3-memory")

MIB = 1024 * 1024
# Bytes that the process may grow by, whatever the size of the body.
BOUND = 64 * MIB

# In a process of its own: its peak is nobody else's. The body is one block again and again, made
# before the first look at the peak, and a small transfer in two parts has loaded the SDKs.
PROGRAM = """
import asyncio, resource, sys
from cm_platform import AsyncPlatform, Platform, Tenant

face, blocks, settings = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
configuration = {"storage": {"default": "tested", "backends": {"tested": settings}}}
block = bytes(range(256)) * 4096

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def sync_transfer(storage, count):
    storage.put("big", (block for _ in range(count)))
    with storage.get("big") as stored:
        return sum(len(chunk) for chunk in stored.chunks())

async def async_transfer(storage, count):
    async def body():
        for _ in range(count):
            yield block
    await storage.put("big", body())
    async with await storage.get("big") as stored:
        return sum([len(chunk) async for chunk in stored.chunks()])

async def main():
    async with AsyncPlatform.from_config(configuration) as platform:
        storage = platform.get_service("storage", Tenant("acme"))
        await async_transfer(storage, 9)
        before = peak()
        assert await async_transfer(storage, blocks) == blocks * len(block)
        print(peak() - before)

if face == "async":
    asyncio.run(main())
else:
    with Platform.from_config(configuration) as platform:
        storage = platform.get_service("storage", Tenant("acme"))
        sync_transfer(storage, 9)
        before = peak()
        assert sync_transfer(storage, blocks) == blocks * len(block)
        print(peak() - before)
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[Endpoint]:
    with S3Server() as server:
        yield server.new_bucket()


def growth(face: str, size: int, settings: dict[str, object]) -> int:
    """Bytes by which a process grows that sends and fetches a body of `size` bytes."""
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", PROGRAM, face, str(size // MIB), repr(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


SAMPLE = 128 * MIB
WHOLE = 2048 * MIB
SIZES = [
    pytest.param(SAMPLE, id="128MiB"),
    pytest.param(WHOLE, id="2GiB", marks=[pytest.mark.prove, pytest.mark.timeout(900)]),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_large_body_streams_through_s3_in_bounded_memory(
    bucket: Endpoint, face: str, size: int
) -> None:
    settings: dict[str, object] = {
        "driver": "s3",
        "bucket": bucket.bucket,
        "endpoint": bucket.url,
        "region": bucket.region,
        "access_key_id": bucket.access_key_id,
        "secret_access_key": bucket.secret_access_key,
    }
    assert growth(face, size, settings) <= BOUND


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_large_body_streams_through_the_disk_in_bounded_memory(
    tmp_path: Path, face: str, size: int
) -> None:
    assert growth(face, size, {"driver": "local", "path": str(tmp_path / "store")}) <= BOUND
