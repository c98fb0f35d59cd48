"""The table of one kind: its names agree with each other, and its rules are safe to follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cm_platform.errors import ConfigInvalidError
from cm_platform.routing import Kind, Rule, did_you_mean
from cm_platform.routing.names import shown
from cm_platform.tenant import Layout

from .backends import (
    Workshop,
    legal_names,
    named_tables,
    read_backends,
    read_tenants,
)
from .models import KindConfig, KindSettings, MigrationConfig
from .namespaces import read_namespaces
from .rules import check_default, read_rules
from .tree import Path, is_list, is_table

_TABLES: Final = ("backends", "migrations", "rules", "tenants")

_NO_LEDGER: Final = (
    "would send tenants to a store that does not have their data, and no ledger is configured "
    "that could tell"
)


def read_kind(
    shop: Workshop, kind: Kind, table: Mapping[str, Any], *, ledger_configured: bool
) -> KindConfig | None:
    """The kind's configuration, or None after its problems were added."""
    here: Path = (kind.name,)
    problems = shop.problems
    tables = (*_TABLES, "namespaces") if kind.has_namespaces else _TABLES
    problems.unknown_keys(table, {*KindSettings.model_fields, *tables}, here)
    scalars = {key: value for key, value in table.items() if key in KindSettings.model_fields}
    backend_tables = named_tables(shop, table.get("backends"), (*here, "backends"))
    if not backend_tables:
        problems.add((*here, "backends"), "is missing: configure at least one backend")
    # Unless it is said, and even if much else is wrong: the names are known.
    default = scalars.setdefault("default", "")
    settings = problems.validated(KindSettings, scalars, here)
    if isinstance(default, str):
        check_default(shop, default, backend_tables, table.get("migrations"), (*here, "default"))
    # Not from `settings`, which another setting's fault takes away.
    if isinstance(layout := scalars.get("layout"), str):
        _check_layout(shop, layout, (*here, "layout"))

    backends = read_backends(shop, kind.name, backend_tables, (*here, "backends"))
    migrations = _migrations(shop, table.get("migrations"), backend_tables, (*here, "migrations"))
    tenants = read_tenants(
        shop, kind.name, table.get("tenants"), backend_tables, backends, (*here, "tenants")
    )
    rules = read_rules(shop, table.get("rules"), backend_tables, migrations, (*here, "rules"))
    namespaces = read_namespaces(
        shop,
        kind.name,
        table.get("namespaces"),
        backends,
        {name: table for name, table in backend_tables.items() if name not in backends},
        migrations,
        _routed(default, rules),
        (*here, "namespaces"),
        remote=scalars.get("flags") == "openfeature",
    )
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
        namespaces=namespaces,
    )


def _routed(default: object, rules: Iterable[Rule | None]) -> set[str]:
    """The backends that the kind's own routes lead to."""
    names = {rule.route.backend for rule in rules if rule is not None}
    return {name for name in (*names, default) if isinstance(name, str)}


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
    _check_terms(shop, found, path)
    return found


def _check_terms(shop: Workshop, found: Mapping[str, MigrationConfig | None], path: Path) -> None:
    """Whoever is still at home is served under the terms of one migration that may begin there,
    and another that begins waits by its own: they must be the same."""
    first: dict[str, str] = {}
    for name, migration in found.items():
        if migration is None:
            continue
        other = first.setdefault(migration.source, name)
        like = found[other]
        for term in ("lease", "upload_ttl"):
            if getattr(like, term) != getattr(migration, term):
                shop.problems.add(
                    (*path, name, term),
                    f"must be that of {other!r}, which leaves the same source: a tenant that has "
                    "not begun to move is served under either",
                )


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
