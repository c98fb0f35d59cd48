"""Which route whom: the rules of a kind, or of a namespace, and where all others go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cm_platform.errors import InvalidArgumentError
from cm_platform.routing import Route, Rule, did_you_mean, known_routes
from cm_platform.routing.names import shown

from .backends import Workshop, read_tenant_id
from .tree import Path, is_list, is_table


def check_default(
    shop: Workshop,
    default: str,
    backends: Mapping[str, object],
    migrations: object,
    path: Path,
) -> None:
    """Report a default that is no backend."""
    names = ", ".join(sorted(backends)) or "none"
    if not default:
        shop.problems.add(path, f"is missing: name a backend; backends are {names}")
    elif ":" in default:
        shop.problems.add(
            path, f"a default is a backend, not a migration's stage; backends are {names}"
        )
    elif default not in backends and is_table(migrations) and default in migrations:
        shop.problems.add(
            path,
            f"{shown(default)} is no backend but a migration, and a default is a backend; "
            f"backends are {names}",
        )
    elif default not in backends:
        shop.problems.add(
            path,
            f"{shown(default)} is no backend{did_you_mean(default, backends)}; "
            f"backends are {names}",
        )


def read_rules(
    shop: Workshop,
    value: object,
    backends: Mapping[str, object],
    migrations: Mapping[str, object],
    path: Path,
) -> list[Rule | None]:
    """In order; None for one that is not in order, and was reported."""
    if value is None:
        return []
    if not is_list(value):
        shop.problems.add(path, "must be a list of tables: [[...rules]]")
        return []
    refusal = known_routes(backends, migrations)
    rules: list[Rule | None] = []
    everybody: int | None = None
    for index, table in enumerate(value):
        here = (*path, index)
        if not is_table(table):
            shop.problems.add(here, "must be a table")
            rules.append(None)
            continue
        if everybody is not None:
            shop.problems.add(
                here,
                f"is never reached: {path[-1]}[{everybody}] matches every tenant; move that "
                "one to the end",
            )
        if "tenants" not in table and "percent" not in table and everybody is None:
            everybody = index
        rules.append(_rule(shop, table, refusal, here))
    return rules


class RuleTable(BaseModel):
    """Who takes which route; the first rule that matches holds, one without a choice for all.

    route: a backend, or a migration and its stage, such as "to-r2:shadow".
    tenants: ids of tenants.
    percent: of all tenants, sticky by tenant; refused without a ledger where data is held.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    route: str
    tenants: list[str] | None = None
    percent: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)


def _rule(
    shop: Workshop,
    table: Mapping[str, Any],
    refusal: Callable[[Route], str | None],
    path: Path,
) -> Rule | None:
    raw = shop.problems.validated(RuleTable, table, path)
    if table.get("tenants") is not None and table.get("percent") is not None:
        shop.problems.add(path, "has both tenants and percent: make it two rules")
    # One wrong part does not hide the others.
    listed = table.get("tenants") if raw is None else raw.tenants
    tenants: list[str] = []
    for index, text in enumerate(listed if is_list(listed) else ()):
        if isinstance(text, str):
            tenant_id = read_tenant_id(shop, text, (*path, "tenants", index))
            if tenant_id is not None:
                tenants.append(tenant_id)
    route = _route(shop, table.get("route"), refusal, (*path, "route"))
    if raw is None or route is None:
        return None
    return Rule(
        route=route,
        tenants=None if raw.tenants is None else tuple(tenants),
        percent=raw.percent,
    )


def _route(
    shop: Workshop, value: object, refusal: Callable[[Route], str | None], path: Path
) -> Route | None:
    if not isinstance(value, str):
        return None
    try:
        route = Route.parse(value)
    except InvalidArgumentError as error:
        shop.problems.add(path, error.message)
        return None
    if (why := refusal(route)) is not None:
        shop.problems.add(path, why)
        return None
    return route


__all__ = ["RuleTable", "check_default", "read_rules"]
