"""Whose certificates are believed."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from cm_platform.errors import ConfigInvalidError


def ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    """httpx's authorities, or those of a file instead; the environment has no say.

    Raises `config_invalid` for a file that is none.
    """
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise ConfigInvalidError("ca_file holds no certificate: it must be a PEM file") from None
    except OSError as error:
        raise ConfigInvalidError(
            f"ca_file cannot be read ({error.strerror}): it must be a PEM file"
        ) from None


__all__ = ["ssl_context"]
