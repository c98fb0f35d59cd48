"""Reading what obstore and boto3 raise: two SDKs, one `Fault`.

Both put URLs, and obstore the whole answer, into the text of their exceptions, which a traceback
prints even where ours is what was raised. So an exception that was read loses that text.
"""

from __future__ import annotations

import re
import ssl
import sys
import traceback
from typing import Any, Final

from .errors import Fault, Trouble

_DEBUG: Final = "\n\nDebug source:\n"
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_CONDITION: Final = re.compile(r"<Condition>([\w-]{1,64})</Condition>")


def fault_of(error: Exception) -> Fault | None:
    """What went wrong, if one of the SDKs raised it. Strips the exception of its text."""
    fault = _of_obstore(error) if _is_obstore(error) else _of_botocore(error)
    if fault is not None:
        error.args = (str(fault),)
    return fault


def _is_obstore(error: Exception) -> bool:
    # A missing object is the builtin FileNotFoundError; only its text tells where it came from.
    return type(error).__module__ == "obstore.exceptions" or (
        isinstance(error, FileNotFoundError) and _DEBUG in str(error)
    )


def _of_obstore(error: Exception) -> Fault:
    # Classes do not tell enough: every 409 is AlreadyExistsError, and all 5xx, timeouts and lost
    # connections are GenericError. Its text has a raw half, with the server's answer in it, and
    # after it a Rust debug print. In that, whatever others wrote is quoted and has no line
    # breaks: what stands at the beginning of a line is obstore's own.
    debug = str(error).rpartition(_DEBUG)[2]
    if (status := re.search(r"\n\s+status: (\d{3}),", debug)) is not None:
        body = debug[status.end() :]
        return Fault(
            status=int(status[1]), code=_first(_CODE, body), condition=_first(_CONDITION, body)
        )
    if "External AWS credential provider" in debug[:200]:
        return Fault(Trouble.NO_CREDENTIALS)
    if re.search(r"\n\s+BareRedirect\b|\n\s+inner: BareRedirect\b", debug) is not None:
        return Fault(status=301)
    if re.search(r"legacy::Error\(\n\s+Connect,", debug) is not None:
        if re.search(r"\n\s+error: InvalidCertificate\(", debug) is not None:
            return Fault(Trouble.BAD_CERTIFICATE)
        return Fault(Trouble.UNREACHABLE)
    kind = re.search(r"HttpError \{\n\s+kind: (\w+),", debug)
    if kind is None or kind[1] in ("Unknown", "Decode"):
        return Fault(Trouble.UNCLEAR)
    return Fault(Trouble.SILENT if kind[1] == "Timeout" else Trouble.CUT)


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found is not None else ""


def _of_botocore(error: Exception) -> Fault | None:
    # Whoever raised it has imported it: this module must not.
    if (exceptions := sys.modules.get("botocore.exceptions")) is None:
        return None
    if isinstance(error, exceptions.ClientError):
        return _answered(error)
    for names, trouble in _TROUBLES:
        if isinstance(error, tuple(getattr(exceptions, name) for name in names)):
            if trouble in (Trouble.CUT, Trouble.SILENT):
                trouble = _in_handshake(error) or trouble
            return Fault(trouble)
    # What ends a body early leaves botocore as it came from below it: a damaged TLS record.
    below = sys.modules.get("urllib3.exceptions")
    if below is not None and isinstance(error, below.HTTPError):
        return Fault(Trouble.CUT)
    return None


def _in_handshake(error: Any) -> Trouble | None:
    # botocore has one class for a certificate that is wrong, a server that speaks no TLS, and a
    # record that is damaged long after the request was sent. Where it was raised tells. Only what
    # botocore names is looked at, not `__context__`: that may be an earlier attempt's failure.
    reason = error.kwargs.get("error")
    if not isinstance(reason, BaseException):
        return None
    for found in (reason, reason.__cause__, *reason.args):
        if isinstance(found, ssl.SSLCertVerificationError):
            return Trouble.BAD_CERTIFICATE
        if isinstance(found, BaseException) and any(
            frame.f_code.co_name == "do_handshake"
            for frame, _ in traceback.walk_tb(found.__traceback__)
        ):
            return Trouble.UNREACHABLE
    return None


def _answered(error: Any) -> Fault:
    response = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    meta = response.get("ResponseMetadata", {})
    # Without a body (HEAD) botocore makes the status the code.
    return Fault(
        status=int(meta.get("HTTPStatusCode", 0)),
        code="" if code.isdecimal() else code[:64],
        retry_after=_seconds(meta.get("HTTPHeaders", {}).get("retry-after")),
        condition=str(response.get("Error", {}).get("Condition", "")),
    )


def _seconds(value: str | None) -> float | None:
    # The header may also be a date, which S3 services do not send.
    return float(value) if value is not None and value.isdecimal() else None


# In this order: the later ones are bases of the earlier ones.
_TROUBLES: Final[tuple[tuple[tuple[str, ...], Trouble], ...]] = (
    (
        ("ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError"),
        Trouble.UNREACHABLE,
    ),
    (("ReadTimeoutError",), Trouble.SILENT),
    (
        (
            "NoCredentialsError",
            "PartialCredentialsError",
            "CredentialRetrievalError",
            "TokenRetrievalError",
            "UnauthorizedSSOTokenError",
        ),
        Trouble.NO_CREDENTIALS,
    ),
    (
        (
            "ProfileNotFound",
            "ConfigParseError",
            "InvalidRegionError",
            "InvalidEndpointConfigurationError",
            "InvalidProxiesConfigError",
        ),
        Trouble.BAD_SETTING,
    ),
    (("ParamValidationError",), Trouble.BAD_PARAMETER),
    (("HTTPClientError", "IncompleteReadError", "ConnectionError"), Trouble.CUT),
    (("BotoCoreError",), Trouble.UNCLEAR),
)

__all__ = ["fault_of"]
