"""An HTTP server for speed alone: reads a request, answers all of them alike.

python -m benchmarks.fixed_server     prints "ready <port>" and serves until its stdin ends;
                                      what it answers with is the first line of its stdin, hex
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as httpx speaks it: a head, and a body of a known length."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.buffer = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = 0
            for line in bytes(self.buffer[:end]).lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            if len(self.buffer) < end + 4 + length:
                return
            del self.buffer[: end + 4 + length]
            self.transport.write(self.answer)


async def main() -> None:
    """Serve until stdin ends."""
    body = bytes.fromhex(sys.stdin.readline())
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answer), "127.0.0.1", 0, backlog=256)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
