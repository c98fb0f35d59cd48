"""What stands against the start of a migration."""

from __future__ import annotations

from dataclasses import replace

from cm_platform.errors import PreconditionFailedError

from .ledger import State, Terms
from .mover import Planned


def check_declared(no_other_writers: bool) -> None:
    """Raise `precondition_failed` unless it was declared that nobody else writes."""
    if not no_other_writers:
        raise PreconditionFailedError(
            "nobody can check whether other programs write this tenant's data: declare that "
            "there are none, or that they are stopped (--no-other-writers)",
            not_sent=True,
        )


def check_accepted(plan: Planned, accept_losses: bool) -> None:
    """Raise `precondition_failed` for obstacles, and for losses that nobody has accepted."""
    if plan.obstacles:
        raise PreconditionFailedError(
            f"{plan.obstacles} kinds of obstacles stand against it: see `plan`", not_sent=True
        )
    if plan.losses and not accept_losses:
        raise PreconditionFailedError(
            f"{plan.losses} kinds of losses were not accepted: see `plan`, then accept them "
            "(--accept-losses)",
            not_sent=True,
        )


def agreed(terms: Terms, before: State | None) -> Terms:
    """The terms of a start, where the ledger knows of an earlier one.

    Answers of before may still be in use, and they were lent for that long; and so may what was
    done under them, such as a URL to upload.
    """
    if before is None:
        return terms
    return replace(
        terms,
        lease=max(terms.lease, before.terms.lease),
        longest=max(terms.longest, before.terms.longest),
    )


def under_way() -> PreconditionFailedError:
    """The error of a start where a migration has begun already."""
    return PreconditionFailedError(
        "a migration of this tenant is under way already: see `status`", not_sent=True
    )


__all__ = ["agreed", "check_accepted", "check_declared", "under_way"]
