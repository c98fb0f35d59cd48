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
# before the first look at the peak, or a file with holes; and a small transfer in two parts has
# loaded the SDKs.
PROGRAM = """
import asyncio, resource, sys, tempfile
from pathlib import Path
from cm_platform import AsyncPlatform, Platform, Tenant

face, kind, blocks, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
configuration = {"storage": {"default": "tested", "backends": {"tested": settings}}}
block = bytes(range(256)) * 4096

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def file_of(count):
    path = Path(files) / str(count)
    with path.open("wb") as file:
        file.truncate(count * len(block))
    return path

def sync_transfer(storage, count):
    storage.put("big", file_of(count) if kind == "file" else (block for _ in range(count)))
    with storage.get("big") as stored:
        return sum(len(chunk) for chunk in stored.chunks())

async def async_transfer(storage, count):
    async def body():
        for _ in range(count):
            yield block
    await storage.put("big", file_of(count) if kind == "file" else body())
    async with await storage.get("big") as stored:
        return sum([len(chunk) async for chunk in stored.chunks()])

async def main():
    async with AsyncPlatform.from_config(configuration) as platform:
        storage = platform.get_service("storage", Tenant("acme"))
        await async_transfer(storage, 9)
        before = peak()
        assert await async_transfer(storage, blocks) == blocks * len(block)
        print(peak() - before)

def sync_main():
    with Platform.from_config(configuration) as platform:
        storage = platform.get_service("storage", Tenant("acme"))
        sync_transfer(storage, 9)
        before = peak()
        assert sync_transfer(storage, blocks) == blocks * len(block)
        print(peak() - before)

with tempfile.TemporaryDirectory() as files:
    if face == "async":
        asyncio.run(main())
    else:
        sync_main()
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[Endpoint]:
    with S3Server() as server:
        yield server.new_bucket()


def growth(face: str, kind: str, size: int, settings: dict[str, object]) -> int:
    """Bytes by which a process grows that sends and fetches a body of `size` bytes."""
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", PROGRAM, face, kind, str(size // MIB), repr(settings)],
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
@pytest.mark.parametrize("kind", ["iterable", "file"])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_large_body_streams_through_s3_in_bounded_memory(
    bucket: Endpoint, face: str, kind: str, size: int
) -> None:
    settings: dict[str, object] = {
        "driver": "s3",
        "bucket": bucket.bucket,
        "endpoint": bucket.url,
        "region": bucket.region,
        "access_key_id": bucket.access_key_id,
        "secret_access_key": bucket.secret_access_key,
    }
    assert growth(face, kind, size, settings) <= BOUND


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["iterable", "file"])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_large_body_streams_through_the_disk_in_bounded_memory(
    tmp_path: Path, face: str, kind: str, size: int
) -> None:
    assert growth(face, kind, size, {"driver": "local", "path": str(tmp_path / "store")}) <= BOUND
