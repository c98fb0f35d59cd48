"""The table of one kind: its names agree with each other, and its rules are safe to follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from cm_platform.errors import ConfigInvalidError, InvalidArgumentError
from cm_platform.routing import Kind, Route, Rule, did_you_mean, known_routes
from cm_platform.routing.names import shown
from cm_platform.tenant import Layout

from .backends import (
    Workshop,
    legal_names,
    named_tables,
    read_backends,
    read_tenant_id,
    read_tenants,
)
from .models import KindConfig, KindSettings, MigrationConfig
from .tree import Path, is_list, is_table

_TABLES: Final = ("backends", "migrations", "rules", "tenants")

_NO_LEDGER: Final = (
    "would send tenants to a store that does not have their data, and no ledger is configured "
    "that could tell"
)


class _RuleTable(BaseModel):
    """Who takes which route; the first rule that matches holds, one without a choice for all.

    route: a backend, or a migration and its stage, such as "to-r2:shadow".
    tenants: ids of tenants.
    percent: of all tenants, sticky by tenant; refused without a ledger where data is held.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    route: str
    tenants: list[str] | None = None
    percent: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)


def read_kind(
    shop: Workshop, kind: Kind, table: Mapping[str, Any], *, ledger_configured: bool
) -> KindConfig | None:
    """The kind's configuration, or None after its problems were added."""
    here: Path = (kind.name,)
    problems = shop.problems
    problems.unknown_keys(table, {*KindSettings.model_fields, *_TABLES}, here)
    scalars = {key: value for key, value in table.items() if key in KindSettings.model_fields}
    backend_tables = named_tables(shop, table.get("backends"), (*here, "backends"))
    if not backend_tables:
        problems.add((*here, "backends"), "is missing: configure at least one backend")
    # Unless it is said, and even if much else is wrong: the names are known.
    default = scalars.setdefault("default", "")
    settings = problems.validated(KindSettings, scalars, here)
    if isinstance(default, str):
        _check_default(shop, default, backend_tables, table.get("migrations"), (*here, "default"))
    # Not from `settings`, which another setting's fault takes away.
    if isinstance(layout := scalars.get("layout"), str):
        _check_layout(shop, layout, (*here, "layout"))

    backends = read_backends(shop, kind.name, backend_tables, (*here, "backends"))
    migrations = _migrations(shop, table.get("migrations"), backend_tables, (*here, "migrations"))
    tenants = read_tenants(
        shop, kind.name, table.get("tenants"), backend_tables, backends, (*here, "tenants")
    )
    rules = _rules(shop, table.get("rules"), backend_tables, migrations, (*here, "rules"))
    if kind.holds_data and not ledger_configured:
        _refuse_unproven(shop, kind, scalars.get("flags"), table.get("rules"), here)
    if scalars.get("flags") == "openfeature" and rules:
        problems.add(
            (*here, "rules"), 'are not asked when flags = "openfeature": remove one or the other'
        )
    if settings is None:
        return None
    return KindConfig(
        **{name: getattr(settings, name) for name in KindSettings.model_fields},
        backends=backends,
        migrations={name: found for name, found in migrations.items() if found is not None},
        rules=tuple(rule for rule in rules if rule is not None),
        tenants=tenants,
    )


def _check_default(
    shop: Workshop,
    default: str,
    backends: Mapping[str, object],
    migrations: object,
    path: Path,
) -> None:
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


def _check_layout(shop: Workshop, layout: str, path: Path) -> None:
    try:
        Layout(layout)
    except ConfigInvalidError as error:
        shop.problems.add(path, error.message)


def _migrations(
    shop: Workshop, value: object, backends: Mapping[str, object], path: Path
) -> dict[str, MigrationConfig | None]:
    """By name; None for one that is not in order, so that rules which name it are not blamed."""
    tables = named_tables(shop, value, path)
    legal_names(shop, tables, path)
    found: dict[str, MigrationConfig | None] = {}
    for name, table in tables.items():
        here = (*path, name)
        if name in backends:
            shop.problems.add(here, "a backend has this name too: a route could mean either")
        found[name] = shop.problems.validated(MigrationConfig, table, here)
        for end in ("source", "target"):
            backend = table.get(end)
            if isinstance(backend, str) and backend not in backends:
                shop.problems.add(
                    (*here, end),
                    f"{shown(backend)} is no backend{did_you_mean(backend, backends)}; "
                    f"backends are {', '.join(sorted(backends)) or 'none'}",
                )
        if "source" in table and table["source"] == table.get("target"):
            shop.problems.add(here, "source and target must be two different backends")
    return found


def _rules(
    shop: Workshop,
    value: object,
    backends: Mapping[str, object],
    migrations: Mapping[str, object],
    path: Path,
) -> list[Rule | None]:
    """In order; None for one that is not in order."""
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


def _rule(
    shop: Workshop,
    table: Mapping[str, Any],
    refusal: Callable[[Route], str | None],
    path: Path,
) -> Rule | None:
    raw = shop.problems.validated(_RuleTable, table, path)
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


def _refuse_unproven(shop: Workshop, kind: Kind, flags: object, rules: object, path: Path) -> None:
    if flags == "openfeature":
        shop.problems.add(
            (*path, "flags"),
            f"refused for {kind.name}, which holds data: a remote flag {_NO_LEDGER}. "
            'Use flags = "rules" and name the tenants, or configure a ledger',
        )
    for index, rule in enumerate(rules if is_list(rules) else []):
        if is_table(rule) and "percent" in rule:
            shop.problems.add(
                (*path, "rules", index, "percent"),
                f"refused for {kind.name}, which holds data: a percentage {_NO_LEDGER}. "
                "List the tenants instead, or configure a ledger",
            )


__all__ = ["read_kind"]
