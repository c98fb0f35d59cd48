"""HTTP/1.1 for the test servers: requests and replies as values, connections kept open.

Werkzeug's own server closes the connection after every reply, which hides what clients do with
connections that they reuse, and a WSGI server loses the path as it was sent. Both matter here.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

Headers = tuple[tuple[str, str], ...]

_MAX_BODY_BYTES = 5 << 30
_BODYLESS = frozenset({204, 304})
_request_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` and `query` are as sent, still percent-encoded.

    Header names are lower case; values are latin-1, so that any bytes survive.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The value of a header, or None; repeated headers are joined with a comma."""
        values = [value for key, value in self.headers if key == name]
        return ",".join(values) if values else None

    def parameters(self) -> list[tuple[str, str]]:
        """The decoded query. A plus is a plus: S3 clients encode a space as %20."""
        pairs = (piece.partition("=") for piece in self.query.split("&") if piece)
        return [(decoded(name), decoded(value)) for name, _, value in pairs]

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter, empty for a bare one, None if it is absent."""
        return next((value for key, value in self.parameters() if key == name), None)


@dataclass(frozen=True, slots=True)
class Response:
    """One reply; Content-Length and Date are added when it is sent."""

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The first value of a header (lower-case name), or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)


Handler = Callable[[Request], Response]


class S3Error(Exception):
    """A refusal in S3's words, which `response` renders as S3 renders it."""

    def __init__(
        self, status: int, code: str, message: str, *, details: Iterable[tuple[str, str]] = ()
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)

    def response(self) -> Response:
        """The reply with S3's XML body."""
        number = f"{next(_request_numbers):016X}"
        elements = (("Code", self.code), ("Message", self.message), *self.details)
        inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements)
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error>{inner}<RequestId>{number}</RequestId></Error>"
        )
        headers = (("content-type", "application/xml"), ("x-amz-request-id", number))
        return Response(self.status, headers, document.encode())


def decoded(text: str) -> str:
    """Percent-decode UTF-8. Bytes that are not UTF-8 are an S3 InvalidURI error."""
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error(400, "InvalidURI", "Couldn't parse the specified URI.") from None


class HttpServer(ThreadingHTTPServer):
    """A thread per connection on a loopback address; port 0 asks the system for a free one."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: Handler) -> None:
        self.handler = handler
        super().__init__(address, _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "cm-platform-test"
    disable_nagle_algorithm = True
    timeout = 60

    def __getattr__(self, name: str) -> Any:
        # The standard library looks up do_GET, do_PUT and so on; all methods are alike here.
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass

    def _answer(self) -> None:
        if self.headers.get("transfer-encoding"):
            # S3 wants a length and refuses chunked bodies.
            self.close_connection = True
            self._send(
                S3Error(501, "NotImplemented", "Transfer-Encoding is not supported.").response()
            )
            return
        body = self._body()
        if body is None:
            return
        path, _, query = self.path.partition("?")
        headers = tuple((name.lower(), value) for name, value in self.headers.items())
        request = Request(self.command, path, query, headers, body)
        try:
            assert isinstance(self.server, HttpServer)
            response = self.server.handler(request)
        except S3Error as refusal:
            response = refusal.response()
        except Exception:
            self._send(S3Error(500, "InternalError", "The test server failed.").response())
            raise
        self._send(response)

    def _body(self) -> bytes | None:
        declared = self.headers.get("content-length", "0")
        length = int(declared) if declared.isdecimal() else -1
        if not 0 <= length <= _MAX_BODY_BYTES:
            self.close_connection = True
            self._send(S3Error(400, "EntityTooLarge", "The body is too large.").response())
            return None
        body = self.rfile.read(length)
        if len(body) < length:
            # The client left in the middle: nothing may be stored.
            self.close_connection = True
            return None
        return body

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        length = str(len(response.body))
        for name, value in response.headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("date", "server", "connection", "transfer-encoding"):
                self.send_header(name, value)
        if response.status not in _BODYLESS:
            self.send_header(
                "content-length", length if self.command == "HEAD" else _size(response)
            )
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD" and response.status not in _BODYLESS:
            self.wfile.write(response.body)


def _size(response: Response) -> str:
    return str(len(response.body))
