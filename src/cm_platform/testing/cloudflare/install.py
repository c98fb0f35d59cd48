"""The gateway's files and its locked packages (miniflare, esbuild), installed on first use."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from cm_platform.cloudflare import worker
from cm_platform.errors import UnavailableError

from .node import Node, node_environment

_NEEDED: Final = ("miniflare", "esbuild", "workerd")
_LOCKED: Final = ("package.json", "package-lock.json")
_TIMEOUT: Final = 600.0
_TAIL: Final = 2_000


class Installed(NamedTuple):
    """root: the folder with wrangler.jsonc. modules: the folder that holds `node_modules`."""

    root: Path
    modules: Path


def installed(node: Node) -> Installed:
    """The gateway with its packages; the first call on a machine runs `npm ci` (10 to 60 s).

    In a checkout they lie beside the gateway, for an installed wheel in the user's cache. Several
    processes may call it at once: one installs, the others wait.

    Raises `unavailable` when npm fails, with the end of what it said.
    """
    root = worker.source()
    checkout = root.parent.joinpath("pyproject.toml").is_file()
    modules = root if checkout else _cache(root)
    if not _is_current(root, modules):
        with _locked(modules):
            if not _is_current(root, modules):
                _install(node, root, modules)
    return Installed(root, modules)


def _cache(root: Path) -> Path:
    """A folder of its own for each lock file."""
    lock = hashlib.sha256(root.joinpath("package-lock.json").read_bytes()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "cm_platform" / f"gateway-{lock}"


def _is_current(root: Path, modules: Path) -> bool:
    """Whether npm has installed there what the lock demands. npm keeps its own list."""
    try:
        wanted = _packages(root / "package-lock.json")
        present = _packages(modules / "node_modules" / ".package-lock.json")
    except (OSError, ValueError):
        return False
    names = [f"node_modules/{name}" for name in _NEEDED]
    return all(present.get(n, {}).get("version") == wanted[n]["version"] for n in names)


def _packages(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["packages"]
    return found


@contextmanager
def _locked(modules: Path) -> Generator[None]:
    modules.mkdir(parents=True, exist_ok=True)
    # Not in `modules`: npm and a checkout's status would see it there.
    name = hashlib.sha256(str(modules).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"cm_platform-npm-{os.getuid()}-{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _install(node: Node, root: Path, modules: Path) -> None:
    if modules != root:
        for name in _LOCKED:
            shutil.copyfile(root / name, modules / name)
    command = [
        str(node.executable),
        str(node.npm),
        "ci",
        "--fetch-retries=1",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
    ]
    path = os.pathsep.join((str(node.executable.parent), os.environ.get("PATH", "")))
    try:
        done = subprocess.run(  # noqa: S603 - npm, with the gateway's own lock file
            command,
            cwd=modules,
            env={**node_environment(), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"npm ci was not done after {_TIMEOUT:.0f} s") from error
    if done.returncode != 0 or not _is_current(root, modules):
        raise UnavailableError(
            f"npm ci in {modules} ended with status {done.returncode}:\n{done.stdout[-_TAIL:]}"
        )


__all__ = ["Installed", "installed"]
