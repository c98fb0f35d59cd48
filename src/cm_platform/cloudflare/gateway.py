"""The client of the gateway Worker: signed batches of operations, on both faces.

It goes to httpx's transports, a public interface, and not through `httpx.Client`: that adds a
third to the CPU time of a request, for redirects, cookies and hooks that the protocol does not
have, and a log line with the URL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
import orjson

from cm_platform.errors import InvalidArgumentError
from cm_platform.runtime import Runtime, each

from .answer import error_of_answer
from .connections import Connections, Transport
from .errors import GATEWAY, error_of_trouble, trouble_of
from .frame import CONTENT_TYPE, MAX_BODY, encoded, malformed
from .native import Signing
from .outcome import Operation, Outcome, outcomes_of
from .settings import GatewaySettings
from .signature import RequestSigner
from .trust import ssl_context

_BATCH: Final = b"/v1/batch"
_HEALTH: Final = b"/v1/health"

# An idle connection is used again within this many seconds.
_ONE: Final = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60.0)

# Bytes from which hashing a body is left to a thread, where there is an event loop to stop.
_LARGE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Health:
    """What a gateway says of itself.

    version: of the Worker. protocol: of the wire. bindings: kinds of product by binding name.
    time: Unix seconds, by its clock.
    """

    version: str
    protocol: int
    bindings: Mapping[str, str]
    time: float


class Gateway:
    """One gateway, as one of its keys. Makes one attempt each: retries are the executor's."""

    def __init__(self, settings: GatewaySettings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._signer = RequestSigner(settings.key_id, settings.secret.get_secret_value())
        base = httpx.URL(settings.url)
        self._urls = {path: base.copy_with(raw_path=path) for path in (_BATCH, _HEALTH)}
        self._head = [
            (b"host", base.netloc),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"cm-platform"),
        ]
        self._timeouts = httpx.Timeout(
            settings.read_timeout, connect=settings.connect_timeout
        ).as_dict()
        self._context = ssl_context(settings.ca_file)
        self._peer = replace(GATEWAY, address=base.netloc.decode("ascii"))
        self._connections = Connections(
            settings.pool_size, runtime, self._new_transport, self._peer
        )

    @classmethod
    def open(cls, settings: GatewaySettings, runtime: Runtime) -> Gateway:
        """A client under a runtime. No network I/O; `config_invalid` for a bad `ca_file`."""
        return cls(settings, runtime)

    async def batch(self, partition: str, operations: Sequence[Operation]) -> list[Outcome]:
        """Ask for operations on one partition, in one request; their outcomes, in order.

        partition: prefixes what the operations touch; signed, and nothing in them leads out of it.
        operations: as the protocol names them, values as bytes; at most 100, and 26 MiB together.

        An operation that fails is an outcome. Raises, for the batch as a whole:
        `invalid_argument` (too many, too large, not sayable), `unauthenticated`, `rate_limited`,
        `unavailable`, `deadline_exceeded`, `config_invalid` (no gateway there, or an untrusted
        certificate), `internal` (a reply that is not what the protocol says).
        """
        if not operations:
            return []
        if not partition:
            raise InvalidArgumentError("a batch needs a partition", not_sent=True)
        body = encoded(operations)
        reply = await self._ask("POST", _BATCH, partition, body)
        return outcomes_of(reply, operations)

    async def health(self) -> Health:
        """Which version is there, and with which bindings. Raises as `batch` does."""
        reply = await self._ask("GET", _HEALTH, "", b"")
        return _health(reply)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    def native(self) -> httpx.Client | httpx.AsyncClient:
        """A client of httpx that signs what it sends; the caller closes it. For operators.

        A partition goes percent-encoded into the header `cm-partition`.
        """
        kind = httpx.AsyncClient if self._runtime.is_async else httpx.Client
        transport: Any = self._new_transport()
        return kind(
            transport=transport,
            base_url=self._settings.url,
            timeout=httpx.Timeout(**self._timeouts),
            auth=Signing(self._signer, self._runtime.clock),
            trust_env=False,
        )

    def _new_transport(self) -> Transport:
        settings = self._settings
        kind = httpx.AsyncHTTPTransport if self._runtime.is_async else httpx.HTTPTransport
        return kind(
            verify=self._context,
            trust_env=False,
            limits=_ONE,
            proxy=settings.proxy.get_secret_value() if settings.proxy is not None else None,
            retries=0,
        )

    async def _ask(self, method: str, path: bytes, partition: str, body: bytes) -> bytes:
        if len(body) < _LARGE:
            digest = _digest(body)
        else:
            digest = await self._runtime.call(_digest, body)
        headers = [
            *self._head,
            *self._signer.headers(
                method.encode(),
                path,
                b"",
                digest,
                partition,
                now=self._runtime.clock.wall(),
            ),
        ]
        if body:
            headers += [
                (b"content-type", CONTENT_TYPE),
                (b"content-length", b"%d" % len(body)),
            ]
        request = httpx.Request(
            method,
            self._urls[path],
            headers=headers,
            stream=httpx.ByteStream(body),
            extensions={"timeout": self._timeouts},
        )
        response, reply = await self._exchange(request)
        if response.status_code != 200:
            raise error_of_answer(
                response.status_code, response.headers, reply, self._runtime.clock.wall()
            )
        return reply

    async def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        transport = await self._connections.take(self._settings.connect_timeout)
        try:
            response, reply = await _sent(transport, request)
        except BaseException as error:
            await self._connections.drop(transport)
            trouble = trouble_of(error)
            if trouble is None:
                raise
            raise error_of_trouble(trouble, self._peer) from error
        await self._connections.give(transport)
        return response, reply


async def _sent(transport: Transport, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    if isinstance(transport, httpx.HTTPTransport):
        response = transport.handle_request(request)
    else:
        response = await transport.handle_async_request(request)
    chunks: list[bytes] = []
    size = 0
    # As it came over the wire: what is compressed was not asked for, and might be a bomb.
    async for chunk in each(response.stream):
        size += len(chunk)
        if size > MAX_BODY:
            raise malformed(f"more than {MAX_BODY} bytes")
        chunks.append(chunk)
    if isinstance(response.stream, httpx.SyncByteStream):
        response.close()
    else:
        await response.aclose()
    return response, chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _health(reply: bytes) -> Health:
    try:
        found: Any = orjson.loads(reply)
        return Health(
            version=str(found["version"]),
            protocol=int(found["protocol"]),
            bindings={str(name): str(kind) for name, kind in found["bindings"].items()},
            time=float(found["time"]) / 1000,
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        raise malformed("it is no statement of health") from None


__all__ = ["Gateway", "Health"]
