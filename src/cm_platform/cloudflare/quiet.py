"""Keeping the SDK's and httpx's logs from telling what they must not.

httpx logs each URL at INFO, and an URL of the REST API holds the account and a tenant's keys. At
DEBUG the SDK logs what it sends, bodies too. Turning a level on for the root logger is enough to
write them to disk.
"""

from __future__ import annotations

import logging
from typing import Final

import httpx

from cm_platform.redaction import RedactingFilter

_API: Final = "/client/v4/"


def quiet_sdk() -> None:
    """Put the filters in place; doing it again changes nothing."""
    logging.getLogger("httpx").addFilter(_MASK)
    logging.getLogger("cloudflare._base_client").addFilter(_SILENCE)
    for name in ("cloudflare", "httpcore.http11", "httpcore.connection"):
        logging.getLogger(name).addFilter(_REDACT)


class _Mask(logging.Filter):
    """Leaves of an URL of the REST API what is the same for everybody."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_masked(value) for value in record.args)
        return True


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


def _masked(value: object) -> object:
    if isinstance(value, httpx.URL) and (begin := value.path.find(_API)) >= 0:
        return f"{value.scheme}://{value.host}{value.path[:begin]}{_API}..."
    return value


_MASK: Final = _Mask()
_SILENCE: Final = _Silence()
_REDACT: Final = RedactingFilter()

__all__ = ["quiet_sdk"]
