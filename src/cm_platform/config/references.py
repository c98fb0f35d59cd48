"""`${VAR}` and `${VAR:-default}` in the strings of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .problems import Problems
from .tree import Origins, Path, Tree, is_list, is_table, is_tables

_REFERENCE: Final = re.compile(
    r"\$(?P<escaped>\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<broken>\$\{)"
)


def resolved(
    table: Mapping[str, Any], source: str, environ: Mapping[str, str], problems: Problems
) -> Tree:
    """The table with its references replaced, and the origins of its leaves.

    A default is used when the variable is unset or empty, as in a shell. `$${` stands for `${`.
    """
    expansion = _Expansion(source, environ, problems)
    return Tree(
        {key: expansion.walk(value, (key,)) for key, value in table.items()}, expansion.origins
    )


class _Expansion:
    def __init__(self, source: str, environ: Mapping[str, str], problems: Problems) -> None:
        self.origins: Origins = {}
        self._source = source
        self._environ = environ
        self._problems = problems

    def walk(self, value: Any, path: Path) -> Any:
        if is_table(value):
            return {str(key): self.walk(item, (*path, str(key))) for key, item in value.items()}
        if is_tables(value):
            return [self.walk(item, (*path, index)) for index, item in enumerate(value)]
        used: list[str] = []
        result = self._leaf(value, path, used)
        via = f" via {', '.join(dict.fromkeys(used))}" if used else ""
        self.origins[path] = self._source + via
        return result

    def _leaf(self, value: Any, path: Path, used: list[str]) -> Any:
        if is_list(value):
            return [self._leaf(item, (*path, i), used) for i, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value

        def replace(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "${"
            if match["broken"]:
                self._problems.unresolved(
                    path,
                    "'${' begins a reference: write ${NAME} or ${NAME:-default}, or '$${' where "
                    "the two characters are meant",
                )
                return ""
            name, default = match["name"], match["default"]
            found = self._environ.get(name)
            used.append(f"${{{name}}}")
            if found or (found is not None and default is None):
                return found
            if default is None:
                self._problems.unresolved(
                    path,
                    f"the environment variable {name} is not set: set it, or write "
                    f"${{{name}:-default}}",
                )
                return ""
            return default

        return _REFERENCE.sub(replace, value)


__all__ = ["resolved"]
