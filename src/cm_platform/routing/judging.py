"""What a tenant's route is to be: what is asked for, and what the evidence allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

from cm_platform.errors import InvalidArgumentError, PlatformError

from .route import Route

Evaluate: TypeAlias = Callable[[str], str]
"""Answers a tenant id with the text of a route; raises when it cannot. May block."""

Reason: TypeAlias = Literal["evaluation_failed", "invalid_route", "no_evidence", "not_proven"]


class Whereabouts(Protocol):
    """What knows where each tenant's data is: a ledger, as far as routes need it."""

    def authority(self, kind: str, tenant_id: str) -> str | None:
        """The proven route, as text; None for a tenant that was never migrated. May block.

        Raises when the ledger cannot tell.
        """
        ...


Home: TypeAlias = Callable[[str, "Route | None"], Route]
"""Where the data of a tenant is that was never migrated, by the operator's word; given the
tenant's id and the route that was requested, if any."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a request was not followed; see `RouteEvent`. cause: what was raised, if anything."""

    reason: Reason
    detail: str
    requested: str | None = None
    cause: Exception | None = None


class Verdict(NamedTuple):
    """route: None when it could not be found out. complaint: None when all went well."""

    route: Route | None
    complaint: Complaint | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides one kind's routes. Remembers nothing.

    evaluate: asks for a route. known: why a route cannot be taken, or None.
    ledger: when given, it decides, and `evaluate` only requests. home: for whom it knows nothing.
    end: the backend that alone serves a route: a migration's source before it began, its target
        when it is complete.
    """

    kind: str
    evaluate: Evaluate
    known: Callable[[Route], str | None]
    ledger: Whereabouts | None = None
    home: Home | None = None
    end: Callable[[Route], Route] | None = None

    def decide(self, tenant_id: str) -> Verdict:
        """Ask, and weigh the answer against the evidence, where there is a ledger. May block."""
        request = self._request(tenant_id)
        if self.ledger is None:
            return request
        proof = self._proof(self.ledger, tenant_id, request.route)
        requested = None if request.route is None else str(request.route)
        if proof.complaint is not None:
            return Verdict(None, replace(proof.complaint, requested=requested))
        complaint = request.complaint
        if complaint is None and self._end(request.route) != self._end(proof.route):
            complaint = Complaint(
                "not_proven", "the ledger does not support the requested route", requested
            )
        return Verdict(proof.route, complaint)

    def _request(self, tenant_id: str) -> Verdict:
        try:
            text = self.evaluate(tenant_id)
        except Exception as error:  # noqa: BLE001 - a provider may raise anything
            return Verdict(None, Complaint("evaluation_failed", _described(error), cause=error))
        return self._checked(text, "the flag's value")

    def _end(self, route: Route | None) -> Route | None:
        return self.end(route) if self.end is not None and route is not None else route

    def _proof(self, ledger: Whereabouts, tenant_id: str, requested: Route | None) -> Verdict:
        try:
            text = ledger.authority(self.kind, tenant_id)
        except Exception as error:  # noqa: BLE001 - whatever failed, there is no evidence
            return Verdict(None, Complaint("no_evidence", _described(error), cause=error))
        if text is None:
            if self.home is None:
                return Verdict(
                    None, Complaint("no_evidence", "the ledger does not know where its data is")
                )
            return Verdict(self.home(tenant_id, requested))
        proof = self._checked(text, "the ledger's answer")
        if proof.complaint is None:
            return proof
        return Verdict(None, replace(proof.complaint, reason="no_evidence"))

    def _checked(self, text: object, what: str) -> Verdict:
        if not isinstance(text, str):
            return Verdict(None, Complaint("invalid_route", f"{what} is not a string"))
        try:
            route = Route.parse(text)
        except InvalidArgumentError as error:
            return Verdict(None, Complaint("invalid_route", f"{what}: {error.message}"))
        if (refusal := self.known(route)) is not None:
            return Verdict(
                None, Complaint("invalid_route", f"{what}: {refusal}", requested=str(route))
            )
        return Verdict(route)


def _described(error: Exception) -> str:
    # A foreign message may quote URLs and keys; ours do not.
    return error.message if isinstance(error, PlatformError) else type(error).__name__


__all__ = ["Complaint", "Evaluate", "Home", "Judge", "Reason", "Verdict", "Whereabouts"]
