"""Write the sync face of each service from its async face: signatures, docstrings, one-liners.

python scripts/generate_faces.py            writes src/cm_platform/<kind>/sync.py
python scripts/generate_faces.py --check    exits 1 when a file is not what it would write
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "cm_platform"


@dataclass(frozen=True)
class Face:
    """A kind's async classes, by module, and the words that differ in the sync face."""

    kind: str
    classes: dict[str, str]  # async class -> the module of the kind's folder that has it
    imports: str
    words: dict[str, str]


FACES = [
    Face(
        kind="storage",
        classes={"AsyncStoredObject": "reading", "AsyncStorage": "service"},
        imports="""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from cm_platform.errors import PlatformError
from cm_platform.runtime import drive, drive_each
from cm_platform.tenant import Tenant

from .backend import ListedObject, ObjectInfo, StorageCapability
from .body import Body
from .reading import AsyncStoredObject
from .service import AsyncStorage
from .view import Page, PresignedUrl
from .writing import PART_SIZE, Progress
""",
        words={
            "AsyncBody": "Body",
            "AsyncIterator": "Iterator",
            "get_async_service": "get_service",
        },
    ),
    Face(
        kind="cache",
        classes={"AsyncCache": "service"},
        imports="""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from cm_platform.errors import PlatformError
from cm_platform.runtime import drive
from cm_platform.tenant import Tenant

from .backend import CacheCapability, Condition
from .service import AsyncCache
from .times import DEFAULT, Default
""",
        words={"get_async_service": "get_service"},
    ),
    Face(
        kind="migration",
        classes={"AsyncMigration": "control"},
        imports="""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .control import AsyncMigration
from .ledger import Skipped, State, Subject, Terms, Transition
from .mover import Planned
from .progress import Report, unwatched
from .stages import Evidence
from .stepping import Stepped
""",
        words={},
    ),
]

HEADER = (
    '"""The sync face of {kind}. Generated from the async one by scripts/generate_faces.py."""\n'
)


def generate(face: Face) -> str:
    """The text of the sync module, formatted."""
    words = {**face.words, **{name: name.removeprefix("Async") for name in face.classes}}
    parts = [HEADER.format(kind=face.kind), face.imports]
    for name, module in face.classes.items():
        tree = ast.parse((PACKAGE / face.kind / f"{module}.py").read_text(encoding="utf-8"))
        found = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
        parts.append(sync_class(found, words))
    names = sorted(words[name] for name in face.classes)
    parts.append(f"\n\n__all__ = {names!r}\n")
    ruff = [sys.executable, "-m", "ruff"]
    formatted = "".join(parts)
    for command in (["check", "-q", "--select", "I,F401", "--fix", "-"], ["format", "-q", "-"]):
        formatted = subprocess.run(  # noqa: S603 - our own interpreter and arguments
            [*ruff, *command, "--stdin-filename", f"src/cm_platform/{face.kind}/sync.py"],
            input=formatted,
            capture_output=True,
            text=True,
            check=True,
            cwd=PACKAGE.parents[1],
        ).stdout
    return formatted


def sync_class(node: ast.ClassDef, words: dict[str, str]) -> str:
    """One class of the sync face."""
    name = words[node.name]
    lines = [
        f"\n\nclass {name}:",
        docstring(node, words, "    "),
        '    __slots__ = ("_async",)\n',
        f"    def __init__(self, asynchronous: {node.name}) -> None:",
        "        self._async = asynchronous\n",
        "    def __repr__(self) -> str:",
        '        return repr(self._async).removeprefix("Async")\n',
    ]
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            context = member.name in ("__aenter__", "__aexit__")
            if context or not member.name.startswith("_"):
                lines.append(method(member, words))
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            lines.append(attribute(member, words))
    return "\n".join(lines)


def attribute(node: ast.AnnAssign, words: dict[str, str]) -> str:
    """An annotated attribute, as a property."""
    assert isinstance(node.target, ast.Name)  # noqa: S101 - narrows for the type checker
    name = node.target.id
    kind = translated(ast.unparse(node.annotation), words)
    return (
        f"    @property\n    def {name}(self) -> {kind}:\n"
        f'        """What is known of it."""\n        return self._async.{name}\n'
    )


def method(node: ast.FunctionDef | ast.AsyncFunctionDef, words: dict[str, str]) -> str:
    """One method: the same signature and docstring, a body of one line."""
    is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
    name = node.name.replace("__aenter__", "__enter__").replace("__aexit__", "__exit__")
    returns = ast.unparse(node.returns) if node.returns else "None"
    lines = ["    @property"] if is_property else []
    arguments = translated(ast.unparse(node.args), words)
    lines.append(f"    def {name}({arguments}) -> {translated(returns, words)}:")
    lines.append(docstring(node, words, "        "))
    lines.append(f"        {body(node, is_property, returns, words)}\n")
    return "\n".join(lines)


def body(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    is_property: bool,
    returns: str,
    words: dict[str, str],
) -> str:
    """What the method does: drive the async one."""
    if node.name == "__aenter__":
        return "return self"
    call = f"self._async.{node.name}"
    if is_property:
        return f"return {call}"
    call += f"({', '.join(passed(node.args))})"
    if is_generator(node):
        return f"return drive_each({call})"
    if isinstance(node, ast.AsyncFunctionDef):
        call = f"drive({call})"
    if returns in words and returns.startswith("Async"):
        call = f"{words[returns]}({call})"
    return call if returns == "None" else f"return {call}"


def passed(arguments: ast.arguments) -> list[str]:
    """The arguments, as they are handed on."""
    positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args) if a.arg != "self"]
    return positional + [f"{a.arg}={a.arg}" for a in arguments.kwonlyargs]


def is_generator(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the method itself yields."""
    return any(isinstance(inner, ast.Yield) for inner in ast.walk(node))


def docstring(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, words: dict[str, str], indent: str
) -> str:
    """The docstring, in the sync face's words."""
    text = ast.get_docstring(node)
    if text is None:
        raise SystemExit(f"{node.name} has no docstring")
    lines = translated(f'"""{text}"""' if "\n" not in text else f'"""{text}\n"""', words)
    return "\n".join(indent + line if line else "" for line in lines.split("\n"))


def translated(text: str, words: dict[str, str]) -> str:
    """The text with the words of the sync face."""
    for word, other in words.items():
        text = text.replace(word, other)
    return text.replace("self: Self, ", "self, ")


def main() -> int:
    """Write, or check, every face."""
    check = "--check" in sys.argv[1:]
    stale = 0
    for face in FACES:
        path = PACKAGE / face.kind / "sync.py"
        text = generate(face)
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            print(f"{path}: not what the async face says; run scripts/generate_faces.py")
            stale = 1
        elif not check:
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
