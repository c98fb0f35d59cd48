"""The configuration that needs no account, no server and no file: a directory."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cm_platform.errors import ConfigInvalidError
from cm_platform.registry import REGISTRY, Registry
from cm_platform.routing import KINDS, Kind

from .fields import path_keys
from .loading import build
from .models import Config
from .problems import Problems
from .tree import Tree, leaves

DIRECTORY: Final = ".cm_platform"

logger = logging.getLogger("cm_platform.config")

_DRIVER: Final = "local"
_KEY_ID: Final = "local"
_LABEL: Final = "embedded"


def embedded(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    registry: Registry = REGISTRY,
    kinds: Mapping[str, Kind] = KINDS,
) -> Config:
    """One backend "local" for every kind that has one.

    path: the directory, made when it is not there; by default `.cm_platform` in the working
        directory as it is now.

    Signs with a key that is kept there, in `signing.key`. The environment is laid over it as
    over a file.
    """
    root = (Path(DIRECTORY) if path is None else path).absolute()
    table: dict[str, Any] = {
        name: {
            "default": _DRIVER,
            "backends": {_DRIVER: _backend(registry, name, root)},
        }
        for name in kinds
        if _DRIVER in registry.names(name)
    }
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        table["signing"] = {"current": _KEY_ID, "keys": {_KEY_ID: _signing_key(root)}}
    except OSError as error:
        raise ConfigInvalidError(
            f"the embedded store cannot be kept in {root}: {error.strerror}"
        ) from error
    return build(
        Tree(table, {where: _LABEL for where, _ in leaves(table)}),
        Problems("the embedded configuration"),
        root.parent,
        environ=os.environ if environ is None else environ,
        registry=registry,
        kinds=kinds,
    )


def _backend(registry: Registry, kind: str, root: Path) -> dict[str, Any]:
    """The local drivers have one path each: where they keep their data."""
    model = registry.get(kind, _DRIVER).config
    return {"driver": _DRIVER, **{key: str(root / kind) for key in path_keys(model)[:1]}}


def _signing_key(root: Path) -> str:
    """The directory's key, made by whoever comes first; all processes see the same whole key."""
    file = root / "signing.key"
    if not file.exists():
        _create(file, secrets.token_urlsafe(32))
        # A key and data that nobody means to commit.
        _create(root / ".gitignore", "*\n")
    if file.stat().st_mode & 0o077:
        logger.warning("others can read %s: chmod 600 it", file)
    return file.read_text(encoding="ascii").strip()


def _create(file: Path, text: str) -> None:
    # Written aside and then linked: O_EXCL alone would let another process read half a key.
    # Linking fails where the name is taken, so nobody's key is replaced.
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
        except OSError:
            # A shared folder without hard links. Renaming replaces, so look first.
            if not file.exists():
                draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)


__all__ = ["DIRECTORY", "embedded"]
