"""The gateway Worker that this package ships: where its source lies, and a copy for a user."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cm_platform.errors import InternalError, InvalidArgumentError

PROTOCOL: Final = 1
"""The wire protocol that the clients of this package speak."""

DEFAULT_NAME: Final = "cm-gateway"

BINDINGS: Final = ("KV", "VALUES")
"""The bindings as the shipped `wrangler.jsonc` names them; a copy may have other names."""

# Of `wrangler.jsonc`, which has each of them once.
_CONFIGURATION: Final = "wrangler.jsonc"
_NO_ID: Final = "0" * 32

# Never what else may lie there: secrets for local runs, packages, builds.
_FILES: Final = (
    ".gitignore",
    "README.md",
    "build.mjs",
    "package-lock.json",
    "package.json",
    "src",
    "test",
    "tsconfig.json",
    _CONFIGURATION,
)

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_BINDING: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
_TAKEN: Final = frozenset({"NONCES", "GATEWAY_KEYS"})


@dataclass(frozen=True, slots=True)
class Names:
    """What a user's copy is called and bound to.

    name: of the Worker: lower-case letters, digits and dashes, at most 63.
    kv_id: of the KV namespace, 32 hex digits, as `wrangler kv namespace create` prints it.
    bindings: other names for `BINDINGS`, by the shipped ones.

    Raises `invalid_argument`.
    """

    kv_id: str
    name: str = DEFAULT_NAME
    bindings: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if _ID.fullmatch(self.kv_id) is None:
            raise InvalidArgumentError(
                "the id of a KV namespace is 32 lower-case hex digits; "
                "`npx wrangler kv namespace create cm-gateway` makes a namespace and prints it"
            )
        if _NAME.fullmatch(self.name) is None:
            raise InvalidArgumentError(
                "a Worker's name has 1 to 63 lower-case letters, digits and dashes, no dash at "
                "either end"
            )
        for shipped, name in self.bindings.items():
            _check_binding(shipped, name)
        if len({*self.all_bindings().values()}) < len(BINDINGS):
            raise InvalidArgumentError("two bindings cannot have one name")

    def all_bindings(self) -> dict[str, str]:
        """Every binding's name, by the shipped one."""
        return {name: self.bindings.get(name, name) for name in BINDINGS}


def source() -> Path:
    """The folder with the shipped Worker: packed into the wheel, or of this checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_gateway", package.parents[1] / "gateway"):
        if folder.joinpath(_CONFIGURATION).is_file():
            return folder
    raise InternalError(
        "this installation of cm-platform lacks the gateway Worker; install it again"
    )


def version() -> str:
    """The version of the shipped Worker."""
    described: dict[str, Any] = json.loads(_text(source() / "package.json"))
    return str(described["version"])


def write(directory: Path, names: Names) -> list[Path]:
    """Write the Worker out, under the user's names; the files, relative to the directory.

    directory: new, or empty: `invalid_argument` otherwise, and nothing is written.
    """
    configuration = _named(_text(source() / _CONFIGURATION), names)
    try:
        _check_empty(directory)
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(
            f"the directory cannot be made ({error.strerror}); give one where you may write"
        ) from error
    for name in _FILES:
        _copy(source() / name, directory / name)
    directory.joinpath(_CONFIGURATION).write_text(configuration, encoding="utf-8")
    return sorted(file.relative_to(directory) for file in directory.rglob("*") if file.is_file())


def _check_binding(shipped: str, name: str) -> None:
    if shipped not in BINDINGS:
        raise InvalidArgumentError(
            f"the gateway has no such binding to rename; there are {', '.join(BINDINGS)}"
        )
    if _BINDING.fullmatch(name) is None:
        raise InvalidArgumentError(
            "a binding has the name of a JavaScript variable: letters, digits, '_' and '$', at "
            "most 64, no digit first"
        )
    if name in _TAKEN:
        raise InvalidArgumentError(f"the gateway has {name} for itself; choose another name")


def _check_empty(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise InvalidArgumentError("there is a file of this name; give a directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise InvalidArgumentError(
            "the directory is not empty; give a new one, and take over what you had changed"
        )


def _named(configuration: str, names: Names) -> str:
    """`wrangler.jsonc` with other names in it; its comments stay, which JSON would lose."""
    texts = {
        f'"name": "{DEFAULT_NAME}"': f'"name": "{names.name}"',
        f'"id": "{_NO_ID}"': f'"id": "{names.kv_id}"',
        '"binding": "KV"': f'"binding": "{names.all_bindings()["KV"]}"',
        '"name": "VALUES"': f'"name": "{names.all_bindings()["VALUES"]}"',
    }
    for shipped, own in texts.items():
        before, found, after = configuration.partition(shipped)
        if not found or shipped in after:
            raise InternalError("the shipped wrangler.jsonc is not what this version expects")
        configuration = before + own + after
    return configuration


def _copy(shipped: Path, own: Path) -> None:
    if shipped.is_dir():
        shutil.copytree(shipped, own)
    else:
        shutil.copyfile(shipped, own)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


__all__ = ["BINDINGS", "DEFAULT_NAME", "PROTOCOL", "Names", "source", "version", "write"]
