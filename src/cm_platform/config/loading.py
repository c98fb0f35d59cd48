"""From a file, or a mapping, and the environment to a `Config`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from cm_platform.errors import ConfigInvalidError
from cm_platform.registry import REGISTRY, Registry
from cm_platform.routing import KINDS, Kind, did_you_mean

from .backends import Workshop, read_backend
from .environment import overrides
from .kinds import read_kind
from .models import Config, SigningConfig, TelemetryConfig
from .problems import Problems
from .references import resolved
from .tree import Path as TreePath
from .tree import Tree, is_table, laid_over

CONFIG_VARIABLE: Final = "CM_PLATFORM_CONFIG"
LEDGER: Final = "ledger"

# RFC 2104, section 3 (1997): a key shorter than the digest, 32 bytes, weakens the signature.
_KEY_LENGTH: Final = 32


def load(
    source: str | Path | Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    registry: Registry = REGISTRY,
    kinds: Mapping[str, Kind] = KINDS,
) -> Config:
    """Read and check a configuration. No I/O but the one file.

    source: a TOML file; or its content as a mapping; or None for the file that the variable
        CM_PLATFORM_CONFIG names.
    environ: instead of the process's environment.

    Relative paths, also those from the environment, are relative to the file's directory (for
    a mapping: to the working directory). Raises `config_invalid` with every problem, one a
    line.
    """
    environ = os.environ if environ is None else environ
    if source is None:
        source = environ.get(CONFIG_VARIABLE) or None
    if source is None:
        raise ConfigInvalidError(
            'nothing is configured. Call cm_platform.configure("cm_platform.toml"), or set the '
            f"environment variable {CONFIG_VARIABLE} to the file's path, or call "
            "cm_platform.configure(embedded=True) for a store under ./.cm_platform"
        )
    if isinstance(source, Mapping):
        table, name, label, directory = dict(source), "configuration", "mapping", Path.cwd()
    else:
        file = Path(source)
        table, name, label = _toml(file), str(file), file.name
        directory = file.absolute().parent
    problems = Problems(name)
    tree = resolved(table, label, environ, problems)
    return build(
        tree,
        problems,
        directory,
        environ=environ,
        registry=registry,
        kinds=kinds,
    )


def build(
    tree: Tree,
    problems: Problems,
    directory: Path,
    *,
    environ: Mapping[str, str],
    registry: Registry,
    kinds: Mapping[str, Kind],
) -> Config:
    """Lay the environment over a tree and check all of it."""
    sections = [*kinds, LEDGER, "signing", "telemetry"]
    tree = laid_over(tree, overrides(environ, sections, tree.table, problems))
    problems.origins = tree.origins
    problems.unknown_keys(tree.table, sections, ())
    shop = Workshop(registry, directory, problems)
    tables: dict[str, Mapping[str, Any]] = {}
    for section in sections:
        table = tree.table.get(section, {})
        if is_table(table):
            tables[section] = table
        else:
            problems.add((section,), f"must be a table: [{section}]")
            tables[section] = {}
    found = {
        name: read_kind(shop, kind, tables[name], ledger_configured=LEDGER in tree.table)
        for name, kind in kinds.items()
        if name in tree.table and is_table(tree.table[name])
    }
    ledger = None
    if LEDGER in tree.table and is_table(tree.table[LEDGER]):
        ledger = read_backend(shop, LEDGER, LEDGER, tables[LEDGER], (LEDGER,))
    signing = _signing(problems, tables["signing"])
    telemetry = problems.validated(TelemetryConfig, tables["telemetry"], ("telemetry",))
    problems.check()
    config = Config(
        kinds={name: kind for name, kind in found.items() if kind is not None},
        ledger=ledger,
        signing=signing or SigningConfig(),
        telemetry=telemetry or TelemetryConfig(),
        source_dir=directory,
    )
    config._origins.update(tree.origins)
    return config


def _toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigInvalidError(
            f"the configuration {file} cannot be read: {error.strerror or type(error).__name__}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalidError(f"{file}: a configuration is UTF-8, and this is not") from error
    except tomllib.TOMLDecodeError as error:
        # Its text has the line and the column, and no value.
        raise ConfigInvalidError(f"{file}: not valid TOML: {error}") from error


def _signing(problems: Problems, table: Mapping[str, Any]) -> SigningConfig | None:
    here: TreePath = ("signing",)
    signing = problems.validated(SigningConfig, table, here)
    # From the table itself: one wrong part does not hide the others.
    named = table.get("keys")
    keys: Mapping[str, Any] = named if is_table(named) else {}
    for key_id, key in keys.items():
        if not key_id.isascii() or not key_id.replace("-", "").replace("_", "").isalnum():
            problems.add((*here, "keys", key_id), "a key's id is letters, digits, '-' and '_'")
        if _too_short(key):
            problems.add(
                (*here, "keys", key_id),
                f"is shorter than {_KEY_LENGTH} characters; make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`",
            )
    current = table.get("current")
    if current is None and len(keys) > 1:
        problems.add(
            (*here, "current"),
            f"is missing: say which of the keys signs; keys are {', '.join(sorted(keys))}",
        )
    elif isinstance(current, str) and current not in keys:
        problems.add(
            (*here, "current"),
            f"no key has this id{did_you_mean(current, keys)}; "
            f"keys are {', '.join(sorted(keys)) or 'none'}",
        )
    if signing is None:
        return None
    return signing.model_copy(update={"current": current or next(iter(keys), None)})


def _too_short(key: object) -> bool:
    text = key.get_secret_value() if isinstance(key, SecretStr) else key
    return isinstance(text, str) and len(text.encode()) < _KEY_LENGTH


__all__ = ["CONFIG_VARIABLE", "build", "load"]
