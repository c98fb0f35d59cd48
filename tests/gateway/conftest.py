"""Node, and the gateway's packages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cm_platform.testing.cloudflare.install import Installed, installed
from cm_platform.testing.cloudflare.node import find_node, node_environment

RunNode = Callable[..., str]


@pytest.fixture(scope="session")
def packages() -> Installed:
    """The shipped gateway and its packages; the first use on a machine installs them."""
    return installed(find_node())


@pytest.fixture(scope="session")
def run_node() -> RunNode:
    """Run Node in a directory; what it said, all of which a failure shows."""

    def run(directory: Path, *arguments: str | Path, timeout: float = 60) -> str:
        done = subprocess.run(  # noqa: S603 - our own tools
            [str(find_node().executable), *map(str, arguments)],
            cwd=directory,
            env=node_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run
