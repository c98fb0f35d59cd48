"""The shipped Worker is whole, and a copy of it is the user's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import cm_platform
from cm_platform.cloudflare import signature, worker
from cm_platform.errors import InvalidArgumentError
from cm_platform.testing.cloudflare.install import Installed

from .conftest import RunNode

KV_ID = "0123456789abcdef0123456789abcdef"


def text(name: str) -> str:
    return worker.source().joinpath(name).read_text(encoding="utf-8")


def test_package_worker_and_library_have_one_version() -> None:
    (in_source,) = re.findall(r'VERSION = "(.+)"', text("src/version.ts"))
    locked = json.loads(text("package-lock.json"))["version"]
    assert {worker.version(), in_source, locked} == {cm_platform.__version__}


def test_worker_and_clients_have_one_protocol() -> None:
    (in_source,) = re.findall(r"PROTOCOL = (\d+);", text("src/version.ts"))
    assert int(in_source) == worker.PROTOCOL
    assert f"cm-gateway-v{worker.PROTOCOL}".encode() == signature.PROTOCOL


def test_every_package_is_pinned_and_the_lock_names_no_registry() -> None:
    wanted = json.loads(text("package.json"))["devDependencies"]
    lock = json.loads(text("package-lock.json"))["packages"]
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert lock[f"node_modules/{name}"]["version"] == version
    for name, package in lock.items():
        assert "resolved" not in package, name
        assert name == "" or "integrity" in package, name


def test_a_copy_has_the_users_names(tmp_path: Path) -> None:
    names = worker.Names(
        kv_id=KV_ID, name="acme-gateway", bindings={"KV": "VALUES", "VALUES": "COUNTERS"}
    )
    written = worker.write(tmp_path / "own", names)
    assert Path("wrangler.jsonc") in written
    assert Path("src/index.ts") in written
    configuration = (tmp_path / "own" / "wrangler.jsonc").read_text(encoding="utf-8")
    assert json.loads(_bare(configuration)) == {
        "name": "acme-gateway",
        "main": "src/index.ts",
        "compatibility_date": _date(configuration),
        "kv_namespaces": [{"binding": "VALUES", "id": KV_ID}],
        "durable_objects": {
            "bindings": [
                {"name": "COUNTERS", "class_name": "Values"},
                {"name": "NONCES", "class_name": "Nonces"},
            ]
        },
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Values", "Nonces"]}],
    }
    assert "// Small values, strongly consistent." in configuration


def test_a_copy_is_what_is_shipped_and_nothing_else(tmp_path: Path) -> None:
    written = worker.write(tmp_path, worker.Names(kv_id=KV_ID))
    assert {file.parts[0] for file in written} == {
        *(".gitignore", "README.md", "build.mjs", "package-lock.json", "package.json"),
        *("src", "test", "tsconfig.json", "wrangler.jsonc"),
    }
    for file in written:
        if file.name != "wrangler.jsonc":
            shipped = worker.source() / file
            assert (tmp_path / file).read_bytes() == shipped.read_bytes()


@pytest.mark.suite
def test_a_copy_is_well_typed_and_builds(
    packages: Installed, run_node: RunNode, tmp_path: Path
) -> None:
    names = worker.Names(kv_id=KV_ID, bindings={"KV": "MY_KV"})
    worker.write(tmp_path / "own", names)
    (tmp_path / "own" / "node_modules").symlink_to(packages.modules / "node_modules")
    for project in (".", "test"):
        run_node(tmp_path / "own", "node_modules/typescript/bin/tsc", "-p", project)
    run_node(tmp_path / "own", "build.mjs")
    built = (tmp_path / "own" / "dist" / "worker.js").read_text(encoding="utf-8")
    assert "class extends DurableObject" in built


def test_a_directory_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="not empty"):
        worker.write(tmp_path, worker.Names(kv_id=KV_ID))
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="a file of this name"):
        worker.write(tmp_path / "mine", worker.Names(kv_id=KV_ID))


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("gone")
    for directory in (tmp_path / "file" / "own", tmp_path / "nowhere"):
        with pytest.raises(InvalidArgumentError, match="cannot be made"):
            worker.write(directory, worker.Names(kv_id=KV_ID))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"kv_id": ""}, "32 lower-case hex digits"),
        ({"kv_id": KV_ID.upper()}, "32 lower-case hex digits"),
        ({"kv_id": f"{KV_ID}\n"}, "32 lower-case hex digits"),
        ({"kv_id": KV_ID, "name": ""}, "1 to 63"),
        ({"kv_id": KV_ID, "name": "Upper"}, "1 to 63"),
        ({"kv_id": KV_ID, "name": "-dash"}, "1 to 63"),
        ({"kv_id": KV_ID, "name": 'a"b'}, "1 to 63"),
        ({"kv_id": KV_ID, "name": "a" * 64}, "1 to 63"),
        ({"kv_id": KV_ID, "bindings": {"D1": "MY_D1"}}, "there are KV, VALUES"),
        ({"kv_id": KV_ID, "bindings": {"NONCES": "MINE"}}, "there are KV, VALUES"),
        ({"kv_id": KV_ID, "bindings": {"KV": "1KV"}}, "JavaScript variable"),
        ({"kv_id": KV_ID, "bindings": {"KV": 'K", "V'}}, "JavaScript variable"),
        ({"kv_id": KV_ID, "bindings": {"KV": "NONCES"}}, "for itself"),
        ({"kv_id": KV_ID, "bindings": {"KV": "GATEWAY_KEYS"}}, "for itself"),
        ({"kv_id": KV_ID, "bindings": {"KV": "VALUES"}}, "one name"),
    ],
)
def test_names_that_cannot_be_are_refused(names: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        worker.Names(**names)  # type: ignore[arg-type]


def _bare(configuration: str) -> str:
    """JSON, without the comments and the last commas that wrangler allows."""
    without = re.sub(r"^\s*//.*$", "", configuration, flags=re.MULTILINE)
    return re.sub(r",(\s*[\]}])", r"\1", without)


def _date(configuration: str) -> str:
    (date,) = re.findall(r'"compatibility_date": "(\d{4}-\d{2}-\d{2})"', configuration)
    return str(date)
