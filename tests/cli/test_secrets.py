"""Whatever is asked, and however it fails: what is secret is not printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import CANARY

COMMANDS = [
    ("config", "explain"),
    ("config", "check"),
    ("doctor", "--timeout", "1"),
    ("doctor", "--timeout", "1", "--tenant", "own"),
    ("services",),
    ("storage", "ls", "--tenant", "acme"),
    ("storage", "put", "a", "far.toml", "--tenant", "own"),
    ("storage", "rm", "a", "--tenant", "acme"),
    ("conformance", "run", "--backend", "nope"),
]


@pytest.mark.parametrize("extra", [(), ("--json",), ("--debug",)], ids=["plain", "json", "debug"])
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret(
    run: Any, far_config: Path, args: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    done = run(*args, *extra, "--config", far_config)
    assert done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "X-Amz-Signature" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        f'secret_access_key = "{CANARY}"\nbucket = "x"',
        f'access_key_id = "{CANARY}"\nregion = "not a region"',
        f'secret_acess_key = "{CANARY}"',
        f'endpoint = "http://{CANARY}@example.com"',
        f"session_token = ['{CANARY}']",
        f'session_token = "{CANARY}" trailing',
    ],
)
def test_no_complaint_about_a_configuration_quotes_it(run: Any, tmp_path: Path, line: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        '[storage]\ndefault = "far"\n[storage.backends.far]\ndriver = "s3"\n' + line + "\n"
    )
    for args in (("config", "check"), ("doctor",), ("config", "check", "--debug")):
        done = run(*args, "--config", file)
        assert done.code in (3, 6)
        assert CANARY not in done.stdout + done.stderr


def test_explain_shows_that_a_secret_is_set_and_from_where(
    run: Any, far_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CM_PLATFORM__STORAGE__BACKENDS__FAR__SESSION_TOKEN", f"env-{CANARY}")
    below = "storage.backends.far"
    done = run("config", "explain", below, "--json", "--config", far_config)
    found = {setting["path"]: setting for setting in done.document["settings"]}
    assert found[f"{below}.session_token"] == {
        "path": f"{below}.session_token",
        "value": "********",
        "source": "environment CM_PLATFORM__STORAGE__BACKENDS__FAR__SESSION_TOKEN",
    }
