"""The same as plain_script.py on an event loop, with many transfers at once.

python examples/async_script.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from cm_platform import AlreadyExistsError, AsyncPlatform, AsyncStorage, Tenant

DATA = Path(__file__).parent / "data"
AT_ONCE = 8


async def main() -> None:
    # The platform owns the connections; leaving the block closes them.
    async with AsyncPlatform.from_config(embedded=True) as platform:
        storage = platform.get_service("storage", Tenant("magazine"))
        await upload(storage)
        async for listed in storage.list("async/press/"):
            print(f"{listed.size:>8}  {listed.key}")
        await create_only_once(storage)
        await write_a_stream(storage)


async def upload(storage: AsyncStorage) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(path: Path) -> int:
        async with room:
            # `verify` reads back what was written and compares its SHA-256.
            info = await storage.put(
                f"async/{path.relative_to(DATA).as_posix()}", path, verify=True
            )
            return info.size

    files = [path for path in DATA.rglob("*") if path.is_file()]
    sizes = await asyncio.gather(*(one(path) for path in files))
    print(f"{len(sizes)} files, {sum(sizes)} bytes, written and verified")


async def create_only_once(storage: AsyncStorage) -> None:
    """Two writers, one key: exactly one wins, whatever the backend."""

    async def claim(name: str) -> str | None:
        try:
            await storage.put("async/edition-42", name.encode(), if_none_match="*")
        except AlreadyExistsError:
            return None
        return name

    winners = [name for name in await asyncio.gather(claim("ada"), claim("grace")) if name]
    assert len(winners) == 1
    print(f"{winners[0]} has the edition")
    await storage.delete("async/edition-42")


async def write_a_stream(storage: AsyncStorage) -> None:
    """A body whose size nobody knows yet; memory stays within five parts of 8 MiB."""

    async def rows() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield f"{number};{number * number}\n".encode()

    info = await storage.put("async/squares.csv", rows(), content_type="text/csv")
    last = await storage.get_range("async/squares.csv", -11)
    print(f"{info.key}: {info.size} bytes, ends with {last.decode().strip()!r}")


if __name__ == "__main__":
    asyncio.run(main())
