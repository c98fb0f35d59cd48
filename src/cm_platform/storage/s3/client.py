"""boto3's client of one service, with what its defaults get wrong put right."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from .connection import Connection
from .redaction import redact_botocore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def new_session(connection: Connection) -> Any:
    """A boto3 session with the connection's identity. Untyped: the stubs list each of Amazon's
    services, installed or not."""
    import boto3
    import botocore.session

    core = botocore.session.Session()
    if connection.access_key_id is not None:
        _ignore_files(core)
    models = _models()
    core.register_component("data_loader", models)
    session = boto3.Session(
        aws_access_key_id=connection.access_key_id,
        aws_secret_access_key=connection.secret_access_key,
        aws_session_token=connection.session_token,
        region_name=connection.region,
        profile_name=connection.profile,
        botocore_session=core,
    )
    # Each boto3 session appends its own directory, which is always the same.
    models.search_paths[:] = dict.fromkeys(models.search_paths)
    redact_botocore()
    return session


def _ignore_files(session: Any) -> None:
    # Whoever gives keys has said who they are. The machine's AWS_PROFILE would still have to
    # exist, and the settings in its files (acceleration, addressing, dual stack) would hold for
    # this path and not for obstore's.
    from botocore.configprovider import ConstantProvider

    settings = session.get_component("config_store")
    settings.set_config_provider("profile", ConstantProvider(None))
    for name in ("config_file", "credentials_file"):
        settings.set_config_provider(name, ConstantProvider(os.devnull))


def new_client(session: Any, connection: Connection) -> S3Client:
    """A client of the connection's service. Blocks; no network I/O."""
    from botocore.config import Config

    proxy = connection.proxy
    client: S3Client = session.client(
        "s3",
        endpoint_url=connection.endpoint,
        verify=connection.ca_file or True,
        config=Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=connection.connect_timeout,
            read_timeout=connection.read_timeout,
            max_pool_connections=connection.pool_size,
            tcp_keepalive=True,
            # An empty dictionary: None would mean the environment's.
            proxies={"http": proxy, "https": proxy} if proxy is not None else {},
            s3={"addressing_style": "virtual" if connection.virtual else "path"},
            # The default since 1.36 sends CRC32 trailers, which R2 and other services refuse.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    if connection.create_only_copy != "if-none-match":
        client.meta.events.register(
            "before-call.s3.CopyObject", _renaming(connection.create_only_copy)
        )
    client.meta.events.register_last("before-parameter-build.s3", _stay_in_region)
    client.meta.events.register_last("before-call.s3.DeleteObjects", _digest_as_md5)
    redact_botocore()
    return client


@cache
def _models() -> Any:
    """What botocore knows of S3, parsed once: each client would else hold 11 MB of its own and
    take 0.15 s to make, and there may be a client for every tenant with its own credentials."""
    from botocore.loaders import create_loader

    return create_loader()


def _renaming(name: str) -> Callable[..., None]:
    def rename(params: dict[str, Any], **_: Any) -> None:
        headers = params["headers"]
        if (condition := headers.pop("If-None-Match", None)) is not None:
            headers[name] = condition

    return rename


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    # Whatever the number of attempts, botocore looks for a bucket's region when it is told that
    # the configured one is wrong, and sends the request again. obstore does not, and neither do
    # we: the configuration is to be put right.
    context.setdefault("s3_redirect", {})["redirected"] = True


def _digest_as_md5(params: dict[str, Any], **_: Any) -> None:
    # DeleteObjects must carry a digest of its body. Since 1.36 boto3 sends CRC32, which MinIO,
    # CubeFS and others refuse (MissingContentMD5); all of them know MD5.
    try:
        digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    except ValueError:
        return  # a FIPS build without it
    params["context"].pop("checksum", None)
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


__all__ = ["new_client", "new_session"]
