"""An S3 for speed alone: keeps objects in memory, verifies nothing, refuses nothing.

It exists so that the clients are what is measured. Never test correctness against it.
    python -m benchmarks.server     prints "ready <port>" and serves until its stdin ends
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import deque
from typing import cast
from urllib.parse import parse_qs, urlsplit

OBJECTS: dict[str, tuple[bytes, str, list[bytes]]] = {}
PARTS: dict[str, dict[int, bytes]] = {}
SLICE = 256 * 1024
STAMP = b"Last-Modified: Mon, 23 Nov 2026 00:00:00 GMT\r\n"


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as S3 clients speak it."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.unsent: deque[memoryview] = deque()
        self.paused = False
        self.head: tuple[str, str, dict[str, str]] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=2 * SLICE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.unsent.clear()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._send()

    def _send(self) -> None:
        # Slice by slice: written whole, a large body would be copied while everybody waits.
        while self.unsent and not self.paused and not self.transport.is_closing():
            view = self.unsent.popleft()
            if len(view) > SLICE:
                self.unsent.appendleft(view[SLICE:])
            self.transport.write(view[:SLICE])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._request():
            pass

    def _request(self) -> bool:
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            del self.buffer[: end + 4]
            method, target, _ = lines[0].split(" ")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
            self.head = method, target, headers
            if headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        method, target, headers = self.head
        length = int(headers.get("content-length", "0"))
        if len(self.buffer) < length:
            return False
        body = bytes(memoryview(self.buffer)[:length])
        del self.buffer[:length]
        self.head = None
        pieces = answer(method, target, headers, body)
        if self.unsent or sum(map(len, pieces)) > SLICE:
            self.unsent.extend(map(memoryview, pieces))
            self._send()
        else:
            self.transport.writelines(pieces)
        return True


def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> list[bytes]:
    """The reply, in pieces."""
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    key = url.path
    if method == "PUT" and "partNumber" in query:
        PARTS[query["uploadId"][0]][int(query["partNumber"][0])] = body
        return reply(b'ETag: "part"\r\n', b"")
    if method == "PUT":
        return put(key, headers, body)
    if method == "POST" and "uploads" in query:
        upload = f"u{len(PARTS)}"
        PARTS[upload] = {}
        tag = f"<UploadId>{upload}</UploadId>"
        return reply(
            b"", f"<InitiateMultipartUploadResult>{tag}</InitiateMultipartUploadResult>".encode()
        )
    if method == "POST" and "uploadId" in query:
        parts = PARTS.pop(query["uploadId"][0])
        put(key, {}, b"".join(parts[number] for number in sorted(parts)))
        return reply(
            b"", b'<CompleteMultipartUploadResult><ETag>"m"</ETag></CompleteMultipartUploadResult>'
        )
    if method in ("GET", "HEAD"):
        return get(method, key, headers)
    OBJECTS.pop(key, None)
    return [b"HTTP/1.1 204 No Content\r\n\r\n"]


def put(key: str, headers: dict[str, str], body: bytes) -> list[bytes]:
    """Store an object. Its etag is a digest of its first bytes: nobody compares it."""
    etag = hashlib.md5(body[:64], usedforsecurity=False).hexdigest()
    kept = [
        f"{name}: {value}\r\n".encode("latin-1")
        for name, value in headers.items()
        if name.startswith("x-amz-meta-") or name == "content-type"
    ]
    OBJECTS[key] = body, etag, kept
    return reply(f'ETag: "{etag}"\r\n'.encode(), b"")


def get(method: str, key: str, headers: dict[str, str]) -> list[bytes]:
    """An object, or a range of it."""
    found = OBJECTS.get(key)
    if found is None:
        return [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]
    body, etag, kept = found
    status, extra, size = b"200 OK", b"", len(body)
    if "range" in headers:
        first, last = headers["range"].removeprefix("bytes=").split("-")
        stop = min(int(last) if last else size - 1, size - 1)
        extra = f"Content-Range: bytes {first}-{stop}/{size}\r\n".encode()
        body, status = body[int(first) : stop + 1], b"206 Partial Content"
    fixed = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n" % (status, len(body))
    tag = f'ETag: "{etag}"\r\n'.encode()
    lines = [fixed, STAMP, tag, extra, *kept, b"\r\n"]
    return lines if method == "HEAD" else [*lines, body]


def reply(headers: bytes, body: bytes) -> list[bytes]:
    """200 with a small body."""
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (len(body), headers), body]


async def serve() -> None:
    """Until stdin ends: the parent is gone."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
