"""`cm-platform config` and `doctor`: what is in force, and whether it will work."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cm_platform.cli import checks
from cm_platform.config import load

CANARY = "a-canary-that-sings-in-no-output"

NEAR = '[storage]\ndefault = "disk"\n[storage.backends.disk]\ndriver = "local"\npath = "disk"\n'


@pytest.fixture
def near(tmp_path: Path) -> Path:
    file = tmp_path / "cm_platform.toml"
    file.write_text(NEAR)
    return file


def findings(done: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(f["check"], f["subject"]): f for f in done.document["findings"]}


def test_the_file_that_lies_here_is_read(run: Any, near: Path) -> None:
    assert run("config", "check", "--json").document["source"] == near.name


def test_a_named_file_goes_before_the_environment_and_that_before_here(
    run: Any, near: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("env.toml", "given.toml"):
        (tmp_path / name).write_text(NEAR)
    monkeypatch.setenv("CM_PLATFORM_CONFIG", "env.toml")
    assert run("config", "check", "--json").document["source"] == "env.toml"
    given = run("config", "check", "--json", "--config", "given.toml")
    assert given.document["source"] == "given.toml"


def test_explain_tells_file_environment_and_default_apart(
    run: Any, near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CM_PLATFORM__STORAGE__TIMEOUT", "7")
    settings = run("config", "explain", "--json").document["settings"]
    found = {setting["path"]: (setting["value"], setting["source"]) for setting in settings}
    assert found["storage.default"] == ("disk", near.name)
    assert found["storage.timeout"] == (7.0, "environment CM_PLATFORM__STORAGE__TIMEOUT")
    assert found["storage.retry.attempts"] == (4, "default")
    assert found["storage.backends.disk.fsync"] == (False, "default")
    assert found["storage.backends.disk.lacks"] == ([], "default")
    assert found["signing.current"] == (None, "default")


def test_explain_masks_secrets_for_programs_too(run: Any, far_config: Path) -> None:
    done = run("config", "explain", "--json", "--config", far_config)
    found = {setting["path"]: setting["value"] for setting in done.document["settings"]}
    assert found["storage.backends.far.secret_access_key"] == "********"
    assert found["storage.tenants.own.backends.far.secret_access_key"] == "********"
    assert found["signing.keys.one"] == "********"


def test_explain_narrows_to_whole_segments_of_a_path(run: Any, near: Path) -> None:
    shown = run("config", "explain", "storage.re", "--json")
    assert shown.code == 2
    shown = run("config", "explain", "storage.retry", "--json").document["settings"]
    assert {setting["path"] for setting in shown} == {
        f"storage.retry.{name}" for name in ("attempts", "initial", "max")
    }


def test_explain_defaults_reads_no_file(run: Any) -> None:
    shown = run("config", "explain", "storage.backends.s3", "--defaults")
    assert shown.code == 0
    assert "connect_timeout" in shown.stdout


def test_check_names_everything_that_is_wrong(run: Any, near: Path) -> None:
    near.write_text(NEAR.replace('"disk"\n[', '"disc"\ntimeuot = 3\n[', 1))
    done = run("config", "check")
    assert done.code == 3
    assert "storage.default" in done.stderr
    assert "timeout" in done.stderr
    error = run("config", "check", "--json").error
    assert [problem.partition(":")[0] for problem in error["problems"]] == [
        "storage.timeuot",
        "storage.default",
    ]


def test_check_counts_in_words_that_fit(run: Any, near: Path) -> None:
    near.write_text(
        NEAR + '[[storage.rules]]\ntenants = ["acme"]\nroute = "disk"\n'
        '[storage.tenants.own]\nbackends.disk.path = "own"\n'
    )
    told = run("config", "check").stdout
    assert "default disk, 1 rule, 1 tenant with settings of their own" in told
    assert "1 tenant has settings of their own" in run("doctor").stdout


def test_check_refuses_what_this_version_cannot_carry_out(run: Any, near: Path) -> None:
    near.write_text(
        NEAR + '[storage.backends.new]\ndriver = "local"\npath = "new"\n'
        '[storage.migrations.to-new]\nsource = "disk"\ntarget = "new"\n'
        '[[storage.rules]]\ntenants = ["acme"]\nroute = "to-new:shadow"\n'
    )
    assert run("config", "check").code == 3


def test_doctor_of_a_sound_configuration(run: Any, near: Path) -> None:
    done = run("doctor", "--json")
    assert done.code == 0
    assert done.document["ok"] is True
    found = findings(done)
    assert found["reachable", "storage.disk"]["status"] == "ok"
    assert found["credentials", "storage.disk"]["detail"] == "needs none"
    assert found["environment", "python"]["status"] == "ok"


def test_doctor_warns_where_cursors_hold_in_one_process_only(run: Any, near: Path) -> None:
    assert findings(run("doctor", "--json"))["signing", "signing.keys"]["status"] == "warning"
    near.write_text(NEAR + f'[signing.keys]\none = "{"k" * 40}"\n')
    assert findings(run("doctor", "--json"))["signing", "signing.keys"]["status"] == "ok"


def test_doctor_fails_where_a_backend_does_not_answer(run: Any, far_config: Path) -> None:
    done = run("doctor", "--timeout", "1", "--json", "--config", far_config)
    assert (done.code, done.document["ok"]) == (6, False)
    found = findings(done)
    assert found["reachable", "storage.far"]["status"] == "failed"
    assert found["reachable", "storage.near"]["status"] == "ok"
    assert found["environment", "fork"]["status"] == "note"


def test_doctor_names_the_credentials_that_are_set(run: Any, far_config: Path) -> None:
    done = run("doctor", "--timeout", "1", "--json", "--config", far_config)
    detail = findings(done)["credentials", "storage.far"]["detail"]
    assert detail == "set: access_key_id, secret_access_key, session_token, proxy"


def test_doctor_reaches_one_tenant_s_backend_as_it_is_routed(run: Any, far_config: Path) -> None:
    for tenant, status in (("near", "ok"), ("own", "failed")):
        done = run("doctor", "--timeout", "1", "--tenant", tenant, "--json", "--config", far_config)
        assert findings(done)["reachable", f"storage.tenant {tenant}"]["status"] == status


def test_doctor_says_what_is_wrong_with_a_configuration(run: Any, near: Path) -> None:
    near.write_text("[storage]\n")
    done = run("doctor", "--json")
    assert done.code == 6
    assert "storage.default" in findings(done)["configuration", "file"]["detail"]


def test_doctor_ends_with_a_summary(run: Any, near: Path) -> None:
    last = run("doctor").stdout.splitlines()[-1]
    assert last.endswith("1 warning, 0 failed")


@pytest.mark.parametrize("timeout", ["inf", "1e9"])
def test_doctor_waits_for_a_while_only(run: Any, near: Path, timeout: str) -> None:
    done = run("doctor", "--timeout", timeout)
    assert done.code == 2
    assert "--timeout must be a number of seconds" in done.stderr


@pytest.mark.parametrize(("days", "status"), [(0, "ok"), (180, "ok"), (181, "warning"), (-1, "ok")])
def test_old_limits_are_a_warning(
    near: Path, days: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cm_platform.config import load

    read = date(2026, 1, 1)
    monkeypatch.setattr(
        checks,
        "provenance",
        lambda: [("storage.local", "somebody", read), ("storage.s3", "", read)],
    )
    today = date.fromordinal(read.toordinal() + days)
    (finding,) = checks.limits(load(near, environ={}), today)
    assert finding.status == status


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("redis://cache.example:6379", "warning"),
        ("rediss://cache.example:6379", "ok"),
        ("redis://127.0.0.1:6379", "ok"),
    ],
)
def test_doctor_warns_of_values_that_travel_in_the_open(url: str, status: str) -> None:
    config = load(
        {"cache": {"default": "r", "backends": {"r": {"driver": "redis", "url": url}}}},
        environ={},
    )
    (found,) = checks.encryption(config)
    assert (found.subject, found.status) == ("cache.r", status)
    assert "cache.example" not in found.detail


def test_doctor_names_the_secrets_of_inner_tables() -> None:
    gateway = {"url": "https://gateway.example", "key_id": "one", "secret": CANARY * 2}
    table = {"driver": "workers_kv", "gateway": gateway}
    config = load({"cache": {"default": "kv", "backends": {"kv": table}}}, environ={})
    (found,) = checks.credentials(config)
    assert "gateway.secret" in found.detail
    assert CANARY not in found.detail


def test_doctor_reaches_the_tenants_backend_of_each_kind_that_is_configured(
    run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "cache.toml"
    file.write_text('[cache]\ndefault = "m"\n[cache.backends.m]\ndriver = "local"\n')
    done = run("doctor", "--tenant", "acme", "--json", "--config", file)
    assert done.code == 0, done.stderr
    found = findings(done)[("reachable", "cache.tenant acme")]
    assert found["status"] == "ok"
