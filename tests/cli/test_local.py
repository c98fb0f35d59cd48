"""`local up` serves until it is told to stop, and says what to export."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from cm_platform.testing.servers.process import free_port


@pytest.fixture
def up(command: list[str]) -> Any:
    """Starts the command; killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def up(*args: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "local", "up", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield up
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_one_line_of_json_and_serves_until_it_is_told_to_stop(
    up: Any, number: signal.Signals
) -> None:
    process = up("--port", "0", "--rest-port", "0", "--json")
    document = json.loads(process.stdout.readline())
    settings = document["settings"]
    assert settings["CM_GATEWAY_URL"] == document["gateway"]
    answer = httpx.get(
        f"{document['rest']}/accounts/{settings['CLOUDFLARE_ACCOUNT_ID']}/storage/kv/namespaces",
        headers={"authorization": f"Bearer {settings['CLOUDFLARE_API_TOKEN']}"},
        trust_env=False,
    )
    assert answer.json()["result"][0]["id"] == settings["CLOUDFLARE_KV_NAMESPACE_ID"]
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout, stderr) == (0, b"", b"")
    with pytest.raises(httpx.ConnectError):
        httpx.get(document["gateway"], trust_env=False)


def test_it_prints_what_to_export(up: Any, tmp_path: Path) -> None:
    port, rest_port = free_port(), free_port()
    process = up(
        "--persist", str(tmp_path / "kept"), "--port", str(port), f"--rest-port={rest_port}"
    )
    lines: list[str] = []
    while not lines or not lines[-1].startswith("export CM_GATEWAY_SECRET="):
        lines.append(process.stdout.readline().decode().rstrip())
        assert process.poll() is None
    assert f"export CM_GATEWAY_URL=http://127.0.0.1:{port}" in lines
    assert f"export CLOUDFLARE_BASE_URL=http://127.0.0.1:{rest_port}/client/v4" in lines
    assert any("kept" in line for line in lines)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert (tmp_path / "kept" / "identity.json").stat().st_mode & 0o777 == 0o600


def test_a_taken_port_is_exit_code_5(up: Any) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = up("--port", str(taken.getsockname()[1]), "--json")
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 5
    assert "is taken; give another gateway_port" in json.loads(stderr)["error"]["message"]


def test_it_ends_with_exit_code_5_when_what_it_runs_is_gone(up: Any) -> None:
    process = up("--port", "0", "--rest-port", "0", "--json")
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)
    assert process.wait(20) == 5


def test_usage(run: Any) -> None:
    assert run("local", "up", "--port", "70000").code == 2
    assert run("local", "up", "--gateway", "nowhere").code == 2
    assert "--persist" in run("local", "up", "--help").stdout
