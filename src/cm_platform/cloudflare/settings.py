"""How Cloudflare is reached: the settings of the gateway client and of the REST client."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator

from cm_platform.settings import Settings

_LOOPBACK: Final = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BINDING: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
_MIN_SECRET: Final = 32


def _checked_binding(value: str) -> str:
    if _BINDING.fullmatch(value) is None:
        raise ValueError(
            "a binding has the name of a JavaScript variable, as in the Worker's wrangler.jsonc"
        )
    return value


def _checked_proxy(value: SecretStr) -> SecretStr:
    # httpx would say so on the first request, with the password in its message.
    wanted = "must be an http or https URL with a host, and perhaps a port"
    try:
        parts = urlsplit(value.get_secret_value())
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(wanted)
    return value


_Proxy = Annotated[SecretStr, AfterValidator(_checked_proxy)]

BindingName = Annotated[str, AfterValidator(_checked_binding)]
"""The name of a binding in the gateway's `wrangler.jsonc`, such as KV or VALUES."""


class GatewaySettings(Settings):
    """The gateway Worker, as one of its keys. The settings of a backend behind it derive from it.

    url: of the deployed Worker: scheme, host and port. Only loopback may be http.
    key_id, secret: one entry of the Worker's GATEWAY_KEYS; the secret has 32 characters or more.
    connect_timeout: seconds, also for a turn when all connections are busy.
    read_timeout: seconds, for each wait on an open connection.
    pool_size: connections at a time.
    ca_file: PEM file of the authority that signed the Worker's certificate.
    proxy: its URL. The environment's proxies are not used.
    """

    url: str
    key_id: str
    secret: SecretStr
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    read_timeout: Annotated[float, Field(gt=0, le=600)] = 20.0
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 50
    ca_file: Path | None = None
    proxy: _Proxy | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return _checked_url(value, "https://gateway.example.workers.dev", path_allowed=False)

    @field_validator("key_id")
    @classmethod
    def _check_key_id(cls, value: str) -> str:
        if _KEY_ID.fullmatch(value) is None:
            raise ValueError("a key id has 1 to 64 letters, digits, '.', '_' and '-'")
        return value

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < _MIN_SECRET:
            raise ValueError(f"the gateway takes no secret of less than {_MIN_SECRET} characters")
        return value


class RestSettings(Settings):
    """Cloudflare's REST API, as one API token. The settings of a backend behind it derive from it.

    account_id: of the Cloudflare account, 32 hex digits.
    api_token: with the permissions that the backend needs.
    base_url: in place of Cloudflare's, for tests; only loopback may be http.
    connect_timeout: seconds.
    read_timeout: seconds, for each wait on an open connection.
    limiter_wait: seconds that a request may wait for the token's rate; beyond that, and beyond
        the caller's deadline, it is refused without being sent.
    limiter_directory: where the processes of this machine keep count of the token's requests;
        private to this user. Left out: `cm_platform-<uid>` in the directory for temporary files.
    pool_size: connections at a time.
    ca_file: PEM file of the authority that signed the API's certificate.
    proxy: its URL. The environment's proxies are not used.
    """

    account_id: str
    api_token: SecretStr
    base_url: str = "https://api.cloudflare.com/client/v4"
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    read_timeout: Annotated[float, Field(gt=0, le=600)] = 20.0
    limiter_wait: Annotated[float, Field(ge=0, le=600)] = 10.0
    limiter_directory: Path | None = None
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    ca_file: Path | None = None
    proxy: _Proxy | None = None

    @field_validator("account_id")
    @classmethod
    def _check_account(cls, value: str) -> str:
        if len(value) != 32 or value.strip("0123456789abcdef"):
            raise ValueError("an account id is 32 lower-case hex digits, as the dashboard shows it")
        return value

    @field_validator("api_token")
    @classmethod
    def _check_token(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("an API token is printable ASCII without spaces")
        return value

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return _checked_url(value, "https://api.cloudflare.com/client/v4", path_allowed=True)


def _checked_url(value: str, example: str, *, path_allowed: bool) -> str:
    """A URL without trailing slash; ValueError says what is allowed."""
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or not value.isascii():
        raise ValueError(f"must be a URL with a host, such as {example}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must have no query, fragment or user")
    path = parts.path.rstrip("/")
    if path and not path_allowed:
        raise ValueError(f"must be scheme, host and port without a path, such as {example}")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is no number from 0 to 65535") from None
    if parts.scheme == "http" and _LOOPBACK.fullmatch(parts.hostname) is None:
        raise ValueError("must be https: what goes there is not for everybody on the way")
    return f"{parts.scheme}://{parts.netloc}{path}"


__all__ = ["BindingName", "GatewaySettings", "RestSettings"]
