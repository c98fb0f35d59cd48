"""Text without what authorises, for logs: an SDK at DEBUG tells its credentials to the disk."""

from __future__ import annotations

import logging
import re
from typing import Final

# Opened by a quote (escaped, in JSON within JSON), a value ends with that quote.
_QUOTED: Final = r"(?:\\.|(?!(?P={0})).)*"
_SECRETS: Final = re.compile(
    # A header: without quotes, all up to the end of the line. Also as a pair, in h11's way.
    r"(?ix)(?:"
    r"(?P<header>\b(?:authorization|cookie|x-amz-security-token|x-auth-(?:token|key)|x-api-key"
    r"|cf-access-client-secret)(?:\\*['\"]\s*[:=,]|\s*[:=])\s*b?)"
    rf"(?:(?P<hq>\\*['\"]){_QUOTED.format('hq')}|[^\r\n]+)"
    # Anything that is called a secret: `name=value`, or a quoted value after a colon.
    r"|(?P<name>(?:password|passwd|secret(?:_?access)?_?key|client_?secret|api_?(?:key|token)"
    r"|token|signature(?:provided)?|credential|sig|(?:aws_?)?access_?key_?id))"
    r"(?:(?P<eq>\\*['\"]?\s*[=>]\s*b?)(?P<nq>\\*['\"])?|(?P<colon>\\*['\"]?\s*:\s*b?)(?P<cq>\\*['\"]))"
    rf"(?(nq){_QUOTED.format('nq')}|(?(cq){_QUOTED.format('cq')}|[^&\s'\"<>,;]+))"
    r"|(?P<word>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r")"
)
# A user in a URL, up to the colon before the password; overlapping ones too.
_USER: Final = re.compile(r"(?i)[a-z0-9+.-]://(?=([^\s/@:'\"]*:))")
_UNBROKEN: Final = re.compile(r"[^\s'\"<>]*")
_REDACTED: Final = "[redacted]"


def redact(text: str) -> str:
    """The text without what authorises: headers, signatures, tokens, passwords."""

    def mask(match: re.Match[str]) -> str:
        groups = ("header", "hq", "name", "eq", "nq", "colon", "cq", "word")
        return "".join(match[group] or "" for group in groups) + _REDACTED

    return _SECRETS.sub(mask, _without_passwords(text))


def _without_passwords(text: str) -> str:
    # A password ends at the last "@" of the unbroken text after it. Not by the expression above:
    # it would look for that "@" anew from every "://", which takes quadratic time.
    pieces: list[str] = []
    done = end = at = 0
    for user in _USER.finditer(text):
        begin = user.end(1)
        if begin >= end and (unbroken := _UNBROKEN.match(text, begin)) is not None:
            end = unbroken.end()
            at = text.rfind("@", begin, end)
        if done <= begin < at:
            pieces += (text[done:begin], _REDACTED)
            done = at
    return "".join((*pieces, text[done:]))


class RedactingFilter(logging.Filter):
    """Redacts a record before any handler sees it; for the loggers of SDKs that say too much."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record pass, rewritten where it had to be."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a wrong call to a logger must not fail its caller
            record.msg, record.args = "a log message could not be formatted", None
        else:
            clean = redact(text)
            if clean != text:
                record.msg, record.args = clean, None
        if record.exc_info:
            # An SDK's exception may quote the URL that it failed on.
            trace = logging.Formatter().formatException(record.exc_info)
            if redact(trace) != trace:
                record.exc_info, record.exc_text = None, redact(trace)
        return True


__all__ = ["RedactingFilter", "redact"]
