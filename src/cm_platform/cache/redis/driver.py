"""The backend `cache.redis`: its settings, and how it is opened."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from cm_platform.cache.backend import CacheCapability, CacheLimits
from cm_platform.limits import limits
from cm_platform.registry import Backend, missing_sdk
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings

from .connection import Address
from .link import Link
from .store import RedisCache

_SCHEMES: Final = ("redis", "rediss")
_CLIENT_NAME: Final = re.compile(r"[!-~]{1,64}")
_PORT: Final = 6379
_CAPABILITIES: Final = frozenset(CacheCapability)


class RedisConfig(Settings):
    """One Redis, Valkey or Upstash database, or a cluster.

    url: `redis://` or, encrypted, `rediss://`, such as
        rediss://default:${UPSTASH_PASSWORD}@eu1-example.upstash.io:6379. In place of the next six.
    host, port, username, password: the server, and who we are to it.
    tls: encrypt, and verify the server's certificate.
    database: number of the database; a cluster has number 0 only.
    cluster: the server is a node of a cluster. Keys become "{partition}key", so that the keys of
        one tenant share a node.
    ca_file: PEM file of the authority that signed the server's certificate.
    pool_size: connections that threads share. The async face has one for all tasks of a loop.
    connect_timeout: seconds until a connection is open.
    read_timeout: seconds, for each wait on an open connection.
    client_name: how the server lists our connections.
    staleness: seconds that replicas may lag, where a service reads from them (Upstash Global);
        more than 0 takes `read_your_writes` from what the backend promises.
    """

    url: SecretStr | None = None
    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] = _PORT
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    database: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    cluster: bool = False
    ca_file: Path | None = None
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 50
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 2.0
    read_timeout: Annotated[float, Field(gt=0, le=600)] = 5.0
    client_name: str | None = None
    staleness: Annotated[float, Field(ge=0, le=86_400)] = 0.0

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _parts(value.get_secret_value())
        return value

    @field_validator("client_name")
    @classmethod
    def _check_client_name(cls, value: str | None) -> str | None:
        if value is not None and _CLIENT_NAME.fullmatch(value) is None:
            raise ValueError("a client's name is 1 to 64 printable characters without spaces")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> RedisConfig:
        if (self.url is None) == (self.host is None):
            raise ValueError("set either url, or host")
        inside = {"port", "username", "password", "tls", "database"} & self.model_fields_set
        if self.url is not None and inside:
            raise ValueError(f"url says it already: remove {', '.join(sorted(inside))}")
        if self.username is not None and self.password is None:
            raise ValueError("username needs a password")
        address = self.address()
        if self.cluster and address.database:
            raise ValueError("a cluster has the database 0 only")
        if self.ca_file is not None and not address.tls:
            raise ValueError("ca_file is for tls, or a rediss:// url")
        return self

    @property
    def lacks(self) -> frozenset[CacheCapability]:
        """What this database, as it is, cannot promise."""
        return frozenset({CacheCapability.READ_YOUR_WRITES} if self.staleness else ())

    @property
    def encrypted(self) -> bool:
        """Whether what is sent is encrypted, and the server is who it says it is."""
        return self.address().tls

    def address(self) -> Address:
        """The settings as the backend uses them."""
        server: dict[str, Any]
        if self.url is not None:
            server = _parts(self.url.get_secret_value())
        else:
            server = {
                "host": self.host,
                "port": self.port,
                "username": self.username,
                "password": self.password.get_secret_value() if self.password else None,
                "tls": self.tls,
                "database": self.database,
            }
        return Address(
            **server,
            ca_file=str(self.ca_file) if self.ca_file is not None else None,
            client_name=self.client_name,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
        )


async def _open(config: RedisConfig, runtime: Runtime) -> RedisCache:
    for sdk in ("redis", "hiredis"):
        if find_spec(sdk) is None:
            raise missing_sdk("cache.redis", "redis", ModuleNotFoundError(f"no {sdk}", name=sdk))
    address = config.address()
    address.check_ca_file()
    return RedisCache(
        _link(config, address, runtime),
        address,
        cluster=config.cluster,
        is_async=runtime.is_async,
        capabilities=_CAPABILITIES - config.lacks,
        limits=CacheLimits(**limits("cache", "redis"), staleness=config.staleness),
    )


BACKEND: Final = Backend(
    name="cache.redis",
    config=RedisConfig,
    open=_open,
    capabilities=_CAPABILITIES,
    extra="redis",
)


def _link(config: RedisConfig, address: Address, runtime: Runtime) -> Link:
    def linked(address: Address) -> Link:
        if runtime.is_async:
            from .asynchronous import AsyncLink

            return AsyncLink(address)
        from .blocking import BlockingLink

        return BlockingLink(address, config.pool_size)

    if not config.cluster:
        return linked(address)
    from .cluster import Cluster, Node

    return Cluster(
        Node(address.host, address.port), lambda node: linked(address.at(*node)), runtime
    )


def _parts(url: str) -> dict[str, Any]:
    """What a URL says; ValueError, without the URL, for one that says something else."""
    wanted = "a url is such as rediss://user:password@host:6379/0"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    path = parts.path.strip("/")
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"{wanted}, or redis:// where nothing is encrypted")
    if parts.query or parts.fragment:
        raise ValueError(f"{wanted}: options are settings of their own")
    if path and not (path.isascii() and path.isdigit() and len(path) <= 6):
        raise ValueError(f"{wanted}: what follows the port is the number of a database")
    return {
        "host": parts.hostname,
        "port": port or _PORT,
        # `:password@` and `user:password@`.
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "tls": parts.scheme == "rediss",
        "database": int(path or 0),
    }


__all__ = ["BACKEND", "RedisConfig"]
