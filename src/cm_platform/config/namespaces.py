"""The namespaces of a kind: parts of its keys that may go elsewhere, and be kept otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from .backends import Workshop, legal_names, named_tables
from .models import BackendConfig, NamespaceConfig, NamespaceSettings
from .rules import check_default, read_rules
from .tree import Path

# The capability that a namespace may demand of every backend it can be sent to.
READ_YOUR_WRITES: Final = "read_your_writes"


def read_namespaces(
    shop: Workshop,
    kind: str,
    value: object,
    backends: Mapping[str, BackendConfig],
    faulty: Mapping[str, object],
    migrations: Mapping[str, object],
    routed: set[str],
    path: Path,
    *,
    remote: bool,
) -> dict[str, NamespaceConfig]:
    """Those that are in order, by name; the others are reported.

    faulty: backends that are themselves not in order. routed: where the kind's own routes lead.
    remote: a flag service is asked for routes, and may answer with any backend.
    """
    tables = named_tables(shop, value, path)
    legal_names(shop, tables, path)
    known: dict[str, object] = {**backends, **faulty}
    found: dict[str, NamespaceConfig] = {}
    for name, table in tables.items():
        here = (*path, name)
        fields = NamespaceSettings.model_fields
        shop.problems.unknown_keys(table, {*fields, "rules"}, here)
        scalars = {key: value for key, value in table.items() if key in fields}
        settings = shop.problems.validated(NamespaceSettings, scalars, here)
        default = table.get("default")
        if isinstance(default, str):
            check_default(shop, default, known, migrations, (*here, "default"))
        rules = read_rules(shop, table.get("rules"), known, migrations, (*here, "rules"))
        if rules and default is None:
            shop.problems.add(
                (*here, "rules"), "need a default beside them: a backend for all other tenants"
            )
        if rules and remote:
            shop.problems.add(
                (*here, "rules"),
                'are not asked when flags = "openfeature": remove one or the other',
            )
        if settings is None:
            continue
        own = tuple(rule for rule in rules if rule is not None)
        if settings.consistency == READ_YOUR_WRITES:
            used = {rule.route.backend for rule in own} | {settings.default}
            leads_to = routed if settings.default is None else used
            if remote:
                leads_to = set(backends)
            _check_consistency(
                shop, kind, backends, leads_to, (*here, "consistency"), remote=remote
            )
        found[name] = NamespaceConfig(**settings.model_dump(), rules=own)
    return found


def _check_consistency(
    shop: Workshop,
    kind: str,
    backends: Mapping[str, BackendConfig],
    used: Iterable[str | None],
    path: Path,
    *,
    remote: bool,
) -> None:
    """Refuse, at start-up and not at night, what the backends cannot promise."""

    def promises(driver: str, settings: object = None) -> bool:
        return READ_YOUR_WRITES in shop.registry.get(kind, driver).promises(settings)

    for name in sorted(set(backends).intersection(filter(None, used))):
        driver = backends[name].driver
        if promises(driver, backends[name].settings):
            continue
        good = [o for o, found in backends.items() if promises(found.driver, found.settings)]
        drivers = [other for other in shop.registry.names(kind) if promises(other)]
        remedy = (
            f"give the namespace one of these as its default: {', '.join(sorted(good))}"
            if good
            else f"configure a backend whose driver is one of {', '.join(drivers)}, and name it as "
            "the namespace's default"
        )
        if remote:
            remedy = 'a flag may lead there: use flags = "rules", or remove that backend'
        shop.problems.add(
            path,
            f"read_your_writes is asked for, and the backend {name!r} ({driver}) is only "
            f"eventually consistent: {remedy}",
        )


__all__ = ["READ_YOUR_WRITES", "read_namespaces"]
