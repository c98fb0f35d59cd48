"""`cm-platform gateway`: writing the Worker out, and asking gateways how they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cm_platform.cloudflare import worker
from cm_platform.testing.cloudflare import LocalCloudflare

from .conftest import CANARY, Run

KV_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloudflare]:
    """A gateway as `gateway init` wrote it, with other names, in workerd."""
    directory = tmp_path_factory.mktemp("gateway") / "own"
    worker.write(directory, worker.Names(kv_id=KV_ID, bindings={"KV": "MY_KV"}))
    with LocalCloudflare(gateway=directory) as cloudflare:
        yield cloudflare


class Answers(ThreadingHTTPServer):
    """A gateway of another time: what it says of itself is up to the test."""

    health: dict[str, Any]


@pytest.fixture
def other() -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        server: Answers

        def do_GET(self) -> None:
            body = json.dumps(self.server.health).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nobody needs it."""

    with Answers(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(tmp_path: Path, local: LocalCloudflare, *, binding: str = "MY_KV") -> Path:
    gateway = f"""
url = "{local.gateway_url}"
key_id = "{local.gateway_key_id}"
secret = "{local.gateway_secret}"
"""
    file = tmp_path / "platform.toml"
    file.write_text(
        f"""
[cache]
default = "kv"
[cache.backends.kv]
driver = "workers_kv"
[cache.backends.kv.gateway]{gateway}binding = "{binding}"
[cache.backends.objects]
driver = "durable_objects"{gateway}
[cache.backends.near]
driver = "local"
""",
        encoding="utf-8",
    )
    return file


def secret_of(local: LocalCloudflare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_GATEWAY_SECRET", local.gateway_secret)


def test_init_writes_the_worker_and_says_what_is_next(run: Run, tmp_path: Path) -> None:
    done = run("gateway", "init", tmp_path / "own", "--kv-id", KV_ID, "--name", "mine")
    assert done.code == 0
    assert "npx wrangler deploy" in done.stdout
    configuration = (tmp_path / "own" / "wrangler.jsonc").read_text(encoding="utf-8")
    assert KV_ID in configuration
    assert '"name": "mine"' in configuration


def test_init_tells_as_json_what_it_wrote(run: Run, tmp_path: Path) -> None:
    done = run(
        *("gateway", "init", tmp_path / "own", "--kv-id", KV_ID, "--json"),
        *("--binding", "KV=MY_KV", "--binding", "VALUES=COUNTERS"),
    )
    assert done.document["bindings"] == {"KV": "MY_KV", "VALUES": "COUNTERS"}
    assert done.document["version"] == worker.version()
    for name in done.document["files"]:
        assert (tmp_path / "own" / name).is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--kv-id", "short"),
        ("--kv-id", KV_ID, "--binding", "MY_KV"),
        ("--kv-id", KV_ID, "--binding", "KV=A", "--binding", "KV=B"),
        ("--kv-id", KV_ID, "--binding", "R2=MY_R2"),
        ("--kv-id", KV_ID, "--name", "No Name"),
        (),
    ],
)
def test_init_refuses_names_that_cannot_be_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run("gateway", "init", tmp_path / "own", *arguments, "--json")
    assert done.code == 2
    assert done.error["code"] == "invalid_argument"
    assert not (tmp_path / "own").exists()


def test_init_refuses_a_directory_that_is_not_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = run("gateway", "init", tmp_path, "--kv-id", KV_ID)
    assert done.code == 2
    assert "not empty" in done.stderr


def test_version_is_what_is_shipped(run: Run) -> None:
    shipped = {"version": worker.version(), "protocol": worker.PROTOCOL}
    assert run("gateway", "version", "--json").document == shipped
    assert run("gateway", "version").stdout.startswith(worker.version())


def test_check_asks_each_configured_gateway_once(
    run: Run, tmp_path: Path, renamed: LocalCloudflare
) -> None:
    done = run("--config", config(tmp_path, renamed), "gateway", "check", "--json")
    assert done.code == 0, done.stderr
    (found,) = done.document["gateways"]
    assert found["of"] == ["cache.kv", "cache.objects"]
    assert found["version"] == worker.version()
    assert found["bindings"] == {"MY_KV": "kv", "VALUES": "durable_object"}
    assert found["problems"] == []


def test_check_fails_for_a_binding_that_is_not_there(
    run: Run, tmp_path: Path, renamed: LocalCloudflare
) -> None:
    file = config(tmp_path, renamed, binding="KV")
    done = run("--config", file, "gateway", "check")
    assert done.code == 6
    assert "cache.kv wants the binding KV" in done.stdout
    assert renamed.gateway_secret not in done.stdout + done.stderr


def test_check_fails_for_a_binding_of_another_product(
    run: Run, tmp_path: Path, renamed: LocalCloudflare
) -> None:
    file = config(tmp_path, renamed, binding="VALUES")
    done = run("--config", file, "gateway", "check")
    assert done.code == 6
    told = " ".join(done.stdout.split())
    assert "cache.kv wants the binding VALUES to be a kv; it is a durable_object" in told


def test_check_asks_a_gateway_by_its_url(
    run: Run, renamed: LocalCloudflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_of(renamed, monkeypatch)
    key_id = renamed.gateway_key_id
    done = run("gateway", "check", "--url", renamed.gateway_url, "--key-id", key_id)
    assert done.code == 0
    assert "MY_KV: kv" in done.stdout


def test_check_fails_for_a_secret_that_the_gateway_does_not_have(
    run: Run, renamed: LocalCloudflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CM_GATEWAY_SECRET", CANARY)
    monkeypatch.setenv("CM_GATEWAY_KEY_ID", renamed.gateway_key_id)
    done = run("gateway", "check", "--url", renamed.gateway_url, "--json")
    assert done.code == 6
    (found,) = done.document["gateways"]
    assert found["problems"][0].startswith("unauthenticated: ")
    assert CANARY not in done.stdout + done.stderr


def test_check_fails_where_nobody_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_GATEWAY_SECRET", CANARY)
    done = run("gateway", "check", "--url", "http://127.0.0.1:9", "--key-id", "k", "--json")
    assert done.code == 6
    (found,) = done.document["gateways"]
    assert found["problems"][0].startswith("unavailable: ")


def test_check_fails_for_another_protocol_and_notes_another_version(
    run: Run, other: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CM_GATEWAY_SECRET", CANARY)
    ask = ("gateway", "check", "--json", "--key-id", "k")
    where = ("--url", f"http://127.0.0.1:{other.server_address[1]}")

    other.health = {"version": "0.0.9", "protocol": 1, "bindings": {}, "time": 0}
    done = run(*ask, *where)
    assert done.code == 0
    assert done.document["gateways"][0]["notes"] == [
        f"this package ships version {worker.version()}"
    ]

    other.health = {"version": "9.0.0", "protocol": 2, "bindings": {}, "time": 0}
    done = run(*ask, *where)
    assert done.code == 6
    assert "protocol 2, this package 1" in done.document["gateways"][0]["problems"][0]


@pytest.mark.parametrize("missing", ["key id", "secret"])
def test_check_by_url_wants_a_key_and_its_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in ("CM_GATEWAY_SECRET", "CM_GATEWAY_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    if missing != "secret":
        monkeypatch.setenv("CM_GATEWAY_SECRET", CANARY)
    key = () if missing == "key id" else ("--key-id", "k")
    done = run("gateway", "check", "--url", "https://gateway.example", *key)
    assert done.code == 2
    assert "CM_GATEWAY_SECRET" in done.stderr


@pytest.mark.parametrize("url", ["http://gateway.example", "gateway.example", "https://h/path"])
def test_check_refuses_what_is_no_gateways_url(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CM_GATEWAY_SECRET", CANARY)
    done = run("gateway", "check", "--url", url, "--key-id", "k")
    assert done.code == 2
    assert "url: " in done.stderr
    assert CANARY not in done.stderr


def test_check_says_when_no_backend_goes_through_a_gateway(run: Run, far_config: Path) -> None:
    done = run("--config", far_config, "gateway", "check", "--json")
    assert done.code == 3
    assert "--url" in done.error["message"]
