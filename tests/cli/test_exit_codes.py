"""One table of exit codes, and each of them seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cm_platform
from cm_platform.cli.exits import MEANINGS, ExitCode, exit_code
from cm_platform.errors import PlatformError

HERE = ("--embedded", "--tenant", "acme")


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("invalid_argument", 2),
        ("config_invalid", 3),
        ("not_found", 4),
        ("unavailable", 5),
        ("deadline_exceeded", 5),
        ("rate_limited", 5),
        ("ambiguous", 7),
        ("integrity", 7),
        ("already_exists", 1),
        ("precondition_failed", 1),
        ("permission_denied", 1),
        ("unauthenticated", 1),
        ("quota_exceeded", 1),
        ("unsupported", 1),
        ("internal", 1),
    ],
)
def test_every_error_has_its_exit_code(code: str, ends: int) -> None:
    kinds = [found for found in vars(cm_platform.errors).values() if isinstance(found, type)]
    (kind,) = [
        found
        for found in kinds
        if issubclass(found, PlatformError) and found is not PlatformError and found.code == code
    ]
    assert exit_code(kind("why")) == ends


def test_help_has_the_whole_table(run: Any) -> None:
    shown = run("--help").stdout
    for code, meaning in MEANINGS.items():
        assert f"{code.value}  {meaning}" in shown


def test_without_arguments_it_helps(run: Any) -> None:
    done = run()
    assert done.code == ExitCode.OK
    assert done.stdout.startswith("Usage: cm-platform")


def test_0_done(run: Any) -> None:
    assert run("services").code == 0


def test_1_an_operation_failed(run: Any) -> None:
    put = ("storage", "put", "a", "-", "--create", *HERE)
    assert run(*put, input=b"1").code == 0
    done = run(*put, input=b"2")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("already_exists: ")


@pytest.mark.parametrize(
    "args",
    [
        ("nope",),
        ("storage",),
        ("storage", "ls"),
        ("storage", "ls", "--tenant", "Not A Tenant", "--embedded"),
        ("storage", "cat", "../other/key", *HERE),
        ("storage", "put", "a", "no-such-file", *HERE),
        ("storage", "ls", "--no-such-option"),
        ("config", "explain", "no.such.setting", "--embedded"),
        ("--config", "x.toml", "--embedded", "config", "check"),
        ("storage", "ls", "--config"),
        ("--config",),
    ],
)
def test_2_wrong_usage_says_so_in_one_line(run: Any, args: tuple[str, ...]) -> None:
    done = run(*args)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("invalid_argument: ")
    assert done.stderr.count("\n") == 1


def test_3_nothing_is_configured(run: Any) -> None:
    done = run("storage", "ls", "--tenant", "acme")
    assert done.code == 3
    for way in ("--config", "CM_PLATFORM_CONFIG", "./cm_platform.toml", "--embedded"):
        assert way in done.stderr


def test_4_not_found(run: Any) -> None:
    assert run("storage", "head", "nope", *HERE).code == 4


def test_5_unavailable(run: Any, far_config: Path) -> None:
    done = run("storage", "ls", "--tenant", "acme", "--config", far_config)
    assert done.code == 5


def test_6_a_check_failed(run: Any, far_config: Path) -> None:
    assert run("doctor", "--timeout", "1", "--config", far_config).code == 6


def test_7_what_was_read_is_not_what_was_written(run: Any, tmp_path: Path) -> None:
    assert run("storage", "put", "a", "-", *HERE, input=b"right").code == 0
    (stored,) = tmp_path.glob(".cm_platform/storage/objects/acme/a~*.data")
    stored.chmod(0o600)
    stored.write_bytes(b"wrong")
    done = run("storage", "get", "a", "copy", *HERE)
    assert done.code == 7
    assert done.stderr.startswith("integrity: ")
    assert [path.name for path in tmp_path.iterdir()] == [".cm_platform"]


def test_130_interrupted(command: list[str]) -> None:
    with subprocess.Popen(  # noqa: S603 - our own command
        [*command, "storage", "put", "a", "-", *HERE],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"x" * 1_000_000)
        process.stdin.flush()  # a pipe holds less: when this is through, it is reading
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 130


def test_141_the_reader_went_away(command: list[str], spawn: Any) -> None:
    spawn("storage", "put", "a", "-", *HERE, input=bytes(3_000_000))
    with subprocess.Popen(  # noqa: S603 - our own command
        [*command, "storage", "cat", "a", *HERE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_names_the_extra(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from cm_platform.cli import main; raise SystemExit(main())"
    )
    for args in ([], ["--json"]):
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program, "services", *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert "pip install 'cm-platform[cli]'" in done.stderr
        assert done.stderr.count("\n") == 1
    assert json.loads(done.stderr)["error"]["code"] == "config_invalid"


def test_global_options_stand_anywhere_before_a_double_dash(run: Any) -> None:
    for args in (
        ("--json", "--embedded", "config", "check"),
        ("config", "check", "--embedded", "--json"),
    ):
        assert run(*args).document["ok"] is True
    run("storage", "put", "a", "-", *HERE, input=b"1")
    assert run("storage", "rm", *HERE, "--", "--json").stdout == "removed  --json\n"


def test_with_json_an_error_is_json_on_stderr(run: Any) -> None:
    done = run("storage", "head", "nope", "--json", *HERE)
    assert done.stdout == ""
    assert done.error == {
        "code": "not_found",
        "message": "no object has this key",
        "service": "storage",
        "backend": "local",
        "operation": "head",
        "retryable": False,
        "retry_after": None,
    }
    assert run("no-such-command", "--json").error["code"] == "invalid_argument"


def test_the_version_is_one_line(run: Any) -> None:
    assert run("--version").stdout == f"{cm_platform.__version__}\n"


def test_a_defect_is_told_without_a_traceback_unless_it_is_asked_for(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("Authorization: canary")

    monkeypatch.setattr("cm_platform.cli.services._drivers", broken)
    done = run("services")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "internal: ZeroDivisionError, a defect; --debug shows where\n"
    debugged = run("services", "--debug").stderr
    assert "Traceback" in debugged
    assert "canary" not in debugged


def test_a_full_disk_is_named_and_is_no_defect(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "results")

    monkeypatch.setattr("cm_platform.cli.services._drivers", full)
    assert run("services").stderr == "internal: No space left on device: results\n"
