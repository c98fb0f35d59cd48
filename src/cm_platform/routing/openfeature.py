"""Flags through OpenFeature: our rules as a provider, and the evaluator over any provider.

A string flag per kind (`cm-platform.storage`), targeting key = tenant id, value = a route.
This is the only module that imports the OpenFeature SDK.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Final, NoReturn

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent, ProviderEventDetails
from openfeature.exception import (
    FlagNotFoundError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, FeatureProvider, Metadata
from openfeature.provider.no_op_provider import NoOpProvider

from cm_platform.errors import UnavailableError

from .judging import Evaluate
from .route import Kind
from .rules import Match, Rules

_FLAG_PREFIX: Final = "cm-platform."

_REASONS: Final = {
    Match.TENANT: Reason.TARGETING_MATCH,
    Match.PERCENT: Reason.SPLIT,
    Match.DEFAULT: Reason.DEFAULT,
}


class RulesProvider(AbstractProvider):
    """The rules of a configuration as an OpenFeature provider.

    rules: by the kind's name. Flags of other types do not exist here.
    """

    def __init__(self, rules: Mapping[str, Rules]) -> None:
        super().__init__()
        self._rules = _by_flag(rules)
        self._metadata = Metadata("cm-platform rules")

    def get_metadata(self) -> Metadata:
        """Always the same object, by which a domain's provider is recognised."""
        return self._metadata

    def update(self, rules: Mapping[str, Rules]) -> None:
        """Take other rules and tell everybody who listens."""
        before, self._rules = self._rules, _by_flag(rules)
        self.emit_provider_configuration_changed(
            ProviderEventDetails(flags_changed=sorted({*before, *self._rules}))
        )

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """The route of the tenant that the targeting key names."""
        rules = self._rules.get(flag_key)
        if rules is None:
            raise FlagNotFoundError(f"the rules know no flag of this name: {_known(self._rules)}")
        tenant_id = evaluation_context.targeting_key if evaluation_context is not None else None
        if not tenant_id:
            raise TargetingKeyMissingError("the targeting key must be the tenant's id")
        decision = rules.decide(tenant_id)
        route = str(decision.route)
        return FlagResolutionDetails(
            route,
            reason=_REASONS[decision.match],
            variant=route,
            flag_metadata={} if decision.rule is None else {"rule": decision.rule},
        )

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """No such flag."""
        self._refuse(flag_key)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """No such flag."""
        self._refuse(flag_key)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """No such flag."""
        self._refuse(flag_key)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """No such flag."""
        self._refuse(flag_key)

    def _refuse(self, flag_key: str) -> NoReturn:
        if flag_key in self._rules:
            raise TypeMismatchError("a route is a string")
        raise FlagNotFoundError(f"the rules know no flag of this name: {_known(self._rules)}")


def openfeature_evaluator(kind: Kind, *, domain: str | None = None) -> Evaluate:
    """Ask the application's own provider, bound to a domain or (None) to the default.

    The evaluator blocks for as long as that provider does. It raises `unavailable` when the
    provider reports an error, and when it has no value: a default is never taken for a route.
    """
    client = _client(domain)
    flag = kind.flag

    def evaluate(tenant_id: str) -> str:
        details = client.get_string_details(flag, "", EvaluationContext(targeting_key=tenant_id))
        # Not the provider's message: it may quote an SDK key or a URL.
        if details.error_code is not None or details.reason == Reason.ERROR:
            code = details.error_code or Reason.ERROR
            raise UnavailableError(f"the flag {flag} failed: {code}", retryable=True)
        if not details.value:
            raise UnavailableError(
                f"the flag {flag} has no value: no provider is set, or the flag is switched off",
                retryable=True,
            )
        return details.value

    return evaluate


def subscribe(changed: Callable[[], None], *, domain: str | None = None) -> Callable[[], None]:
    """Call `changed` when flags of ours may have other values; returns what ends it.

    It is called in a thread of the SDK's, which does not survive a fork: routes expire by time
    as well. Raises nothing into that thread that the SDK would not log.
    """
    client = _client(domain)

    def handle(details: EventDetails) -> None:
        flags = details.flags_changed
        if not flags or any(flag.startswith(_FLAG_PREFIX) for flag in flags):
            changed()

    # Ready, too: what was asked before the provider came up was not answered.
    events = (ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ProviderEvent.PROVIDER_READY)
    for event in events:
        client.add_handler(event, handle)

    def end() -> None:
        for event in events:
            # The application may have cleared all handlers.
            with suppress(ValueError):
                client.remove_handler(event, handle)

    return end


class Registration:
    """A rules provider under a domain of its own: one per platform, closed with it.

    The application's providers are left alone, and cannot take its place: OpenFeature falls
    back to the default provider where a domain has none (after `api.shutdown()`, say), and a
    remote flag must not decide where rules were configured. So the binding is checked before
    every evaluation and renewed.
    """

    def __init__(self, provider: RulesProvider) -> None:
        self.domain = _free.pop() if _free else f"cm-platform-{next(_numbers)}"
        self.provider = provider
        self._closed = False
        _bind(provider, self.domain)

    def evaluator(self, kind: Kind) -> Evaluate:
        """Ask the rules."""
        ask = openfeature_evaluator(kind, domain=self.domain)
        metadata = self.provider.get_metadata()

        def evaluate(tenant_id: str) -> str:
            if self._closed:
                raise UnavailableError("the platform was closed")
            if api.get_provider_metadata(domain=self.domain) is not metadata:
                _bind(self.provider, self.domain)
            return ask(tenant_id)

        return evaluate

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when the rules were replaced; returns what ends it."""
        return subscribe(changed, domain=self.domain)

    def close(self) -> None:
        """Give the domain back. Safe to call twice."""
        if not self._closed:
            self._closed = True
            # The SDK cannot take a provider away, only put another in its place; and it keeps
            # domains for ever, so they are used again.
            _bind(_NOBODY, self.domain)
            _free.append(self.domain)


_numbers: Final = itertools.count(1)
_free: Final[list[str]] = []
_NOBODY: Final = NoOpProvider()


def _bind(provider: FeatureProvider, domain: str) -> None:
    # Up to 0.9 `set_provider` waited by itself, and the other did not exist.
    bind: Callable[[FeatureProvider, str], None] = getattr(
        api, "set_provider_and_wait", api.set_provider
    )
    bind(provider, domain)


@cache
def _client(domain: str | None) -> OpenFeatureClient:
    # One per domain, for ever: the SDK never forgets a client that had a handler.
    return api.get_client(domain)


def _by_flag(rules: Mapping[str, Rules]) -> dict[str, Rules]:
    return {_FLAG_PREFIX + name: compiled for name, compiled in rules.items()}


def _known(rules: Mapping[str, Rules]) -> str:
    return ", ".join(sorted(rules)) or "none"


__all__ = ["Registration", "RulesProvider", "openfeature_evaluator", "subscribe"]
