"""The examples run as they stand, and twice in the same place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sum(1 for path in (EXAMPLES / "data").rglob("*") if path.is_file())


def run(name: str, directory: Path) -> str:
    done = subprocess.run(  # noqa: S603 - our own files
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_plain_script_uploads_lists_and_verifies(tmp_path: Path) -> None:
    first = run("plain_script.py", tmp_path)
    assert len([line for line in first.splitlines() if "plain/" in line]) == FILES
    assert "all verified" in first
    assert run("plain_script.py", tmp_path) == first


def test_the_async_script_writes_verifies_streams_and_keeps_to_its_own(tmp_path: Path) -> None:
    shown = run("async_script.py", tmp_path)
    assert f"{FILES} files" in shown
    assert "async/squares.csv: 10427 bytes, ends with '999;998001'" in shown
    run("plain_script.py", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".cm_platform"]
