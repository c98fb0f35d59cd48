"""Tables of backends, checked by their drivers' models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from cm_platform.errors import ConfigInvalidError, InvalidArgumentError
from cm_platform.registry import Registry
from cm_platform.routing import did_you_mean, is_name
from cm_platform.routing.names import NAME_RULE, shown
from cm_platform.tenant import Tenant

from .fields import absolute_paths, hidden_values, keys_of
from .models import BackendConfig
from .problems import Problems
from .tree import Origins, Path, is_table, leaves, merged, origin


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all checks need. directory: what relative paths are relative to."""

    registry: Registry
    directory: FilePath
    problems: Problems


def named_tables(shop: Workshop, value: object, path: Path) -> dict[str, Mapping[str, Any]]:
    """A table of tables; entries that are none are reported and left out."""
    if value is None:
        return {}
    if not is_table(value):
        shop.problems.add(path, "must be a table")
        return {}
    for name in value:
        if not is_table(value[name]):
            shop.problems.add((*path, name), "must be a table")
    return {name: table for name, table in value.items() if is_table(table)}


def legal_names(shop: Workshop, names: Mapping[str, object], path: Path) -> None:
    """Report names that no backend and no migration may have."""
    for name in names:
        if not is_name(name):
            shop.problems.add((*path, name), NAME_RULE)


def read_backends(
    shop: Workshop, kind: str, tables: Mapping[str, Mapping[str, Any]], path: Path
) -> dict[str, BackendConfig]:
    """The kind's backends that are in order; the others are reported."""
    legal_names(shop, tables, path)
    found: dict[str, BackendConfig] = {}
    for name, table in tables.items():
        backend = read_backend(shop, kind, name, table, (*path, name))
        if backend is not None:
            found[name] = backend
    return found


def read_tenants(
    shop: Workshop,
    kind: str,
    value: object,
    tables: Mapping[str, Mapping[str, Any]],
    backends: Mapping[str, BackendConfig],
    path: Path,
) -> dict[str, dict[str, BackendConfig]]:
    """Backends as single tenants have them: the tenant's table over the backend's.

    tables, backends: of the kind; a tenant's table for a backend that is itself not in order
    is checked when that one is.
    """
    found: dict[str, dict[str, BackendConfig]] = {}
    for written, table in named_tables(shop, value, path).items():
        here = (*path, written)
        tenant_id = read_tenant_id(shop, written, here)
        if tenant_id is not None and tenant_id != written:
            _renamed(shop.problems.origins, here, (*path, tenant_id))
        if tenant_id in found:
            shop.problems.add(here, "this tenant has two tables, in two spellings; join them")
        shop.problems.unknown_keys(table, ["backends"], here)
        own: dict[str, BackendConfig] = {}
        for name, over in named_tables(shop, table.get("backends"), (*here, "backends")).items():
            there = (*here, "backends", name)
            if name not in tables:
                known = ", ".join(sorted(tables)) or "none"
                shop.problems.add(
                    there,
                    f"no backend of this name is configured{did_you_mean(name, tables)}; "
                    f"backends are {known}",
                )
            elif name in backends:
                if over.get("driver", backends[name].driver) != backends[name].driver:
                    shop.problems.add(
                        (*there, "driver"),
                        "a tenant's table cannot change the driver: configure another backend, "
                        "and a rule that names it",
                    )
                    continue
                backend = read_backend(shop, kind, name, merged(tables[name], over), there)
                if backend is not None:
                    own[name] = backend
        if tenant_id is not None:
            found[tenant_id] = own
    return found


def read_tenant_id(shop: Workshop, text: str, path: Path) -> str | None:
    """The id as `Tenant` has it, or None after it was reported."""
    try:
        return Tenant(text).id
    except InvalidArgumentError as error:
        shop.problems.add(path, error.message)
        return None


def _renamed(origins: Origins, old: Path, new: Path) -> None:
    """Let a value be found where the checked configuration has it, too."""
    for path in [path for path in origins if path[: len(old)] == old]:
        origins[(*new, *path[len(old) :])] = origins[path]


def read_backend(
    shop: Workshop, kind: str, name: str, table: Mapping[str, Any], path: Path
) -> BackendConfig | None:
    """One backend, checked by its driver's model, or None after it was reported."""
    driver = table.get("driver")
    drivers = shop.registry.names(kind)
    listed = ", ".join(drivers) or "none"
    if not isinstance(driver, str):
        wrong = "is missing" if driver is None else "must be a string"
        shop.problems.add((*path, "driver"), f"{wrong}; drivers are {listed}")
        return None
    if driver not in drivers:
        shop.problems.add(
            (*path, "driver"),
            f"{shown(driver)} is no {kind} driver{did_you_mean(driver, drivers)}; "
            f"drivers are {listed}",
        )
        return None
    try:
        model = shop.registry.get(kind, driver).config
    except (ConfigInvalidError, ImportError, AttributeError) as error:
        why = error.message if isinstance(error, ConfigInvalidError) else type(error).__name__
        shop.problems.add((*path, "driver"), f"the driver could not be loaded: {why}")
        return None
    settings = _settings(shop, model, table, path)
    if settings is None:
        return None
    return BackendConfig(name=name, driver=driver, settings=settings)


def _settings(
    shop: Workshop, model: type[BaseModel], table: Mapping[str, Any], path: Path
) -> BaseModel | None:
    raw = {key: value for key, value in table.items() if key != "driver"}
    hidden = hidden_values(model, raw) | {
        leaf
        for where, leaf in leaves(raw)
        if isinstance(leaf, str) and _is_from_environment(shop, (*path, *where))
    }
    if model.model_config.get("extra") != "allow":
        # Here, and not left to the model: one that ignores them would hide a misspelling.
        known = keys_of(model)
        shop.problems.unknown_keys(raw, known, path)
        raw = {key: value for key, value in raw.items() if key in known}
    raw = absolute_paths(model, raw, shop.directory)
    return shop.problems.validated(model, raw, path, hidden=hidden)


def _is_from_environment(shop: Workshop, path: Path) -> bool:
    # Secrets are handed over so, whatever the setting is called.
    source = origin(shop.problems.origins, path) or ""
    return " via " in source or source.startswith("environment ")


__all__ = [
    "Workshop",
    "legal_names",
    "named_tables",
    "read_backend",
    "read_backends",
    "read_tenant_id",
    "read_tenants",
]
