"""The backend `storage.r2`: Cloudflare R2 through its S3 API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator

from cm_platform.limits import limits
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings

from .backend import StorageCapability, StorageLimits
from .s3.connection import Connection
from .s3.driver import check_encrypted, checked_bucket, checked_endpoint, opened, revealed
from .s3.store import S3Storage

# DeleteObject is not among R2's conditional operations (R2 documentation, S3 API compatibility
# and extensions, read 2026-11-23).
_CAPABILITIES: Final = frozenset(StorageCapability) - {StorageCapability.CONDITIONAL_DELETE}


class R2Config(Settings):
    """One R2 bucket.

    account_id: of the Cloudflare account, 32 hex digits.
    bucket: its name.
    access_key_id, secret_access_key: of an R2 API token with object read and write.
    jurisdiction: where the bucket was made, if it was made with one.
    endpoint: in place of the account's, for tests; loopback may be http.
    connect_timeout: seconds.
    read_timeout: seconds, for each wait on an open connection.
    pool_size: connections kept open.
    ca_file: PEM file of the authority that signed the endpoint's certificate.
    proxy: its URL. The environment's proxies are not used.
    """

    account_id: str
    bucket: str
    access_key_id: SecretStr
    secret_access_key: SecretStr
    jurisdiction: Literal["eu", "fedramp"] | None = None
    endpoint: str | None = None
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    read_timeout: Annotated[float, Field(gt=0, le=600)] = 20.0
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 50
    ca_file: Path | None = None
    proxy: SecretStr | None = None

    @field_validator("account_id")
    @classmethod
    def _check_account(cls, value: str) -> str:
        if len(value) != 32 or value.strip("0123456789abcdef"):
            raise ValueError("an account id is 32 lower-case hex digits, as the dashboard shows it")
        return value

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, value: str) -> str:
        return checked_bucket(value)

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        endpoint = checked_endpoint(value)
        check_encrypted(endpoint)
        return endpoint

    def connection(self) -> Connection:
        """The settings as the backend uses them."""
        where = f".{self.jurisdiction}" if self.jurisdiction is not None else ""
        return Connection(
            bucket=self.bucket,
            region="auto",
            endpoint=self.endpoint or f"https://{self.account_id}{where}.r2.cloudflarestorage.com",
            virtual=False,
            access_key_id=revealed(self.access_key_id),
            secret_access_key=revealed(self.secret_access_key),
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            pool_size=self.pool_size,
            ca_file=str(self.ca_file) if self.ca_file is not None else None,
            proxy=revealed(self.proxy),
            # R2 keeps If-None-Match on CopyObject for the source.
            create_only_copy="cf-copy-destination-if-none-match",
        )


async def _open(config: R2Config, runtime: Runtime) -> S3Storage:
    return opened(
        "storage.r2",
        config.connection(),
        runtime,
        capabilities=_CAPABILITIES,
        limits=StorageLimits(**limits("storage", "r2")),
    )


BACKEND: Final = Backend(
    name="storage.r2",
    config=R2Config,
    open=_open,
    capabilities=_CAPABILITIES,
    extra="r2",
)

__all__ = ["BACKEND", "R2Config"]
