"""The servers to rehearse on: started as they stand, and a migration planned there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sum(1 for path in (EXAMPLES / "data").rglob("*") if path.is_file())


def test_a_migration_can_be_planned_and_started_there(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, "-W", "error", EXAMPLES / "staging_servers.py", "rehearsal"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as serving:
        try:
            assert serving.stdout is not None
            assert "rehearsal/cm_platform.toml" in serving.stdout.readline()
            assert f'"objects": {FILES}' in migrate(tmp_path, "plan", "--json")
            migrate(tmp_path, "start", "--no-other-writers")
            assert "off -> dualwrite" in migrate(tmp_path, "advance")
            serving.send_signal(signal.SIGINT)
            said, _ = serving.communicate(timeout=30)
            assert "ended" in said
            assert serving.returncode == 0
        finally:
            # Of no effect on one that has ended.
            serving.kill()


def migrate(directory: Path, *words: str) -> str:
    """What the command says; it must succeed."""
    config = directory / "rehearsal" / "cm_platform.toml"
    command = [sys.executable, "-m", "cm_platform.cli", "--config", str(config), "migrate"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, *words, "--tenant", "acme"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
