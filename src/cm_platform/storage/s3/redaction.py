"""Keeping botocore's debug log from telling what it must not.

At DEBUG botocore logs requests with their Authorization header, session token and body, and
answers with theirs. Turning DEBUG on for the root logger is enough to write them to disk.
"""

from __future__ import annotations

import logging
from typing import Final

from cm_platform.redaction import RedactingFilter

# These log whole requests, signatures in the making, and whole answers.
_SILENCED: Final = (
    "botocore.auth",
    "botocore.awsrequest",
    "botocore.endpoint",
    "botocore.parsers",
)
_REDACTED: Final = (
    "boto3.resources",
    "botocore",
    "botocore.client",
    "botocore.credentials",
    "botocore.hooks",
    "botocore.httpchecksum",
    "botocore.httpsession",
    "botocore.loaders",
    "botocore.regions",
    "botocore.retryhandler",
    "botocore.tokens",
    "botocore.utils",
    "s3transfer",
    "urllib3.connectionpool",
)


def redact_botocore() -> None:
    """Put the filters in place; again for loggers that came later."""
    for name in _SILENCED:
        logging.getLogger(name).addFilter(_SILENCE)
    known = [name for name in logging.root.manager.loggerDict if name.startswith("botocore.")]
    for name in (*_REDACTED, *known):
        logging.getLogger(name).addFilter(_REDACT)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


_SILENCE: Final = _Silence()
_REDACT: Final = RedactingFilter()

__all__ = ["redact_botocore"]
