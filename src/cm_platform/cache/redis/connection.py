"""How to reach Redis: the settings as both clients of the SDK use them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias

from cm_platform.errors import ConfigInvalidError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

AnyClient: TypeAlias = (
    "redis.Redis | redis.RedisCluster | redis.asyncio.Redis | redis.asyncio.RedisCluster"
)
"""A client of the SDK, of either face."""


class BlockingConnection(Protocol):
    """What is used of the SDK's `redis.Connection`."""

    @property
    def is_connected(self) -> bool: ...
    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    def read_response(self, *, disconnect_on_error: bool = True) -> Any: ...


class AsyncConnection(Protocol):
    """What is used of the SDK's `redis.asyncio.Connection`."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    async def read_response(self, *, disconnect_on_error: bool = True) -> Any: ...


_PROTOCOL: Final = 2
"""RESP2: every service speaks it, and no push message comes between replies."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server, or one node of a cluster, and how it is spoken to.

    connect_timeout: seconds until a connection is open.
    read_timeout: seconds for each wait on an open connection, the first greeting included.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    database: int = 0
    client_name: str | None = None
    connect_timeout: float = 2.0
    read_timeout: float = 5.0

    def __reduce__(self) -> NoReturn:
        """Refuse: in a pickle the password would be plain text."""
        raise TypeError("an Address may hold a password and is not pickled")

    def at(self, host: str, port: int) -> Address:
        """Another node of the same cluster."""
        return replace(self, host=host, port=port)

    def check_ca_file(self) -> None:
        """Raise `config_invalid` when `ca_file` cannot be read."""
        if self.ca_file is None:
            return
        try:
            with open(self.ca_file, "rb"):  # noqa: PTH123 - a path of the configuration
                pass
        except OSError as error:
            raise ConfigInvalidError(
                f"ca_file cannot be read ({error.strerror}): it must be a PEM file"
            ) from None

    def blocking_connection(self) -> BlockingConnection:
        """A connection of the blocking face, not yet connected."""
        import redis

        made: Any = redis.SSLConnection if self.tls else redis.Connection
        connection: BlockingConnection = made(
            **self._for_connection(), socket_timeout=self.read_timeout
        )
        return connection

    def async_connection(self) -> AsyncConnection:
        """A connection of the async face, not yet connected.

        It has no timeout of its own: the SDK's costs a task for each write, and a reply that
        is late must not end while others' replies are still under way.
        """
        import redis.asyncio

        made: Any = redis.asyncio.SSLConnection if self.tls else redis.asyncio.Connection
        connection: AsyncConnection = made(**self._for_connection(), socket_timeout=None)
        return connection

    def client(self, *, is_async: bool, cluster: bool) -> AnyClient:
        """The SDK's own client, for operators. Its retries are off. No I/O."""
        import redis
        import redis.asyncio

        made: Any
        if cluster:
            made = redis.asyncio.RedisCluster if is_async else redis.RedisCluster
        else:
            made = redis.asyncio.Redis if is_async else redis.Redis
        client: AnyClient = made(
            **self._for_client(),
            **self._verification(),
            **({} if cluster else {"db": self.database}),
            ssl=self.tls,
            socket_timeout=self.read_timeout,
        )
        return client

    def _for_connection(self) -> dict[str, Any]:
        # Without `driver_info` a connection is ready one or two round trips sooner.
        return {
            **self._for_client(),
            "db": self.database,
            "driver_info": None,
            **(self._verification() if self.tls else {}),
        }

    def _for_client(self) -> dict[str, Any]:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "password": self.password,
            "client_name": self.client_name,
            "protocol": _PROTOCOL,
            "socket_connect_timeout": self.connect_timeout,
            # The SDK would send every command again, ten times, an increment too.
            "retry": Retry(NoBackoff(), 0),
        }

    def _verification(self) -> dict[str, Any]:
        return {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": self.ca_file,
        }


__all__ = ["Address", "AnyClient", "AsyncConnection", "BlockingConnection"]
