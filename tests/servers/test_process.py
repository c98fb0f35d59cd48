"""Children start, tell why they did not, stop, and never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cm_platform.testing.servers import S3Server, ServerStartError
from cm_platform.testing.servers.process import ChildServer, free_port, wait_for_port

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which nobody reaps in a container, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_server_is_ready_within_5_seconds_and_gone_within_2() -> None:
    started = time.monotonic()
    with S3Server() as server:
        ready = time.monotonic()
        pid = server.pid
        assert is_alive(pid)
    stopped = time.monotonic()
    assert ready - started < 5
    assert stopped - ready < 2
    assert not is_alive(pid)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.endpoint


@pytest.mark.parametrize("forked", [False, True], ids=["alone", "with a forked sibling"])
def test_a_child_dies_with_a_parent_that_is_killed(forked: bool) -> None:
    script = (
        "import os, time\n"
        "from cm_platform.testing.servers import S3Server\n"
        "server = S3Server().__enter__()\n"
        f"sibling = os.fork() if {forked} else 1\n"
        "if sibling: print(server.pid, sibling, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        child, sibling = (int(text) for text in output.readline().split())
        assert is_alive(child)
        parent.kill()
        parent.wait()
        try:
            assert gone_within(child, 3)
        finally:
            if forked:
                os.kill(sibling, signal.SIGKILL)


def test_swift_dies_with_a_parent_that_is_killed_and_takes_its_directory_along(
    tmp_path: Path,
) -> None:
    script = (
        "import time\n"
        "from cm_platform.testing.servers import SwiftServer\n"
        "server = SwiftServer().__enter__()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        child = int(output.readline())
        assert list(tmp_path.iterdir())
        parent.kill()
        parent.wait()
    assert gone_within(child, 5)
    assert not list(tmp_path.iterdir())


def test_a_failed_start_shows_what_the_server_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_server.py").write_text("raise SystemExit('no such disk')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ServerStartError, match=r"exited with status 1[^$]*no such disk"):
        ChildServer("broken_server").start()


def test_a_server_that_is_never_ready_is_stopped_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_server.py").write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('thinking', flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = ChildServer("slow_server", start_timeout=0.8, stop_grace=0.1)
    with pytest.raises(ServerStartError, match=r"not ready in time[^$]*thinking"):
        child.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = child.pid
    child.stop()


def test_waiting_for_a_port_that_nobody_opens() -> None:
    assert not wait_for_port("127.0.0.1", free_port(), timeout=0.1)


def test_importing_the_package_loads_no_server_and_no_sdk() -> None:
    script = (
        "import sys, cm_platform.testing.servers\n"
        "print([m for m in ('moto', 'swift', 'boto3', 'obstore') if m in sys.modules])"
    )
    done = subprocess.run(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert done.stdout.strip() == "[]"


def test_secrets_are_in_no_repr_and_no_command_line() -> None:
    with S3Server() as server:
        secret = server.endpoint.secret_access_key
        assert secret not in repr(server.endpoint)
        assert secret not in Path(f"/proc/{server.pid}/cmdline").read_text()
