"""`cm-platform conformance run`: the public suite on a configured backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cm_platform.cli import conformance
from cm_platform.cli.conformance import Report
from cm_platform.cli.conformance_suite import table_of
from cm_platform.cli.output import Output
from cm_platform.config import load

from .conftest import CANARY


def test_it_runs_on_a_local_backend_and_counts(run: Any, tmp_path: Path) -> None:
    done = run("conformance", "run", "-k", "TestStorage and presign", "--embedded", "--json")
    assert done.code == 0, done.stderr
    assert done.document["ok"] is True
    assert done.document["passed"] > 0
    assert done.document["failures"] == {}
    assert list(tmp_path.glob(".cm_platform/storage/objects/**/*~object.json")) == []


@pytest.mark.parametrize("settings", ["", 'path = "cache.db"\n'], ids=["memory", "file"])
def test_it_runs_on_a_local_cache(run: Any, tmp_path: Path, settings: str) -> None:
    (tmp_path / "cm_platform.toml").write_text(
        f'[cache]\ndefault = "here"\n[cache.backends.here]\ndriver = "local"\n{settings}'
    )
    # What it keeps ends by a clock that the suite moves; another platform sees a file alone.
    some = "live_as_long_as or seen_from_elsewhere"
    done = run("conformance", "run", "--service", "cache", "--json", "-k", some)
    assert done.code == 0, done.stderr
    assert done.document["passed"] > 0
    assert done.document["failures"] == {}
    assert (done.document["skipped"] > 0) == (not settings)
    assert done.document["seconds"] < 20


def test_a_broken_promise_ends_with_6_and_is_named(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "short_suite.py"
    suite.write_text(
        "import pytest\n"
        "def test_kept(): pass\n"
        "def test_skipped(): pytest.skip('not declared')\n"
        f"def test_broken(): assert False, 'https://x/?X-Amz-Signature={CANARY} is wrong'\n"
    )
    monkeypatch.setattr("cm_platform.cli.conformance.SUITE", suite)
    done = run("conformance", "run", "--embedded", "--json")
    assert done.code == 6
    told = done.document
    assert (told["ok"], told["passed"], told["skipped"]) == (False, 1, 1)
    assert list(told["failures"]) == ["test_broken"]
    assert CANARY not in done.stdout + done.stderr


def test_people_get_the_failures_and_then_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("storage", "disk", 7, 2, {"test_a": "why"}, 1.25)
    conformance._show(Output(as_json=False), report)
    assert capsys.readouterr().out.splitlines() == [
        "failed  test_a: why",
        "storage.disk: 7 passed, 1 failed, 2 skipped, 1.2 s",
    ]


def test_a_backend_elsewhere_needs_live(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "cm_platform.toml"
    file.write_text(
        '[storage]\ndefault = "s3"\n[storage.backends.s3]\ndriver = "s3"\n'
        'bucket = "company-media"\nregion = "eu-west-3"\n'
    )
    done = run("conformance", "run")
    assert done.code == 2
    assert "--live" in done.stderr


@pytest.mark.parametrize("args", [("--backend", "nope"), ("--service", "nope")])
def test_what_is_not_configured_is_named(run: Any, args: tuple[str, ...]) -> None:
    assert run("conformance", "run", "--embedded", *args).code == 2


def test_a_run_without_tests_is_no_success(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cm_platform.cli.conformance._spoken", lambda *_: 5)
    done = run("conformance", "run", "--embedded")
    assert done.code == 1
    assert "exit code 5" in done.stderr


def test_an_expression_that_no_test_matches_is_wrong_usage(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "short_suite.py"
    suite.write_text("def test_kept(): pass\n")
    monkeypatch.setattr("cm_platform.cli.conformance.SUITE", suite)
    done = run("conformance", "run", "--embedded", "--json", "-k", "nothing")
    assert done.code == 2
    assert "no test of the suite matches" in done.stderr
    done = run("conformance", "run", "--embedded", "--json", "-k", "(")
    assert done.code == 2
    assert "not one that pytest reads" in done.stderr


def test_a_backend_s_table_means_the_same_when_it_is_read_again(far_config: Path) -> None:
    far = load(far_config, environ={}).kinds["storage"].backends["far"]
    again = load({"storage": {"default": "far", "backends": {"far": table_of(far)}}}, environ={})
    assert again.kinds["storage"].backends["far"] == far
    assert table_of(far)["secret_access_key"] == f"key-{CANARY}"


def test_text_that_looks_like_a_reference_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "${HOME}"
    table = {"driver": "local", "path": f"{tmp_path}/$${{HOME}}", "lacks": ["conditional_copy"]}
    first = load({"storage": {"default": "d", "backends": {"d": table}}}, environ={})
    backend = first.kinds["storage"].backends["d"]
    assert table_of(backend)["lacks"] == ["conditional_copy"]
    again = load({"storage": {"default": "d", "backends": {"d": table_of(backend)}}}, environ={})
    assert again.kinds["storage"].backends["d"].settings.model_dump()["path"] == path


def test_a_late_cache_is_not_held_to_everything_at_once(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "cm_platform.toml"
    file.write_text(
        '[cache]\ndefault = "kv"\n[cache.backends.kv]\ndriver = "workers_kv"\n'
        'gateway.url = "http://127.0.0.1:1"\ngateway.key_id = "one"\n'
        f'gateway.secret = "{"s" * 32}"\n'
    )
    done = run("conformance", "run", "--service", "cache")
    assert done.code == 2
    assert "-k" in done.stderr
