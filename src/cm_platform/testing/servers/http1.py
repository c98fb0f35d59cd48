"""HTTP/1.1 messages as bytes: read from a socket, kept exactly as they were sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

_MAX_HEAD_LINES = 200
_MAX_LINE_BYTES = 65_536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class MessageError(Exception):
    """The other side closed the connection in the middle, or did not speak HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a reply: the first line, the header lines and the body (framing included)."""

    first_line: bytes
    header_lines: tuple[bytes, ...]
    body: bytes = field(repr=False)

    @property
    def head(self) -> bytes:
        """All that stands before the body."""
        return b"".join((self.first_line, *self.header_lines, b"\r\n"))

    @property
    def method(self) -> str:
        """A request's method."""
        return self.first_line.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        """A request's path and query, as sent."""
        return self.first_line.split(b" ")[1].decode("latin-1")

    @property
    def status(self) -> int:
        """A reply's status."""
        return _status(self.first_line)

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return _header(self.header_lines, name)

    def without(self, name: str) -> Message:
        """The same message less one header."""
        kept = tuple(line for line in self.header_lines if not _named(line, name))
        return Message(self.first_line, kept, self.body)

    @property
    def closes(self) -> bool:
        """Whether its sender closes the connection after it."""
        return (self.header("connection") or "").lower() == "close"


def read_request(stream: BinaryIO, reply: BinaryIO) -> Message | None:
    """The next request, None if there is no more. Grants `Expect: 100-continue` over `reply`."""
    first_line = stream.readline(_MAX_LINE_BYTES)
    if not first_line:
        return None
    if len(first_line.split(b" ")) != 3:
        raise MessageError("not a request line")
    lines = _read_header_lines(stream)
    if (_header(lines, "expect") or "").lower() == "100-continue":
        reply.write(_CONTINUE)
        reply.flush()
    body = _read_body(stream, lines, until_close=False)
    return Message(first_line, lines, body).without("expect")


def read_reply(stream: BinaryIO, method: str) -> Message:
    """The reply to a request with this method; interim (1xx) replies are skipped."""
    while True:
        first_line = stream.readline(_MAX_LINE_BYTES)
        if not first_line.startswith(b"HTTP/1."):
            raise MessageError("no reply")
        lines = _read_header_lines(stream)
        status = _status(first_line)
        if status >= 200:
            break
    if method == "HEAD" or status in (204, 304):
        return Message(first_line, lines, b"")
    return Message(first_line, lines, _read_body(stream, lines, until_close=True))


def _read_header_lines(stream: BinaryIO) -> tuple[bytes, ...]:
    lines: list[bytes] = []
    while len(lines) < _MAX_HEAD_LINES:
        line = stream.readline(_MAX_LINE_BYTES)
        if line in (b"\r\n", b"\n"):
            return tuple(lines)
        if not line.endswith(b"\n"):
            break
        lines.append(line)
    raise MessageError("the head is not complete")


def _read_body(stream: BinaryIO, lines: tuple[bytes, ...], *, until_close: bool) -> bytes:
    if "chunked" in (_header(lines, "transfer-encoding") or "").lower():
        return _read_chunked(stream)
    length = _header(lines, "content-length")
    if length is None:
        return stream.read() if until_close else b""
    return _read_exactly(stream, int(length))


def _read_chunked(stream: BinaryIO) -> bytes:
    """Chunks with their framing, so that they can be passed on as they came."""
    pieces: list[bytes] = []
    while True:
        line = stream.readline(_MAX_LINE_BYTES)
        pieces.append(line)
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise MessageError("not a chunk") from None
        if size == 0:
            break
        pieces.append(_read_exactly(stream, size + 2))
    pieces += [*_read_header_lines(stream), b"\r\n"]
    return b"".join(pieces)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise MessageError("the body is not complete")
    return data


def _status(first_line: bytes) -> int:
    return int(first_line.split(b" ", 2)[1])


def _header(lines: tuple[bytes, ...], name: str) -> str | None:
    found = next((line for line in lines if _named(line, name)), None)
    return None if found is None else found.partition(b":")[2].strip().decode("latin-1")


def _named(line: bytes, name: str) -> bool:
    return line.partition(b":")[0].strip().lower() == name.encode()
