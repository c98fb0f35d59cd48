"""Conditional requests: whether an object's present state allows a read, a write or a copy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cm_platform.testing.servers.store import StoredObject
from cm_platform.testing.servers.wire import Response, S3Error

Header = Callable[[str], str | None]

_NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def given(header: Header, prefix: str = "") -> bool:
    """Whether the request carries any condition with this prefix."""
    return any(header(prefix + name) is not None for name in _NAMES)


def check_write(
    header: Header,
    current: StoredObject | None,
    *,
    missing_status: int,
    dates: bool,
    prefix: str = "",
) -> None:
    """Refuse a write whose condition on the destination does not hold.

    Amazon S3 answers If-Match on a missing key with 404, R2 with 412; only R2 knows dates here.
    """
    wanted = header(f"{prefix}if-match")
    if wanted is not None:
        if current is None:
            if missing_status == 404:
                raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
            raise failed(f"{prefix}If-Match")
        if not _matches(wanted, current):
            raise failed(f"{prefix}If-Match")
    unwanted = header(f"{prefix}if-none-match")
    if unwanted is not None and current is not None and _matches(unwanted, current):
        raise failed(f"{prefix}If-None-Match")
    since, until = header(f"{prefix}if-modified-since"), header(f"{prefix}if-unmodified-since")
    if (since or until) and not dates:
        raise S3Error(501, "NotImplemented", "Conditions on dates are not implemented for writes.")
    if since and (current is None or not _modified_after(current, since)):
        raise failed(f"{prefix}If-Modified-Since")
    if until and current is not None and _modified_after(current, until):
        raise failed(f"{prefix}If-Unmodified-Since")


def check_source(header: Header, source: StoredObject) -> None:
    """Refuse a copy whose condition on the source does not hold (always 412)."""
    if _failing(header, source, "x-amz-copy-source-"):
        raise failed("x-amz-copy-source-if-*")


def check_read(
    header: Header, stored: StoredObject, headers: tuple[tuple[str, str], ...]
) -> Response | None:
    """The 304 reply if the client has this object already, None to go on; raises 412."""
    name = _failing(header, stored, "")
    if name in ("if-none-match", "if-modified-since"):
        return Response(304, headers)
    if name:
        raise failed(name)
    return None


def failed(condition: str) -> S3Error:
    """S3's 412."""
    return S3Error(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        details=[("Condition", condition)],
    )


def _failing(header: Header, stored: StoredObject, prefix: str) -> str | None:
    """The first read condition that fails. An ETag condition outranks its date (RFC 9110)."""
    match, none = header(f"{prefix}if-match"), header(f"{prefix}if-none-match")
    since, until = header(f"{prefix}if-modified-since"), header(f"{prefix}if-unmodified-since")
    if match is not None:
        if not _matches(match, stored):
            return "if-match"
    elif until and _modified_after(stored, until):
        return "if-unmodified-since"
    if none is not None:
        if _matches(none, stored):
            return "if-none-match"
    elif since and not _modified_after(stored, since):
        return "if-modified-since"
    return None


def _matches(wanted: str, stored: StoredObject) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in wanted.split(",")]
    return "*" in tags or stored.etag in tags


def _modified_after(stored: StoredObject, text: str) -> bool:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return True
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    # HTTP dates have whole seconds.
    return _whole_seconds(stored.modified) > moment


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
