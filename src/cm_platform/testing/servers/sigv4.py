"""A strict verifier of AWS Signature Version 4 as S3 reads it: header and presigned URL.

Sources: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API reference, read
2026-11. S3 differs from other services: the path is encoded once and never normalised.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote_to_bytes

from cm_platform.testing.servers.wire import Request, S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
MAX_EXPIRES_SECONDS = 604_800
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SIGNATURE_PARAMETER = "X-Amz-Signature"
_QUERY_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    _SIGNATURE_PARAMETER,
)


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose signature it was, and the region in its credential scope."""

    access_key_id: str
    region: str


class SignatureVerifier:
    """Verifies requests against known keys. Raises `S3Error` with the code that S3 would send.

    `secrets` maps access key ids to secrets and may grow while in use. `streaming` names the
    `STREAMING-*` payloads that the server decodes; all others are refused as NotImplemented.
    """

    def __init__(self, secrets: Mapping[str, str], *, streaming: Collection[str] = ()) -> None:
        self._secrets = secrets
        self._streaming = frozenset(streaming)

    def verify(self, request: Request, *, now: datetime | None = None) -> Signer:
        """Who signed the request. `now` is an aware time, for tests."""
        moment = now or datetime.now(UTC)
        authorization = request.header("authorization")
        in_query = any(request.parameter(name) is not None for name in _QUERY_PARAMETERS)
        if authorization and in_query:
            raise S3Error(400, "InvalidArgument", "Only one auth mechanism allowed.")
        if in_query:
            claim, payload = _query_claim(request, moment)
        elif authorization:
            claim = _header_claim(request, authorization, moment)
            payload = _payload_hash(request)
        else:
            raise S3Error(403, "AccessDenied", "Access Denied")
        _require_signed_headers(request, claim)
        secret = self._secrets.get(claim.access_key_id)
        if secret is None:
            raise S3Error(
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            )
        expected = _signature(secret, claim, _canonical_request(request, claim, payload))
        if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
            raise S3Error(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )
        self._check_body(request, payload)
        return Signer(claim.access_key_id, claim.region)

    def _check_body(self, request: Request, payload: str) -> None:
        if payload == UNSIGNED_PAYLOAD or payload in self._streaming:
            return
        if payload.startswith("STREAMING-"):
            raise S3Error(501, "NotImplemented", f"{payload} is not implemented.")
        actual = hashlib.sha256(request.body).hexdigest()
        if not hmac.compare_digest(actual.encode(), payload.encode()):
            raise S3Error(
                400,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )


def signed_headers(
    request: Request, access_key_id: str, secret_access_key: str, region: str, now: datetime
) -> tuple[tuple[str, str], ...]:
    """The headers of `request` (which has `host`) and those that sign it. `now` is aware."""
    payload = hashlib.sha256(request.body).hexdigest()
    timestamp = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    headers = (
        *request.headers,
        ("x-amz-content-sha256", payload),
        ("x-amz-date", timestamp),
    )
    names = tuple(sorted(name for name, _ in headers))
    claim = _Claim(access_key_id, timestamp[:8], region, timestamp, names, "")
    complete = replace(request, headers=headers)
    signature = _signature(secret_access_key, claim, _canonical_request(complete, claim, payload))
    credential = f"{access_key_id}/{claim.day}/{region}/s3/aws4_request"
    value = (
        f"{ALGORITHM} Credential={credential}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return (*headers, ("authorization", value))


@dataclass(frozen=True, slots=True)
class _Claim:
    access_key_id: str
    day: str
    region: str
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str


def _header_claim(request: Request, authorization: str, now: datetime) -> _Claim:
    scheme, _, rest = authorization.partition(" ")
    if scheme != ALGORITHM:
        raise S3Error(
            400,
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. Use {ALGORITHM}.",
        )
    pieces = (piece.strip().partition("=") for piece in rest.split(","))
    fields = {name: value for name, _, value in pieces}
    missing = {"Credential", "SignedHeaders", "Signature"} - fields.keys()
    if missing:
        raise _malformed(f"it lacks {', '.join(sorted(missing))}")
    timestamp = request.header("x-amz-date") or _from_http_date(request.header("date"))
    signed_at = _parse_timestamp(timestamp)
    if signed_at is None:
        raise S3Error(
            403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    if abs(now - signed_at) > MAX_SKEW:
        raise S3Error(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
    key, day, region = _scope(fields["Credential"])
    if not timestamp.startswith(day):
        raise _malformed("the date of its credential is not the date of the request")
    signed = tuple(fields["SignedHeaders"].split(";"))
    return _Claim(key, day, region, timestamp, signed, fields["Signature"])


def _query_claim(request: Request, now: datetime) -> tuple[_Claim, str]:
    values: dict[str, str] = {}
    for name in _QUERY_PARAMETERS:
        found = [value for key, value in request.parameters() if key == name]
        if len(found) != 1 or not found[0]:
            raise _bad_query(f"{name} must be given exactly once.")
        values[name] = found[0]
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise _bad_query(f"X-Amz-Algorithm only supports {ALGORITHM}.")
    expires = values["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdecimal() and len(expires) <= 6):
        raise _bad_query("X-Amz-Expires must be a number of seconds.")
    if not 1 <= int(expires) <= MAX_EXPIRES_SECONDS:
        raise _bad_query(f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_SECONDS} seconds.")
    timestamp = values["X-Amz-Date"]
    signed_at = _parse_timestamp(timestamp)
    if signed_at is None:
        raise _bad_query("X-Amz-Date must be in the ISO8601 long format yyyyMMdd'T'HHmmss'Z'.")
    if signed_at - now > MAX_SKEW:
        raise S3Error(403, "AccessDenied", "Request is not yet valid")
    if now >= signed_at + timedelta(seconds=int(expires)):
        raise S3Error(403, "AccessDenied", "Request has expired")
    key, day, region = _scope(values["X-Amz-Credential"])
    if not timestamp.startswith(day):
        raise _malformed("the date of its credential is not the date of the request")
    signed = tuple(values["X-Amz-SignedHeaders"].split(";"))
    claim = _Claim(key, day, region, timestamp, signed, values[_SIGNATURE_PARAMETER])
    payload = request.header("x-amz-content-sha256") or request.parameter("X-Amz-Content-Sha256")
    return claim, payload or UNSIGNED_PAYLOAD


def _payload_hash(request: Request) -> str:
    payload = request.header("x-amz-content-sha256")
    if payload is None:
        raise S3Error(
            400,
            "InvalidRequest",
            "Missing required header for this request: x-amz-content-sha256",
        )
    is_digest = len(payload) == 64 and all(digit in "0123456789abcdef" for digit in payload)
    if is_digest or payload == UNSIGNED_PAYLOAD or payload.startswith("STREAMING-"):
        return payload
    raise S3Error(
        400,
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-... or a valid sha256 value.",
    )


def _scope(credential: str) -> tuple[str, str, str]:
    # An access key id may hold slashes, the rest may not.
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not all(parts):
        raise _malformed("its credential is not KEY/DATE/REGION/s3/aws4_request")
    key, day, region, service, terminator = parts
    if service != "s3" or terminator != "aws4_request":
        raise _malformed("its credential does not end in s3/aws4_request")
    return key, day, region


def _require_signed_headers(request: Request, claim: _Claim) -> None:
    signed = set(claim.signed_headers)
    needed = {"host"} | {name for name, _ in request.headers if name.startswith("x-amz-")}
    unsigned = sorted(needed - signed)
    if unsigned:
        raise S3Error(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            details=[("HeadersNotSigned", ", ".join(unsigned))],
        )


def _canonical_request(request: Request, claim: _Claim, payload: str) -> bytes:
    path = quote(unquote_to_bytes(request.path), safe="/-_.~")
    query = "&".join(
        sorted(
            f"{_encoded(name)}={_encoded(value)}"
            for name, value in request.parameters()
            if name != _SIGNATURE_PARAMETER
        )
    )
    lines = [request.method, path, query]
    for name in claim.signed_headers:
        values = [value for key, value in request.headers if key == name]
        lines.append(f"{name}:{','.join(' '.join(value.split()) for value in values)}")
    lines += ["", ";".join(claim.signed_headers), payload]
    # Header values were read as latin-1: encoding them so gives back the bytes that were sent.
    return "\n".join(lines).encode("latin-1")


def _signature(secret: str, claim: _Claim, canonical: bytes) -> str:
    scope = f"{claim.day}/{claim.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical).hexdigest()
    to_sign = f"{ALGORITHM}\n{claim.timestamp}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (claim.day, claim.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, to_sign.encode(), "sha256").hexdigest()


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _parse_timestamp(text: str) -> datetime | None:
    # strptime forgives missing digits, S3 does not.
    if len(text) != 16:
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _from_http_date(text: str | None) -> str:
    if text is None:
        return ""
    try:
        return parsedate_to_datetime(text).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return text


def _malformed(why: str) -> S3Error:
    return S3Error(
        400,
        "AuthorizationHeaderMalformed",
        f"The authorization header that you provided is not valid: {why}.",
    )


def _bad_query(why: str) -> S3Error:
    return S3Error(400, "AuthorizationQueryParametersError", why)
