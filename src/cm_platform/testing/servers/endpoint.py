"""Where a test server listens, and as whom to speak to it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a client needs to reach one bucket of a test server, as one account.

    `url` has no path and no trailing slash; buckets are addressed by path, not by host name.
    """

    url: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    bucket: str
