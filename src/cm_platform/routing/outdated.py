"""The error of a route that was right once."""

from __future__ import annotations

from cm_platform.errors import UnavailableError


class OutdatedRouteError(UnavailableError):
    """The tenant's data went on since its route was found out: find it out again.

    Whoever serves the route raises it, before anything was sent.
    """


__all__ = ["OutdatedRouteError"]
