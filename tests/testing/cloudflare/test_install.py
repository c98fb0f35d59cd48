"""The gateway's packages are installed once, whoever asks at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cm_platform.cloudflare import worker
from cm_platform.errors import UnavailableError
from cm_platform.testing.cloudflare.install import installed
from cm_platform.testing.cloudflare.node import Node, find_node

SOURCE = str(Path(__file__).resolve().parents[3] / "src")

# Stands for npm: notes that it was called, takes its time, and writes the list that npm keeps.
NPM = """
const fs = require("node:fs");
fs.appendFileSync(process.env.CALLS, process.argv.slice(2).join(" ") + "\\n");
if (process.env.FAIL) { console.log("no registry"); process.exit(7); }
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
fs.mkdirSync("node_modules", { recursive: true });
fs.copyFileSync("package-lock.json", "node_modules/.package-lock.json");
"""


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A gateway that lies in an installed package, an empty cache, and a stand-in for npm."""
    root = tmp_path / "site-packages" / "_gateway"
    root.mkdir(parents=True)
    (root / "package.json").write_text("{}")
    (root / "package-lock.json").write_bytes((worker.source() / "package-lock.json").read_bytes())
    npm = tmp_path / "npm.cjs"
    npm.write_text(NPM)
    monkeypatch.setattr(worker, "source", lambda: root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return Node(find_node().executable, npm)


def test_a_wheel_installs_into_the_users_cache_and_only_once(wheel: Node, tmp_path: Path) -> None:
    root, modules = installed(wheel)
    assert installed(wheel) == (root, modules)
    assert root == tmp_path / "site-packages" / "_gateway"
    assert modules.parent == tmp_path / "cache" / "cm_platform"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("ci ")
    assert sorted(path.name for path in root.iterdir()) == ["package-lock.json", "package.json"]


def test_another_lock_file_installs_anew(wheel: Node, tmp_path: Path) -> None:
    root, modules = installed(wheel)
    lock = json.loads((root / "package-lock.json").read_text())
    lock["packages"]["node_modules/esbuild"]["version"] = "0.0.1"
    (root / "package-lock.json").write_text(json.dumps(lock))
    assert installed(wheel).modules != modules
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_several_processes_install_once(wheel: Node, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from cm_platform.cloudflare import worker\n"
        "from cm_platform.testing.cloudflare import install, node\n"
        "worker.source = lambda: Path(sys.argv[1])\n"
        "print(install.installed(node.Node(Path(sys.argv[2]), Path(sys.argv[3]))).modules)\n"
    )
    root = tmp_path / "site-packages" / "_gateway"
    command = [sys.executable, "-c", script, str(root), *map(str, wheel)]
    running = [
        subprocess.Popen(  # noqa: S603 - a script of this test
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCE},
        )
        for _ in range(3)
    ]
    places = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(places) == 1
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_what_npm_said_is_told_when_it_fails(wheel: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(UnavailableError, match=r"ended with status 7:\nno registry"):
        installed(wheel)
