"""A runner in a directory of its own, and a configuration that would show a leak."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from cm_platform.cli.app import app

CANARY: Final = "canary0secret0value0that0nobody0prints"


@dataclass(frozen=True)
class Done:
    """How a command ended. stdout, stderr: text."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON error on stderr."""
        found: dict[str, Any] = json.loads(self.stderr)["error"]
        return found


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CM_PLATFORM_CONFIG", "CM_PLATFORM_TENANT", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def run(*args: str | Path, input: bytes | None = None) -> Done:  # noqa: A002
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def spawn() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run a command in a process of its own, with real pipes."""

    def spawn(
        *args: str | Path,
        input: bytes | None = None,  # noqa: A002
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - our own command
            [*program(), *(str(arg) for arg in args)],
            input=input,
            capture_output=True,
            timeout=60,
            check=False,
        )

    return spawn


def program() -> list[str]:
    return [
        sys.executable,
        "-W",
        "error",
        "-c",
        "from cm_platform.cli import main; raise SystemExit(main())",
    ]


@pytest.fixture
def command() -> list[str]:
    """The command line of a process of its own."""
    return program()


@pytest.fixture
def far_config(tmp_path: Path) -> Path:
    """An S3 backend where nobody listens, with secrets that must not be seen."""
    file = tmp_path / "far.toml"
    file.write_text(
        f"""
[storage]
default = "far"
timeout = 2
retry.attempts = 1
[storage.backends.far]
driver = "s3"
bucket = "media"
endpoint = "http://127.0.0.1:9"
access_key_id = "id-{CANARY}"
secret_access_key = "key-{CANARY}"
session_token = "token-{CANARY}"
proxy = "http://user:{CANARY}@127.0.0.1:9"
[storage.backends.near]
driver = "local"
path = "near"
[[storage.rules]]
tenants = ["near"]
route = "near"
[storage.tenants.own]
backends.far.bucket = "own-media"
backends.far.secret_access_key = "own-{CANARY}"
[signing.keys]
one = "sign-{CANARY}"
""",
        encoding="utf-8",
    )
    return file


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> Iterator[None]:
    """Commands that we start can be interrupted, also where a shell runs us in the background."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.SIG_IGN)
