"""`cm-platform storage`: bytes in, bytes out, and what it says about them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cm_platform.cli import storage as storage_command
from cm_platform.cli.storage import guessed_type

HERE = ("--embedded", "--tenant", "acme")
BYTES = bytes(range(256)) * 5000 + b"\r\n\x00\xff"


def put(run: Any, *keys: str) -> None:
    for key in keys:
        assert run("storage", "put", key, "-", *HERE, input=key.encode()).code == 0


def test_a_file_goes_up_and_comes_down_as_it_was(run: Any, tmp_path: Path) -> None:
    (tmp_path / "été.png").write_bytes(BYTES)
    up = run("storage", "put", "press/été.png", "été.png", "-m", "titre=Été", "--json", *HERE)
    digest = hashlib.sha256(BYTES).hexdigest()
    assert up.document["sha256"] == digest
    assert up.document["content_type"] == "image/png"

    down = run("storage", "get", "press/été.png", "copy.png", "--json", *HERE)
    assert down.document["sha256"] == digest
    assert down.document["metadata"] == {"titre": "Été"}
    assert (tmp_path / "copy.png").read_bytes() == BYTES


def test_stdin_and_stdout_carry_every_byte(spawn: Any) -> None:
    assert spawn("storage", "put", "a", "-", *HERE, input=BYTES).returncode == 0
    done = spawn("storage", "get", "a", "-", *HERE)
    assert (done.returncode, done.stdout, done.stderr) == (0, BYTES, b"")


def test_an_empty_object_is_an_object(run: Any) -> None:
    run("storage", "put", "empty", "-", *HERE, input=b"")
    assert run("storage", "cat", "empty", *HERE).stdout == ""
    assert run("storage", "head", "empty", "--json", *HERE).document["size"] == 0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak")
def test_a_large_stream_needs_little_memory() -> None:
    """120 MiB through 5 parts of 8 MiB: what is beyond the interpreter is bounded."""
    program = (
        "import sys; from cm_platform.cli import main; code = main(); "
        "sys.stderr.write(open('/proc/self/status').read()); raise SystemExit(code)"
    )
    piece, count = bytes(1 << 20), 120
    digest = hashlib.sha256()
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-c", program, "storage", "put", "large", "-", *HERE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        for _ in range(count):
            process.stdin.write(piece)
            digest.update(piece)
        shown, status = process.communicate(timeout=60)
    assert process.returncode == 0
    assert digest.hexdigest() in shown.decode()
    peak = re.search(rb"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    assert int(peak[1]) < 150 * 1024


def test_get_into_a_folder_takes_the_key_s_name(run: Any, tmp_path: Path) -> None:
    put(run, "press/a.md")
    (tmp_path / "folder").mkdir()
    run("storage", "get", "press/a.md", "folder", *HERE)
    assert (tmp_path / "folder" / "a.md").read_text() == "press/a.md"


def test_get_refuses_a_folder_that_is_not_there_before_it_fetches(run: Any) -> None:
    put(run, "a")
    done = run("storage", "get", "a", "nowhere/a", *HERE)
    assert done.code == 2
    assert "make it first" in done.stderr


def test_get_of_nothing_leaves_the_old_file_alone(run: Any, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    assert run("storage", "get", "nope", "old", *HERE).code == 4
    assert (tmp_path / "old").read_text() == "old"


def test_ls_lists_in_order_and_below_a_prefix(run: Any) -> None:
    put(run, "b/2", "a", "b/1", "été")
    assert run("storage", "ls", *HERE).stdout.split() == ["a", "b/1", "b/2", "été"]
    assert run("storage", "ls", "b/", *HERE).stdout.split() == ["b/1", "b/2"]
    assert run("storage", "ls", "-d", *HERE).stdout.split() == ["a", "b/", "été"]
    assert run("storage", "ls", "--tenant", "other", "--embedded").stdout == ""


def test_ls_long_has_size_and_time(run: Any) -> None:
    put(run, "b/1", "abc")
    first, second = run("storage", "ls", "-l", "-d", *HERE).stdout.splitlines()
    assert re.fullmatch(r" +3  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  abc", first)
    assert second.split() == ["b/"]


@pytest.mark.parametrize("page", [2, 1000])
def test_ls_stops_at_its_limit_and_says_so(
    run: Any, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_command, "_PAGE", page)
    put(run, *(f"k{number}" for number in range(5)))
    for limit, complete in (("3", False), ("4", False), ("5", True), ("0", True)):
        listed = run("storage", "ls", "-n", limit, "--json", *HERE).document
        wanted = int(limit) or 5
        assert [found["key"] for found in listed["objects"]] == [f"k{n}" for n in range(wanted)]
        assert listed["complete"] is complete
    plain = run("storage", "ls", "-n", "3", *HERE)
    assert plain.stdout.split() == ["k0", "k1", "k2"]
    assert "--limit 0 lists all" in plain.stderr


def test_ls_json_has_prefixes_apart(run: Any) -> None:
    put(run, "a/1", "b")
    listed = run("storage", "ls", "-d", "--json", *HERE).document
    assert listed["prefixes"] == ["a/"]
    assert [found["key"] for found in listed["objects"]] == ["b"]


def test_rm_tells_the_outcome_of_each_key(run: Any) -> None:
    put(run, "a", "b")
    done = run("storage", "rm", "a", "never-there", "--json", *HERE)
    assert done.document == {"removed": ["a", "never-there"], "failed": {}}
    assert run("storage", "ls", *HERE).stdout.split() == ["b"]


def test_rm_checks_all_keys_before_it_removes_one(run: Any) -> None:
    put(run, "a")
    assert run("storage", "rm", "a", "../b", *HERE).code == 2
    assert run("storage", "ls", *HERE).stdout.split() == ["a"]


def test_rm_ends_with_the_code_of_what_failed(run: Any, far_config: Path) -> None:
    done = run("storage", "rm", "a", "b", "-t", "acme", "--config", far_config, "--json")
    assert done.code == 5
    failed = done.document["failed"]
    assert {key: error["code"] for key, error in failed.items()} == dict.fromkeys(
        ("a", "b"), failed["a"]["code"]
    )


def test_head_shows_what_is_known(run: Any) -> None:
    run("storage", "put", "a.md", "-", "-m", "by=Ada", *HERE, input=b"x")
    shown = run("storage", "head", "a.md", *HERE).stdout
    for word in ("a.md", "text/markdown", "metadata by", "Ada", "sha256"):
        assert word in shown


def test_cat_refuses_json_rather_than_mix_it_with_bytes(run: Any) -> None:
    assert run("storage", "cat", "a", "--json", *HERE).code == 2


def test_metadata_without_an_equals_sign_is_refused(run: Any) -> None:
    assert run("storage", "put", "a", "-", "-m", "oops", *HERE, input=b"").code == 2


@pytest.mark.parametrize(("file", "wrong"), [("none.png", "does not exist"), (".", "directory")])
def test_put_of_no_file_names_the_argument_and_the_order(run: Any, file: str, wrong: str) -> None:
    done = run("storage", "put", "press/cover.png", file, "--json", *HERE)
    assert done.code == 2
    assert done.error["code"] == "invalid_argument"
    assert f"FILE '{file}'" in done.error["message"]
    assert wrong in done.error["message"]
    assert "storage put KEY FILE" in done.error["message"]


def test_presign_prints_the_url_and_nothing_else_on_stdout(run: Any, far_config: Path) -> None:
    args = ("storage", "presign", "a", "-t", "acme", "--config", far_config)
    done = run(*args)
    assert done.stdout.startswith("http://127.0.0.1:9/media/acme/a?")
    assert done.stdout.count("\n") == 1
    put_url = run(*args, "-X", "put", "--json").document
    assert put_url["method"] == "PUT"
    assert run(*args, "-X", "DELETE").code == 2
    assert run(*args, "--expires-in", "0").code == 2


def test_presign_is_unsupported_where_the_backend_has_none(run: Any) -> None:
    done = run("storage", "presign", "a", *HERE)
    assert done.code == 1
    assert done.stderr.startswith("unsupported: ")


def test_the_tenant_may_come_from_the_environment(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run, "a")
    monkeypatch.setenv("CM_PLATFORM_TENANT", "acme")
    assert run("storage", "ls", "--embedded").stdout == "a\n"


def test_a_layout_with_sites_asks_for_the_site(run: Any, tmp_path: Path) -> None:
    (tmp_path / "cm_platform.toml").write_text(
        '[storage]\ndefault = "disk"\nlayout = "{tenant}/{site}/{key}"\n'
        '[storage.backends.disk]\ndriver = "local"\npath = "disk"\n'
    )
    assert run("storage", "put", "a", "-", "-t", "acme", "--site", "paris", input=b"1").code == 0
    assert run("storage", "ls", "-t", "acme", "--site", "paris").stdout == "a\n"
    assert run("storage", "ls", "-t", "acme", "--site", "lyon").stdout == ""
    assert run("storage", "ls", "-t", "acme").code == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "image/png"), ("a.csv", "text/csv"), ("a.tar.gz", None), ("a", None)],
)
def test_a_content_type_comes_from_the_ending(name: str, kind: str | None) -> None:
    assert guessed_type(name) == kind
