"""What the tests of `storage.s3` and `storage.r2` share: both faces, a backend, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, TypeAlias, TypeVar

from pydantic import SecretStr

from cm_platform.errors import PlatformError
from cm_platform.registry import Backend
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive
from cm_platform.storage.backend import Attributes
from cm_platform.storage.r2 import BACKEND as R2
from cm_platform.storage.r2 import R2Config
from cm_platform.storage.s3 import BACKEND as S3
from cm_platform.storage.s3 import S3Config, S3Storage
from cm_platform.testing.servers import Endpoint

T = TypeVar("T")
Face: TypeAlias = Literal["blocking", "async"]
Config: TypeAlias = S3Config | R2Config

FACES: Final[tuple[Face, ...]] = ("blocking", "async")
PLAIN: Final = Attributes()


def s3_config(endpoint: Endpoint, **more: Any) -> S3Config:
    """The configuration for a bucket of a test server."""
    return S3Config(
        bucket=endpoint.bucket,
        endpoint=endpoint.url,
        region=endpoint.region,
        access_key_id=SecretStr(endpoint.access_key_id),
        secret_access_key=SecretStr(endpoint.secret_access_key),
        **more,
    )


def r2_config(endpoint: Endpoint, **more: Any) -> R2Config:
    """The configuration for a bucket of a test server that is R2."""
    return R2Config(
        account_id="0123456789abcdef" * 2,
        bucket=endpoint.bucket,
        endpoint=endpoint.url,
        access_key_id=SecretStr(endpoint.access_key_id),
        secret_access_key=SecretStr(endpoint.secret_access_key),
        **more,
    )


def opened(config: Config) -> S3Storage:
    """A backend on the blocking face; whoever asks closes it."""
    backend: Backend[Any] = R2 if isinstance(config, R2Config) else S3

    async def opening() -> S3Storage:
        storage: S3Storage = await backend.open(config, BlockingRuntime())
        return storage

    return drive(opening())


def on(face: Face, config: Config, scenario: Callable[[S3Storage], Coroutine[Any, Any, T]]) -> T:
    """Run a scenario on a backend, opened and closed around it, on one of the faces."""
    backend: Backend[Any] = R2 if isinstance(config, R2Config) else S3
    runtime: Runtime = BlockingRuntime() if face == "blocking" else AsyncRuntime()

    async def whole() -> T:
        storage: S3Storage = await backend.open(config, runtime)
        try:
            return await scenario(storage)
        finally:
            await storage.close()
            await storage.close()
            await runtime.close()

    return drive(whole()) if face == "blocking" else asyncio.run(whole())


async def failure(storage: S3Storage, call: Awaitable[Any]) -> PlatformError:
    """The error that a call must end with, as the executor will see it."""
    try:
        await call
    except PlatformError as error:
        return error
    except Exception as error:  # noqa: BLE001 - as the executor does
        translated = storage.translate(error)
        assert translated is not None, f"not translated: {error!r}"
        return translated
    raise AssertionError("the call was to fail")


async def body(storage: S3Storage, key: str, **options: Any) -> bytes:
    """An object's bytes, or those of a range."""
    reply = await storage.get(key, **options)
    try:
        return await reply.read()
    finally:
        await reply.close()


async def keys(storage: S3Storage, prefix: str = "") -> list[str]:
    """All keys with a prefix."""
    page = await storage.list(prefix, delimiter=None, cursor=None, limit=1000)
    assert page.cursor is None
    return [found.key for found in page.objects]
