"""Write docs/settings.md from the models of the configuration and of our own drivers.

python scripts/generate_settings.py            writes the page
python scripts/generate_settings.py --check    exits 1 when the page is not what it would write
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from cm_platform.config.fields import keys_of
from cm_platform.config.models import (
    KindSettings,
    MigrationConfig,
    NamespaceSettings,
    SigningConfig,
    TelemetryConfig,
)
from cm_platform.config.rules import RuleTable
from cm_platform.registry import REGISTRY
from cm_platform.routing import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

INTRO = """\
# Settings

Written from the models by `scripts/generate_settings.py`. What these settings are for is told in
[configuration](configuration.md); `cm-platform config explain` shows those in force, and
`cm-platform config explain --defaults` also those of drivers that others have made.

Each can come from the environment: `CM_PLATFORM__STORAGE__RETRY__ATTEMPTS=2`.
"""

DRIVER = """\
`driver` is required: {drivers},
or one that is installed beside them. The other settings are the driver's.
"""

TENANTS = """\
`backends.<name>` is laid over the table of that backend for one tenant: its own bucket, credentials
or region, and any other setting of the driver. It cannot change the driver.
"""

LEDGER = """\
What knows where each tenant's data is. Migrations need it, and so do percentages and remote flags
of kinds that hold data. `driver` is required: {drivers}.
The other settings are the driver's.
"""

NAMESPACES = """\
A namespace with a `default` may have rules of its own, `[[<kind>.namespaces.<name>.rules]]`, of the
same form as the kind's.
"""

ENTRY = re.compile(r"(\w+(?:, \w+)*): (.*)")
WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}


def page() -> str:
    """The page's text."""
    parts = [INTRO]
    for kind in KINDS:
        parts += [
            section(f"`[{kind}]`", KindSettings),
            section(f"`[{kind}.backends.<name>]`", None),
            DRIVER.format(drivers=links(kind)),
            *drivers(kind),
            section(f"`[{kind}.migrations.<name>]`", MigrationConfig),
            section(f"`[[{kind}.rules]]`", RuleTable),
            *(
                [section(f"`[{kind}.namespaces.<name>]`", NamespaceSettings), NAMESPACES]
                if KINDS[kind].has_namespaces
                else []
            ),
            section(f"`[{kind}.tenants.<id>]`", None),
            TENANTS,
        ]
    parts += [
        section("`[ledger]`", None),
        LEDGER.format(drivers=links("ledger")),
        *drivers("ledger"),
        section("`[signing]`", SigningConfig),
        section("`[telemetry]`", TelemetryConfig),
    ]
    return "\n".join(parts)


def links(kind: str) -> str:
    """Our drivers of a kind, each leading to its section."""
    return ", ".join(
        f"[`{name}`](#driver-{name.replace('.', '')}-of-{kind})" for name in ours(kind)
    )


def drivers(kind: str) -> Iterator[str]:
    """A section for each of our drivers of a kind."""
    for driver in ours(kind):
        model = REGISTRY.get(kind, driver).config
        yield section(f"Driver `{driver}` of {kind}", model, "###")


def ours(kind: str) -> list[str]:
    """The drivers that come with this package."""
    names = REGISTRY.names(kind)
    return [n for n in names if REGISTRY.get(kind, n).config.__module__.startswith("cm_platform.")]


def section(title: str, model: type[BaseModel] | None, level: str = "##") -> str:
    """A heading and, of a model, what it is and its settings."""
    if model is None:
        return f"{level} {title}\n"
    lines = [f"{level} {title}", "", first_line(model), ""]
    lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows(model)]
    return "\n".join([*lines, ""])


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each setting; those of inner tables by dotted name."""
    meant = meanings(model)
    for name, field in keys_of(model).items():
        inner = inner_model(field.annotation)
        if inner is not None:
            yield from rows(inner, f"{prefix}{name}.")
        elif name not in meant:
            raise SystemExit(f"{model.__name__}'s docstring does not say what {name} is")
        else:
            kind = kind_of(field.annotation) + bounds(field)
            yield f"`{prefix}{name}`", kind, default(field), meant[name]


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a table within a table, which may be left out."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings say of each setting: of the model, and of those it derives from."""
    found: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        if issubclass(ancestor, BaseModel) and ancestor is not BaseModel:
            found |= told(ancestor)
    return found


def told(model: type[BaseModel]) -> dict[str, str]:
    """What one docstring says: `name, name: meaning`, over several lines."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(model.__doc__ or "").splitlines():
        entry = ENTRY.fullmatch(line)
        if entry is not None:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif not line.strip():
            names = []
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: text[:1].upper() + text[1:] for name, text in found.items()}


def first_line(model: type[BaseModel]) -> str:
    """What the docstring says of all."""
    return (inspect.getdoc(model) or "").partition("\n\n")[0].replace("\n", " ")


def kind_of(annotation: Any) -> str:
    """A type in words."""
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return kind_of(arguments[0])
    if kind in (Union, UnionType):
        return " or ".join(kind_of(one) for one in arguments if one is not NoneType)
    if kind is Literal:
        return " or ".join(f'`"{one}"`' for one in arguments)
    if kind in (list, tuple, frozenset):
        return f"list of {kind_of(arguments[0])}"
    if kind in (dict, Mapping) or (isinstance(kind, type) and issubclass(kind, Mapping)):
        return f"table of {kind_of(arguments[1])}s"
    if annotation is SecretStr:
        return "secret"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f'`"{one.value}"`' for one in annotation)
    return WORDS[annotation]


def bounds(field: FieldInfo) -> str:
    """What a number must keep to."""
    found = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("gt", "ge", "le")
        if getattr(limit, name, None) is not None
    }
    words = {"gt": "above", "ge": "from", "le": "at most"}
    return "".join(f", {words[name]} {bound:g}" for name, bound in found.items())


def default(field: FieldInfo) -> str:
    """What holds where nothing is said, as TOML has it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`"
    if isinstance(value, str):
        return f'`"{value}"`' if value else "none"
    return "none"


def main() -> int:
    """Write, or check, the page."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE}: not what the models say; run scripts/generate_settings.py")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
