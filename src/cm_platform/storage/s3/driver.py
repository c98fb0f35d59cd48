"""The backend `storage.s3`: Amazon S3, and services that speak its API."""

from __future__ import annotations

import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from cm_platform.limits import limits
from cm_platform.registry import Backend, missing_sdk
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings
from cm_platform.storage.backend import StorageCapability, StorageLimits

from .complete import CompletePath
from .connection import Connection
from .fast import FastPath, why_unusable
from .store import S3Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import S3Credential

logger = logging.getLogger("cm_platform.storage")

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LOOPBACK: Final = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1")


class S3Config(Settings):
    """One bucket on S3, or on a service that speaks its API.

    bucket: its name.
    region: required unless an endpoint is given; then `us-east-1`.
    endpoint: of a service other than Amazon's, without the bucket and without a path.
    allow_http: let an endpoint be http. Loopback may be without it.
    access_key_id, secret_access_key: both, or neither: then boto3's chain finds the credentials
        (environment, profile, container, instance role).
    session_token: of temporary credentials, beside the two.
    profile: in the AWS configuration files, in place of the two.
    addressing: where the bucket's name goes, into the host or the path. Left out: the host on
        Amazon, the path elsewhere and for names with dots, which no certificate covers.
    connect_timeout: seconds.
    read_timeout: seconds, for each wait on an open connection.
    pool_size: connections kept open.
    lacks: what this service cannot do, of the capabilities that S3 has.
    ca_file: PEM file of the authority that signed the endpoint's certificate.
    proxy: its URL. The environment's proxies are not used.
    """

    bucket: str
    region: str = ""
    endpoint: str | None = None
    allow_http: bool = False
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    profile: str | None = None
    addressing: Literal["virtual", "path"] | None = None
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    read_timeout: Annotated[float, Field(gt=0, le=600)] = 20.0
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 50
    lacks: frozenset[StorageCapability] = frozenset()
    ca_file: Path | None = None
    proxy: SecretStr | None = None

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, value: str) -> str:
        return checked_bucket(value)

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: str) -> str:
        if value and _REGION.fullmatch(value) is None:
            raise ValueError("a region is lower-case letters, digits and '-', such as eu-west-3")
        return value

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        return checked_endpoint(value) if value is not None else None

    @model_validator(mode="after")
    def _check_together(self) -> S3Config:
        if not self.region and self.endpoint is None:
            raise ValueError("set `region`, such as eu-west-3; only with an `endpoint` may it lack")
        if self.endpoint is not None and not self.allow_http:
            check_encrypted(self.endpoint)
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("set both access_key_id and secret_access_key, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token needs access_key_id and secret_access_key")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("set either profile, or access_key_id and secret_access_key")
        return self

    def connection(self) -> Connection:
        """The settings as the backend uses them."""
        region = self.region or "us-east-1"
        if self.addressing is not None:
            virtual = self.addressing == "virtual"
        else:
            virtual = self.endpoint is None and "." not in self.bucket
        return Connection(
            bucket=self.bucket,
            region=region,
            endpoint=self.endpoint or _amazon(region),
            virtual=virtual,
            access_key_id=revealed(self.access_key_id),
            secret_access_key=revealed(self.secret_access_key),
            session_token=revealed(self.session_token),
            profile=self.profile,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            pool_size=self.pool_size,
            ca_file=str(self.ca_file) if self.ca_file is not None else None,
            proxy=revealed(self.proxy),
        )


async def _open(config: S3Config, runtime: Runtime) -> S3Storage:
    return opened(
        "storage.s3",
        config.connection(),
        runtime,
        capabilities=frozenset(StorageCapability) - config.lacks,
        limits=StorageLimits(**limits("storage", "s3")),
    )


BACKEND: Final = Backend(
    name="storage.s3",
    config=S3Config,
    open=_open,
    capabilities=frozenset(StorageCapability),
    extra="s3",
)


def opened(
    name: str,
    connection: Connection,
    runtime: Runtime,
    *,
    capabilities: frozenset[StorageCapability],
    limits: StorageLimits,
) -> S3Storage:
    """A backend over a connection. No I/O; boto3 is imported and its client made on first need."""
    for sdk in ("boto3", "obstore"):
        if find_spec(sdk) is None:
            extra = name.rpartition(".")[2]
            raise missing_sdk(name, extra, ModuleNotFoundError(f"no {sdk}", name=sdk))
    connection.read_ca_file()
    complete = CompletePath(connection, runtime)
    fast: FastPath | None = None
    if (why := why_unusable()) is None:
        credentials = _fixed(connection) or complete.credentials
        fast = FastPath(connection, credentials, is_async=runtime.is_async)
    else:
        logger.info("%s moves bytes through boto3 alone, not obstore: %s", name, why)
    return S3Storage(
        connection,
        runtime,
        fast=fast,
        complete=complete,
        capabilities=capabilities,
        limits=limits,
    )


def checked_bucket(value: str) -> str:
    """A bucket's name; ValueError says what is allowed."""
    if _BUCKET.fullmatch(value) is None:
        raise ValueError(
            "a bucket's name has 3 to 63 letters, digits, '.', '_' and '-', and starts and ends "
            "with a letter or digit"
        )
    return value


def checked_endpoint(value: str) -> str:
    """An endpoint without trailing slash; ValueError says what is allowed."""
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("an endpoint is a URL with a host, such as https://s3.example.com")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("an endpoint is scheme, host and port: no path, query or user")
    return f"{parts.scheme}://{parts.netloc}"


def check_encrypted(endpoint: str) -> None:
    """ValueError for http to another machine."""
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and _LOOPBACK.fullmatch(parts.hostname or "") is None:
        raise ValueError(
            "the endpoint must be https; set allow_http = true to send data unencrypted"
        )


def revealed(secret: SecretStr | None) -> str | None:
    """A secret's text."""
    return secret.get_secret_value() if secret is not None else None


def _amazon(region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{domain}"


def _fixed(connection: Connection) -> Callable[[], S3Credential] | None:
    """Configured credentials as obstore wants them: boto3 need not be imported for these."""
    if connection.access_key_id is None or connection.secret_access_key is None:
        return None
    credential: S3Credential = {
        "access_key_id": connection.access_key_id,
        "secret_access_key": connection.secret_access_key,
        "token": connection.session_token,
        "expires_at": None,
    }
    return lambda: credential


__all__ = ["BACKEND", "S3Config", "S3Storage"]
