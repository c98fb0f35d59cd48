"""Keeping botocore's debug log from telling what it must not.

At DEBUG botocore logs requests with their Authorization header, session token and body, and
answers with theirs. Turning DEBUG on for the root logger is enough to write them to disk.
"""

from __future__ import annotations

import logging
import re
from typing import Final

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
# A name that says what follows, in a header, a URL's query, a dictionary or XML.
_SECRET: Final = re.compile(
    r"""(?ix)
    (authorization | security-token | session_?token | signature(?:provided)?
       | credential
       | secret_?(?:access_?)?key | access_?key_?id )
    ( ['"]? \s* [=:>] \s* (?:b?['"])? )
    (?: AWS4-HMAC-SHA256[^'"\n]* | [^\s'"&,;<>)}]+ )
    """
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


class _Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return True  # whoever handles the record reports that it cannot be formatted
        clean = _SECRET.sub(r"\1\2(redacted)", message)
        if clean != message:
            record.msg, record.args = clean, None
        return True


_SILENCE: Final = _Silence()
_REDACT: Final = _Redact()

__all__ = ["redact_botocore"]
