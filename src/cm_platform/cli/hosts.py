"""Where a backend leads, as far as its settings say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_URLS: Final = ("endpoint", "url", "base_url")


def hosts(settings: BaseModel) -> Iterator[str | None]:
    """The hosts that are named, in inner tables too."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from hosts(value)
        elif value is not None and name in _URLS:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            yield urlsplit(text).hostname
        elif value is not None and name == "host":
            yield str(value)


def is_loopback(host: str | None) -> bool:
    """Whether it is this machine."""
    return host in _LOOPBACK


__all__ = ["hosts", "is_loopback"]
