"""The child process of `LocalCloudflare`: `python -m cm_platform.testing.cloudflare.supervise`.

It runs Node and takes care that nothing outlives anything: when the parent is gone, by whatever
signal, it kills its process group, which has Node and workerd in it; when Node is gone, workerd,
which would go on serving the port, follows. Only if this process and Node are killed in one
moment, workerd is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from cm_platform.testing.cloudflare.node import node_environment
from cm_platform.testing.servers.process import die_with_parent

TASK: Final = "CM_PLATFORM_LOCAL_CLOUDFLARE"
"""The variable with the task: {"node", "directory", "configuration"} as JSON. It has secrets, and
an environment is not shown by `ps`."""

_SCRIPT: Final = Path(__file__).with_name("server") / "main.mjs"


def main() -> int:
    """Run Node to its end; its exit status."""
    # What is kept are a developer's data: nobody else's to read.
    os.umask(0o077)
    task: dict[str, Any] = json.loads(os.environ.pop(TASK))
    directory = Path(task["directory"])
    die_with_parent(before=lambda: shutil.rmtree(directory, ignore_errors=True))
    node = subprocess.Popen(  # noqa: S603 - our own script
        [
            task["node"],
            "--experimental-sqlite",
            "--disable-warning=ExperimentalWarning",
            str(_SCRIPT),
        ],
        stdin=subprocess.PIPE,
        # workerd's and miniflare's own files: gone with this process.
        env={**node_environment(), "TMPDIR": str(directory)},
    )
    assert node.stdin is not None
    node.stdin.write(json.dumps(task["configuration"]).encode() + b"\n")
    # Left open: its end would tell Node to stop.
    node.stdin.flush()
    status = node.wait()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    shutil.rmtree(directory, ignore_errors=True)
    if status < 0:
        os.killpg(0, signal.SIGKILL)
    return status


if __name__ == "__main__":
    sys.exit(main())
