"""Flags through OpenFeature: our rules as a provider, and any provider as our flags."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from cm_platform.errors import UnavailableError
from cm_platform.routing import KINDS, Route, RouteTable, Rule, Rules, known_routes
from cm_platform.routing.openfeature import (
    Registration,
    RulesProvider,
    openfeature_evaluator,
    subscribe,
)

STORAGE = KINDS["storage"]
S3, R2 = Route.parse("s3"), Route.parse("r2")


@pytest.fixture(autouse=True)
def providers() -> Iterator[None]:
    yield
    api.clear_providers()


@pytest.fixture
def registration() -> Iterator[Registration]:
    made = Registration(RulesProvider(compiled(Rule(R2, tenants=("acme",)))))
    yield made
    made.close()


def compiled(*rules: Rule) -> dict[str, Rules]:
    return {"storage": Rules("storage", rules, S3)}


def asked(
    registration: Registration, tenant_id: str | None, flag: str = "cm-platform.storage"
) -> FlagEvaluationDetails[str]:
    client = api.get_client(registration.domain)
    return client.get_string_details(flag, "", EvaluationContext(targeting_key=tenant_id))


def test_the_rules_answer_with_their_reason(registration: Registration) -> None:
    details = asked(registration, "acme")
    assert (details.value, details.reason) == ("r2", Reason.TARGETING_MATCH)
    assert (details.variant, details.flag_metadata) == ("r2", {"rule": 0})
    details = asked(registration, "other")
    assert (details.value, details.reason) == ("s3", Reason.DEFAULT)
    registration.provider.update(compiled(Rule(R2, percent=100.0)))
    assert asked(registration, "other").reason == Reason.SPLIT


def test_an_unknown_flag_is_not_found(registration: Registration) -> None:
    details = asked(registration, "acme", "cm-platform.storge")
    assert (details.value, details.error_code) == ("", ErrorCode.FLAG_NOT_FOUND)


def test_a_missing_targeting_key_is_an_error(registration: Registration) -> None:
    assert asked(registration, None).error_code == ErrorCode.TARGETING_KEY_MISSING


def test_a_route_is_a_string_and_nothing_else(registration: Registration) -> None:
    client = api.get_client(registration.domain)
    acme = EvaluationContext(targeting_key="acme")
    flag = STORAGE.flag
    for details in (
        client.get_boolean_details(flag, False, acme),
        client.get_integer_details(flag, 0, acme),
        client.get_float_details(flag, 0.0, acme),
        client.get_object_details(flag, {}, acme),
    ):
        assert details.error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_boolean_details("other", False, acme).error_code == ErrorCode.FLAG_NOT_FOUND


def test_each_platform_has_its_own_rules(registration: Registration) -> None:
    other = Registration(RulesProvider(compiled()))
    assert registration.evaluator(STORAGE)("acme") == "r2"
    assert other.evaluator(STORAGE)("acme") == "s3"
    other.close()
    assert registration.evaluator(STORAGE)("acme") == "r2"


def test_closing_leaves_the_applications_providers_alone(registration: Registration) -> None:
    flag = InMemoryFlag("on", {"on": "mine"})
    api.set_provider(InMemoryProvider({"app": flag}))
    api.set_provider(InMemoryProvider({"app": flag}), domain="app")
    evaluate = registration.evaluator(STORAGE)
    registration.close()
    registration.close()
    assert api.get_client().get_string_value("app", "") == "mine"
    assert api.get_client("app").get_string_value("app", "") == "mine"
    with pytest.raises(UnavailableError, match="closed"):
        evaluate("acme")


def test_a_domain_is_used_again_because_the_sdk_keeps_it_for_ever() -> None:
    domains: set[str] = set()
    for _ in range(5):
        made = Registration(RulesProvider(compiled()))
        domains.add(made.domain)
        made.close()
    assert len(domains) == 1


def test_rules_still_decide_after_the_application_cleared_all_providers(
    registration: Registration,
) -> None:
    evaluate = registration.evaluator(STORAGE)
    api.clear_providers()
    # Whatever the default provider says: it was not asked for.
    flag = InMemoryFlag("on", {"on": "nowhere"})
    api.set_provider(InMemoryProvider({STORAGE.flag: flag}))
    assert evaluate("acme") == "r2"


def test_an_update_of_the_rules_reaches_the_route_table(registration: Registration) -> None:
    invalidated = threading.Event()
    table = RouteTable(
        STORAGE,
        registration.evaluator(STORAGE),
        known=known_routes({"s3", "r2"}, {}),
        ttl=3600,
        on_event=lambda event: None,
    )

    def changed() -> None:
        table.invalidate()
        invalidated.set()

    end = registration.subscribe(changed)
    assert table.lookup("other") == S3
    # The SDK reports at once that the provider is ready; wait for that, then for the change.
    assert invalidated.wait(10)
    invalidated.clear()
    registration.provider.update(compiled(Rule(R2)))
    assert invalidated.wait(10)
    assert table.lookup("other") == R2
    end()
    end()


def test_changes_of_other_flags_are_not_our_business() -> None:
    provider = InMemoryProvider({})
    api.set_provider_and_wait(provider, domain="others")
    calls: list[None] = []
    arrived = threading.Event()

    def changed() -> None:
        calls.append(None)
        arrived.set()

    end = subscribe(changed, domain="others")
    assert arrived.wait(10)
    arrived.clear()
    details = ProviderEventDetails(flags_changed=["theirs"])
    provider.emit_provider_configuration_changed(details)
    provider.emit_provider_configuration_changed(
        ProviderEventDetails(flags_changed=["theirs", STORAGE.flag])
    )
    assert arrived.wait(10)
    end()
    assert len(calls) == 2


def test_the_applications_provider_is_asked_with_the_tenant_as_targeting_key() -> None:
    seen: list[str | None] = []

    def route(flag: InMemoryFlag[str], context: EvaluationContext) -> FlagResolutionDetails[str]:
        seen.append(context.targeting_key)
        return FlagResolutionDetails("to-r2:live", reason=Reason.TARGETING_MATCH)

    flag = InMemoryFlag("on", {"on": "s3"}, context_evaluator=route)
    api.set_provider_and_wait(InMemoryProvider({STORAGE.flag: flag}))
    assert openfeature_evaluator(STORAGE)("acme") == "to-r2:live"
    assert seen == ["acme"]


def test_no_provider_is_a_failure_and_not_the_default() -> None:
    with pytest.raises(UnavailableError, match="no provider is set"):
        openfeature_evaluator(STORAGE, domain="nobody")("acme")


def test_a_provider_that_raises_is_a_failure_and_its_words_are_not_repeated() -> None:
    class Broken(InMemoryProvider):
        def resolve_string_details(self, *args: object, **kwargs: object) -> NoReturn:
            raise RuntimeError("https://flags/?key=hush")

    api.set_provider_and_wait(Broken({}), domain="broken")
    with pytest.raises(UnavailableError, match="GENERAL") as caught:
        openfeature_evaluator(STORAGE, domain="broken")("acme")
    assert "hush" not in str(caught.value)


def test_an_unknown_flag_of_the_applications_provider_is_a_failure() -> None:
    api.set_provider_and_wait(InMemoryProvider({}), domain="empty")
    with pytest.raises(UnavailableError, match="FLAG_NOT_FOUND"):
        openfeature_evaluator(STORAGE, domain="empty")("acme")


def test_the_sdk_is_imported_by_those_who_use_it_only() -> None:
    code = (
        "import sys, cm_platform.routing, cm_platform.config; print('openfeature' in sys.modules)"
    )
    out = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.strip() == "False"
