"""Rules: compiled, they say what a walk from top to bottom says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cm_platform.routing import Match, Route, Rule, Rules, bucket

DEFAULT = Route.parse("s3")
TENANTS = [f"tenant-{n}" for n in range(40)]

ids = st.lists(st.sampled_from(TENANTS), max_size=5).map(tuple)
percents = st.floats(min_value=0, max_value=100, exclude_min=True)


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    found: list[Rule] = []
    for index in range(draw(st.integers(0, 8))):
        route = Route.parse(f"backend-{index}")
        match draw(st.sampled_from(["tenants", "tenants", "percent", "percent", "everybody"])):
            case "tenants":
                found.append(Rule(route, tenants=draw(ids)))
            case "percent":
                found.append(Rule(route, percent=draw(percents)))
            case _:
                found.append(Rule(route))
    return found


def walked(rules: Sequence[Rule], tenant_id: str) -> tuple[Route, int | None]:
    """The oracle: top down, the first match wins."""
    for index, rule in enumerate(rules):
        if rule.tenants is not None:
            if tenant_id in rule.tenants:
                return rule.route, index
        elif rule.percent is None or bucket("storage", tenant_id) < rule.percent:
            return rule.route, index
    return DEFAULT, None


@given(rules())
def test_compiled_rules_decide_as_a_walk_from_the_top_does(given_rules: list[Rule]) -> None:
    compiled = Rules("storage", given_rules, DEFAULT)
    for tenant_id in TENANTS:
        decision = compiled.decide(tenant_id)
        assert (decision.route, decision.rule) == walked(given_rules, tenant_id)
        assert compiled.evaluate(tenant_id) == decision.route


@given(st.text(min_size=1, max_size=40), percents, percents)
def test_raising_a_percentage_never_moves_a_tenant_back(
    tenant_id: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    target = Route.parse("r2")
    before = Rules("storage", [Rule(target, percent=low)], DEFAULT).evaluate(tenant_id)
    after = Rules("storage", [Rule(target, percent=high)], DEFAULT).evaluate(tenant_id)
    assert before == DEFAULT or after == target


@given(st.text(max_size=40))
def test_a_hundred_percent_is_everybody(tenant_id: str) -> None:
    assert 0 <= bucket("storage", tenant_id) < 100


def test_a_hundred_percent_is_everybody_at_the_highest_bucket() -> None:
    assert ((2**64 - 1) >> 11) / 2**53 * 100 < 100


def test_a_percentage_does_not_include_its_upper_end() -> None:
    exactly = bucket("storage", "acme")
    target = Route.parse("r2")
    assert Rules("storage", [Rule(target, percent=exactly)], DEFAULT).evaluate("acme") == DEFAULT
    above = math.nextafter(exactly, 100)
    assert Rules("storage", [Rule(target, percent=above)], DEFAULT).evaluate("acme") == target


def test_a_tenants_bucket_is_the_same_for_ever() -> None:
    # These figures are a promise: other ones would move tenants on an upgrade.
    assert bucket("storage", "acme") == 31.881754831002617
    uuid = "0b9e1d7e-0000-4000-8000-000000000000"
    assert bucket("storage", uuid) == 6.549404360048761


def test_ten_percent_are_about_ten_percent() -> None:
    compiled = Rules("storage", [Rule(Route.parse("r2"), percent=10)], DEFAULT)
    share = sum(compiled.evaluate(f"t{n}").backend == "r2" for n in range(20_000)) / 20_000
    assert 0.09 < share < 0.11


def test_kinds_do_not_move_the_same_tenants_first() -> None:
    chosen = {n for n in range(2000) if bucket("storage", f"t{n}") < 10}
    others = {n for n in range(2000) if bucket("cache", f"t{n}") < 10}
    assert len(chosen & others) < len(chosen) / 3


def test_a_decision_says_what_matched() -> None:
    compiled = Rules(
        "storage",
        [
            Rule(Route.parse("a"), tenants=("acme",)),
            Rule(Route.parse("b"), percent=100.0),
        ],
        DEFAULT,
    )
    assert compiled.decide("acme").match is Match.TENANT
    assert compiled.decide("other").match is Match.PERCENT
    assert Rules("storage", [], DEFAULT).decide("other") == (DEFAULT, Match.DEFAULT, None)
