"""Environment variables laid over the file: CM_PLATFORM__STORAGE__TIMEOUT=5.

Names are read in upper or lower case, `__` goes one table down. A value that is a JSON list or
object is one; any other is text, which the setting's own type reads. The environment knows
neither case nor, in most shells, hyphens: where the file has a backend, a migration, a
tenant or a key of that name but for case and `_` or `-`, that one is meant. Else a backend and
a migration get hyphens, which is what their names may have; a tenant and a key stay as they are
written, in lower case. What has `__` in its name cannot be said here.

A setting with one `_` after CM_PLATFORM is refused as an unknown key is: what it should have
changed may be a deadline or a default, and a warning at start-up is read by nobody. Other names
that begin so, CM_PLATFORM_CONFIG or an application's own, are not ours to judge.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from .problems import Problems, unknown_key
from .tree import Origins, Path, Table, Tree, is_table, leaves

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

PREFIX: Final = "CM_PLATFORM__"

_DELIMITER: Final = "__"
_SLIP: Final = "CM_PLATFORM_"
_NAMED: Final = ("backends", "migrations", "tenants")


def overrides(
    environ: Mapping[str, str],
    sections: Collection[str],
    file: Mapping[str, Any],
    problems: Problems,
) -> Tree:
    """What the environment says, spelt as the file spells it.

    sections: the tables that a configuration has at its top.
    """
    variables = _ours(environ, sections, problems)
    if not variables:
        return Tree({}, {})
    table, where = _read(variables, sections, problems)
    origins: Origins = {}
    for path, _ in leaves(table):
        for length in range(len(path), 0, -1):
            if (name := where.get(path[:length])) is not None:
                origins[path] = f"environment {name}"
                break
    spelling = _Spelling(file)
    return Tree(
        spelling.table(table),
        {spelling.path(path): source for path, source in origins.items()},
    )


def _ours(
    environ: Mapping[str, str], sections: Collection[str], problems: Problems
) -> dict[str, tuple[str, str]]:
    """By lower-case name: the name as it is, and the value."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in environ.items():
        if not name.upper().startswith(PREFIX):
            section, delimiter, _ = name[len(_SLIP) :].partition(_DELIMITER)
            if name.upper().startswith(_SLIP) and delimiter and section.lower() in sections:
                problems.add(
                    (f"environment {name}",),
                    f"has one underscore too few: set {PREFIX}{name[len(_SLIP) :]}",
                )
            continue
        parts = name.lower()[len(PREFIX) :].split(_DELIMITER)
        if parts[0] not in sections or not all(parts):
            problems.add((f"environment {name}",), unknown_key(parts[0], sections))
        elif name.lower() in found:
            problems.add(
                (f"environment {name}",),
                f"is set twice, as {found[name.lower()][0]} too; unset one of them",
            )
        else:
            found[name.lower()] = (name, value)
    return found


def _read(
    variables: Mapping[str, tuple[str, str]], sections: Collection[str], problems: Problems
) -> tuple[Table, dict[Path, str]]:
    # Imported by those who use it: 30 ms.
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

    class Source(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name: value for name, (_, value) in variables.items()}

        def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
            # A secret of digits must stay a text, and `true` is for the setting to read.
            if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
                raise ValueError("not JSON")
            return json.loads(value)

    # A plain `dict`, because `dict[str, Any]` keeps JSON as text on the first level.
    fields: dict[str, Any] = {name: (dict, {}) for name in sections}
    settings: type[BaseSettings] = create_model("Sections", __base__=BaseSettings, **fields)
    try:
        table = Source(
            settings,
            case_sensitive=False,
            env_prefix=PREFIX.lower(),
            env_nested_delimiter=_DELIMITER,
        )()
    except SettingsError:
        table = {}
        for name, (written, _) in variables.items():
            if name.removeprefix(PREFIX.lower()) in sections:
                problems.add((f"environment {written}",), "must be a JSON object, or be unset")
    where: dict[Path, str] = {
        tuple(name[len(PREFIX) :].split(_DELIMITER)): written
        for name, (written, _) in variables.items()
    }
    return table, where


class _Spelling:
    """Names of backends, migrations and tenants as the file writes them."""

    def __init__(self, file: Mapping[str, Any]) -> None:
        self._file = file

    def table(self, table: Mapping[str, Any], above: Path = ()) -> Table:
        """The table with its names respelt."""
        result: Table = {}
        for key, value in table.items():
            name = self._name(key, above)
            result[name] = self.table(value, (*above, name)) if is_table(value) else value
        return result

    def path(self, path: Path) -> Path:
        """The path with its names respelt."""
        result: Path = ()
        for part in path:
            result = (*result, self._name(part, result) if isinstance(part, str) else part)
        return result

    def _name(self, key: str, above: Path) -> str:
        if not _holds_names(above):
            return key
        known: Any = self._file
        for part in above:
            known = known.get(str(part)) if is_table(known) else None
        names = [str(name) for name in known] if is_table(known) else []
        if len(above) == 4 and is_table(table := self._file.get(str(above[0]))):
            backends = table.get("backends")
            names += [str(name) for name in backends] if is_table(backends) else []
        if key in names:
            return key
        alike = {name for name in names if _folded(name) == _folded(key)}
        if len(alike) == 1:
            return alike.pop()
        return key.replace("_", "-") if above[-1] in ("backends", "migrations") else key


def _holds_names(above: Path) -> bool:
    if len(above) == 2:
        return above[1] in _NAMED or above == ("signing", "keys")
    return len(above) == 4 and above[1] == "tenants" and above[3] == "backends"


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


__all__ = ["PREFIX", "overrides"]
