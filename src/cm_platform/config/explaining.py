"""What is in force and why: every setting with its source, for `cm-platform config explain`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, cast

from pydantic import BaseModel

from cm_platform.registry import REGISTRY, Registry
from cm_platform.routing import KINDS, Rule

from .fields import MASK, is_secret_name, keys_of
from .models import (
    BackendConfig,
    Config,
    KindSettings,
    MigrationConfig,
    NamespaceSettings,
    Setting,
    SigningConfig,
    TelemetryConfig,
)
from .tree import Origins, Path, dotted, is_table, origin

DEFAULT: Final = "default"

_SHOWN_ITEMS: Final = 5
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def explained(config: Config, origins: Origins) -> list[Setting]:
    """The settings of a configuration, in the order of its tables."""
    # A value that one validator made of a whole table is said to come from the table's first.
    tables: Origins = {}
    for path, source in origins.items():
        for length in range(1, len(path)):
            tables.setdefault(path[:length], source)
    settings: list[Setting] = []
    for path, value in _config_leaves(config):
        source = origin(origins, path) or tables.get(path, DEFAULT)
        if _is_tenants(path) and source == DEFAULT:
            # What a tenant has in common with the others is shown there.
            continue
        settings.append(_setting(path, value, source))
    return settings


def defaults(registry: Registry = REGISTRY) -> list[Setting]:
    """What holds where nothing is said: of each kind, of each installed driver.

    A driver's settings stand under `<kind>.backends.<driver>`, its own name as an example.
    """
    found: list[Setting] = []
    for kind in KINDS:
        found += _model_defaults(KindSettings, (kind,))
        if KINDS[kind].has_namespaces:
            found += _model_defaults(NamespaceSettings, (kind, "namespaces", "default"))
        for driver in registry.names(kind):
            model = registry.get(kind, driver).config
            found += _model_defaults(model, (kind, "backends", driver))
        found += _model_defaults(MigrationConfig, (kind, "migrations", "to-another"))
    for driver in registry.names("ledger"):
        found += _model_defaults(registry.get("ledger", driver).config, ("ledger", driver))
    for section, model in (("signing", SigningConfig), ("telemetry", TelemetryConfig)):
        found += _model_defaults(model, (section,))
    return found


def _model_defaults(model: type[BaseModel], path: Path) -> Iterator[Setting]:
    for name, field in keys_of(model).items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True, validated_data={})
            for where, leaf in _leaves(value, (*path, name)):
                yield _setting(where, leaf, DEFAULT)


def _config_leaves(config: Config) -> Iterator[tuple[Path, Any]]:
    for name, kind in config.kinds.items():
        for field in KindSettings.model_fields:
            yield from _leaves(getattr(kind, field), (name, field))
        for backend, found in kind.backends.items():
            yield from _backend_leaves(found, (name, "backends", backend))
        yield from _leaves(kind.migrations, (name, "migrations"))
        for index, rule in enumerate(kind.rules):
            yield from _rule_leaves(rule, (name, "rules", index))
        for namespace, settings in kind.namespaces.items():
            for field in NamespaceSettings.model_fields:
                yield from _leaves(getattr(settings, field), (name, "namespaces", namespace, field))
            for index, rule in enumerate(settings.rules):
                yield from _rule_leaves(rule, (name, "namespaces", namespace, "rules", index))
        for tenant_id, backends in kind.tenants.items():
            for backend, found in backends.items():
                yield from _backend_leaves(found, (name, "tenants", tenant_id, "backends", backend))
    if config.ledger is not None:
        yield from _backend_leaves(config.ledger, ("ledger",))
    yield from _leaves(config.signing, ("signing",))
    yield from _leaves(config.telemetry, ("telemetry",))


def _backend_leaves(backend: BackendConfig, path: Path) -> Iterator[tuple[Path, Any]]:
    yield (*path, "driver"), backend.driver
    yield from _leaves(backend.settings, path)


def _rule_leaves(rule: Rule, path: Path) -> Iterator[tuple[Path, Any]]:
    if rule.tenants is not None:
        yield (*path, "tenants"), rule.tenants
    if rule.percent is not None:
        yield (*path, "percent"), rule.percent
    yield (*path, "route"), rule.route


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            key = field.validation_alias if isinstance(field.validation_alias, str) else name
            yield from _leaves(getattr(value, name), (*path, key))
    elif is_table(value):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(i, BaseModel) for i in _items(value)):
        for index, item in enumerate(_items(value)):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _items(value: Any) -> list[Any]:
    return list(cast("list[Any]", value))


def _is_tenants(path: Path) -> bool:
    return len(path) > 1 and path[1] == "tenants"


def _setting(path: Path, value: Any, source: str) -> Setting:
    data = _data(value, path)
    return Setting(dotted(path), _text(data), source, data)


def _data(value: Any, path: Path) -> Any:
    """A value as JSON has it; ******** for a secret."""
    if hasattr(value, "get_secret_value"):
        return MASK
    if isinstance(value, str | bytes) and is_secret_name(str(path[-1])):
        return MASK
    if isinstance(value, Enum):
        return _data(value.value, path)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, set | frozenset):
        # Sets of text are in another order in every process.
        return sorted((_data(item, path) for item in _items(value)), key=str)
    if isinstance(value, list | tuple):
        return [_data(item, path) for item in _items(value)]
    if isinstance(value, Mapping):
        return {}  # one that has entries is not a leaf
    # A password in a URL that its driver does not know to be a secret.
    return _USERINFO.sub(MASK, str(value))


def _text(data: Any) -> str:
    """The same for people."""
    if data is None:
        return "none"
    if isinstance(data, bool):
        return "true" if data else "false"
    if not isinstance(data, list):
        return str(data)
    items = _items(data)
    shown = [_text(item) for item in items[:_SHOWN_ITEMS]]
    if len(items) > _SHOWN_ITEMS:
        shown.append(f"… ({len(items)} in all)")
    return f"[{', '.join(shown)}]"


__all__ = ["DEFAULT", "defaults", "explained"]
