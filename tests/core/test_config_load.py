"""Loading a configuration: file, references, environment, and where each value came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from cm_platform.config import Config, Setting, defaults, load
from cm_platform.errors import ConfigInvalidError
from cm_platform.registry import Backend, Registry
from cm_platform.routing import Route
from cm_platform.runtime import Runtime

KEY = "k" * 32


class Tuning(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pool_size: int = 10
    ca_file: Path | None = None


class Demo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str
    secret_access_key: SecretStr | None = None
    path: Path | None = None
    mirrors: tuple[Path, ...] = ()
    mode: str = Field("plain", validation_alias="type")
    url: str | None = None
    tuning: Tuning = Tuning()


async def _open(config: Demo, runtime: Runtime) -> object:
    raise AssertionError("loading opens nothing")


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.register(Backend("storage.demo", Demo, _open, frozenset()))
    return made


FILE = """
[storage]
default = "s3"
layout = "media/{tenant}/{key}"
timeout = 20
retry.attempts = 2

[storage.backends.s3]
driver = "demo"
bucket = "company-media"
path = "data"

[storage.backends.r2]
driver = "demo"
bucket = "${R2_BUCKET}"
secret_access_key = "${R2_SECRET}"
url = "https://user:word@host/${R2_PATH:-x}"
tuning.ca_file = "ca.pem"

[storage.migrations.to-r2]
source = "s3"
target = "r2"

[[storage.rules]]
tenants = ["0B9E1D7E-0000-4000-8000-000000000000", "acme"]
route = "to-r2:shadow"

[[storage.rules]]
route = "s3"

[storage.tenants."5A7D0000-0000-4000-8000-000000000000"]
backends.s3.bucket = "acme-media"

[signing]
current = "b"
keys.a = "${SIGNING_KEY}"
keys.b = "${SIGNING_KEY}"
"""

ENVIRON = {"R2_BUCKET": "r2-media", "R2_SECRET": "a-very-secret-word", "SIGNING_KEY": KEY}
SMALL: Mapping[str, Any] = {
    "storage": {"default": "s3", "backends": {"s3": {"driver": "demo", "bucket": "b"}}}
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cm_platform.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def explained(config: Config) -> dict[str, Setting]:
    return {setting.path: setting for setting in config.explain()}


def demo(config: Config, name: str = "s3") -> Demo:
    settings = config.kinds["storage"].backends[name].settings
    assert isinstance(settings, Demo)
    return settings


def test_a_file_is_read_whole(file: Path, registry: Registry) -> None:
    config = load(file, environ=ENVIRON, registry=registry)
    storage = config.kinds["storage"]
    assert (storage.default, storage.layout, storage.timeout) == (
        "s3",
        "media/{tenant}/{key}",
        20.0,
    )
    assert (storage.retry.attempts, storage.retry.max, storage.breaker.failures) == (2, 5.0, 10)
    assert (storage.flags, storage.route_ttl) == ("rules", 30.0)
    assert storage.backends["r2"].driver == "demo"
    assert (storage.migrations["to-r2"].source, storage.migrations["to-r2"].target) == ("s3", "r2")
    first, last = storage.rules
    assert first.route == Route.parse("to-r2:shadow")
    assert first.tenants == ("0b9e1d7e-0000-4000-8000-000000000000", "acme")
    assert (last.tenants, last.percent, str(last.route)) == (None, None, "s3")
    assert config.signing.current == "b"
    assert config.signing.keys["a"].get_secret_value() == KEY
    assert config.telemetry.tenant_attribute is False
    assert config.source_dir == file.parent
    with pytest.raises(ValueError, match="frozen"):
        config.source_dir = Path()  # type: ignore[misc]


def test_relative_paths_are_relative_to_the_file(
    file: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/someone")
    environ = ENVIRON | {"CM_PLATFORM__STORAGE__BACKENDS__S3__MIRRORS": '["/abs", "rel", "~/home"]'}
    config = load(file, environ=environ, registry=registry)
    assert demo(config).path == file.parent / "data"
    assert demo(config, "r2").tuning.ca_file == file.parent / "ca.pem"
    assert demo(config).mirrors == (
        Path("/abs"),
        file.parent / "rel",
        Path("/home/someone/home"),
    )


def test_relative_paths_of_a_mapping_are_relative_to_the_working_directory(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"storage": {**SMALL["storage"]}}
    table["storage"]["backends"] = {"s3": {"driver": "demo", "bucket": "b", "path": "data"}}
    config = load(table, environ={}, registry=registry)
    assert demo(config).path == tmp_path / "data"
    assert config.source_dir == tmp_path


def test_a_tenants_table_is_laid_over_the_backends(file: Path, registry: Registry) -> None:
    config = load(file, environ=ENVIRON, registry=registry)
    tenants = config.kinds["storage"].tenants
    own = tenants["5a7d0000-0000-4000-8000-000000000000"]["s3"].settings
    assert isinstance(own, Demo)
    assert (own.bucket, own.path) == ("acme-media", file.parent / "data")
    assert demo(config).bucket == "company-media"


def test_references(registry: Registry) -> None:
    def bucket(text: str, **environ: str) -> str:
        table = {"storage": {"default": "s3", "backends": {"s3": {"driver": "demo"}}}}
        table["storage"]["backends"]["s3"]["bucket"] = text  # type: ignore[index]
        return demo(load(table, environ=environ, registry=registry)).bucket

    assert bucket("${A}", A="x") == "x"
    assert bucket("a-${A}-${B}-z", A="x", B="y") == "a-x-y-z"
    assert bucket("${A:-fallback}") == "fallback"
    assert bucket("${A:-fallback}", A="") == "fallback"
    assert bucket("${A:-}") == ""
    assert bucket("${A}", A="") == ""
    assert bucket("$${A}") == "${A}"
    assert bucket("$A $ {A} $$") == "$A $ {A} $$"
    # What a variable holds is not read again.
    assert bucket("${A}", A="${B}") == "${B}"


def test_references_stand_in_lists_too(registry: Registry) -> None:
    table = {
        "storage": {**SMALL["storage"], "rules": [{"tenants": ["${WHO}", "b"], "route": "s3"}]}
    }
    config = load(table, environ={"WHO": "acme"}, registry=registry)
    assert config.kinds["storage"].rules[0].tenants == ("acme", "b")
    assert explained(config)["storage.rules[0].tenants"].source == "mapping via ${WHO}"


def test_the_environment_lies_over_the_file(file: Path, registry: Registry) -> None:
    environ = ENVIRON | {
        "CM_PLATFORM__STORAGE__DEFAULT": "r2",
        "cm_platform__storage__retry__max": "7.5",
        "CM_PLATFORM__STORAGE__BACKENDS__S3__BUCKET": "12345",
        "CM_PLATFORM__STORAGE__BACKENDS__R2__TUNING__POOL_SIZE": "3",
        "CM_PLATFORM__TELEMETRY__TENANT_ATTRIBUTE": "true",
        "CM_PLATFORM__STORAGE__RULES": '[{"tenants": ["acme"], "route": "r2"}]',
        "CM_PLATFORM_CONFIG": "/not/this.toml",
        "UNRELATED__STORAGE__DEFAULT": "x",
    }
    config = load(file, environ=environ, registry=registry)
    storage = config.kinds["storage"]
    assert (storage.default, storage.retry.attempts, storage.retry.max) == ("r2", 2, 7.5)
    # Digits stay a text where the setting is one.
    assert demo(config).bucket == "12345"
    assert demo(config, "r2").tuning == Tuning(pool_size=3, ca_file=file.parent / "ca.pem")
    assert config.telemetry.tenant_attribute is True
    (rule,) = storage.rules
    assert (rule.tenants, str(rule.route)) == (("acme",), "r2")


def test_the_environment_alone_can_configure(registry: Registry) -> None:
    environ = {
        "CM_PLATFORM__STORAGE": '{"default": "s3"}',
        "CM_PLATFORM__STORAGE__BACKENDS__S3": '{"driver": "demo", "bucket": "b"}',
        "CM_PLATFORM__STORAGE__BACKENDS__S3__SECRET_ACCESS_KEY": "[not-json",
        "CM_PLATFORM__SIGNING__KEYS__K1": KEY,
    }
    config = load({}, environ=environ, registry=registry)
    assert demo(config).secret_access_key == SecretStr("[not-json")
    assert config.signing.current == "k1"


def test_the_environment_finds_names_that_a_shell_cannot_say(
    file: Path, registry: Registry
) -> None:
    tenant_id = "5A7D0000_0000_4000_8000_000000000000"
    environ = ENVIRON | {
        "CM_PLATFORM__STORAGE__MIGRATIONS__TO_R2__TARGET": "r2-eu",
        "CM_PLATFORM__STORAGE__BACKENDS__R2_EU": '{"driver": "demo", "bucket": "eu"}',
        f"CM_PLATFORM__STORAGE__TENANTS__{tenant_id}__BACKENDS__S3__BUCKET": "other",
        f"CM_PLATFORM__STORAGE__TENANTS__{tenant_id}__BACKENDS__R2__BUCKET": "new",
    }
    config = load(file, environ=environ, registry=registry)
    storage = config.kinds["storage"]
    assert storage.migrations["to-r2"].target == "r2-eu"
    assert demo(config, "r2-eu").bucket == "eu"
    (own,) = storage.tenants.values()
    assert {name: backend.settings.bucket for name, backend in own.items()} == {  # type: ignore[attr-defined]
        "s3": "other",
        "r2": "new",
    }


def test_a_tenant_that_the_file_does_not_know_is_taken_as_it_is_written(
    registry: Registry,
) -> None:
    environ = {"CM_PLATFORM__STORAGE__TENANTS__BIG_CO__BACKENDS__S3__BUCKET": "x"}
    config = load(SMALL, environ=environ, registry=registry)
    assert list(config.kinds["storage"].tenants) == ["big_co"]


def test_explain_says_where_each_value_came_from(file: Path, registry: Registry) -> None:
    environ = ENVIRON | {"cm_platform__storage__default": "r2"}
    settings = explained(load(file, environ=environ, registry=registry))

    def said(path: str) -> tuple[str, str]:
        return settings[path].value, settings[path].source

    backends = "storage.backends"
    assert said("storage.default") == ("r2", "environment cm_platform__storage__default")
    assert said("storage.timeout") == ("20.0", "cm_platform.toml")
    assert said("storage.breaker.open_for") == ("10.0", "default")
    assert said(f"{backends}.s3.bucket") == ("company-media", "cm_platform.toml")
    assert said(f"{backends}.s3.path") == (str(file.parent / "data"), "cm_platform.toml")
    assert said(f"{backends}.s3.type") == ("plain", "default")
    assert said(f"{backends}.r2.bucket") == ("r2-media", "cm_platform.toml via ${R2_BUCKET}")
    assert said(f"{backends}.r2.tuning.pool_size") == ("10", "default")
    assert said("storage.migrations.to-r2.target") == ("r2", "cm_platform.toml")
    assert said("storage.rules[0].route") == ("to-r2:shadow", "cm_platform.toml")
    assert said("storage.rules[1].route") == ("s3", "cm_platform.toml")
    assert said("telemetry.tenant_attribute") == ("false", "default")


def test_explain_shows_of_a_tenant_what_is_its_own(file: Path, registry: Registry) -> None:
    settings = explained(load(file, environ=ENVIRON, registry=registry))
    own = [path for path in settings if path.startswith("storage.tenants")]
    assert len(own) == 1
    assert settings[own[0]].value == "acme-media"
    assert own[0].endswith(".backends.s3.bucket")


def test_explain_and_repr_keep_secrets(file: Path, registry: Registry) -> None:
    config = load(file, environ=ENVIRON, registry=registry)
    settings = explained(config)
    secret = settings["storage.backends.r2.secret_access_key"]
    assert (secret.value, secret.data) == ("********", "********")
    assert secret.source == "cm_platform.toml via ${R2_SECRET}"
    assert settings["signing.keys.a"].value == "********"
    assert settings["signing.keys.a"].data == "********"
    assert settings["storage.backends.r2.url"].data == "https://********@host/x"
    assert settings["storage.backends.r2.url"].value == "https://********@host/x"
    for text in (repr(config), str(config), repr(config.explain())):
        assert "a-very-secret-word" not in text
        assert KEY not in text


def test_explain_shortens_long_lists(registry: Registry) -> None:
    rules = [{"tenants": [f"t{n}" for n in range(1000)], "route": "s3"}]
    config = load({"storage": {**SMALL["storage"], "rules": rules}}, environ={}, registry=registry)
    value = explained(config)["storage.rules[0].tenants"].value
    assert value == "[t0, t1, t2, t3, t4, … (1000 in all)]"


def test_explain_has_data_for_programs(registry: Registry) -> None:
    rules = [{"tenants": [f"t{n}" for n in range(9)], "route": "s3"}]
    config = load({"storage": {**SMALL["storage"], "rules": rules}}, environ={}, registry=registry)
    settings = explained(config)
    assert settings["storage.rules[0].tenants"].data == [f"t{n}" for n in range(9)]
    assert settings["storage.rules[0].route"].data == "s3"
    assert settings["storage.timeout"].data == 60.0
    assert settings["storage.retry.attempts"].data == 4
    assert settings["telemetry.tenant_attribute"].data is False
    assert settings["signing.current"].data is None
    everything = [setting.data for setting in (*settings.values(), *defaults())]
    assert json.loads(json.dumps(everything, allow_nan=False)) == everything


def test_defaults_say_what_holds_where_nothing_is_said(registry: Registry) -> None:
    settings = {setting.path: setting for setting in defaults(registry)}
    assert settings["storage.timeout"] == ("storage.timeout", "60.0", "default", 60.0)
    assert settings["storage.retry.attempts"].value == "4"
    assert settings["storage.backends.demo.tuning.pool_size"].value == "10"
    assert "storage.backends.demo.bucket" not in settings


def test_the_environment_names_the_file(file: Path, registry: Registry) -> None:
    environ = ENVIRON | {"CM_PLATFORM_CONFIG": str(file)}
    assert load(environ=environ, registry=registry) == load(
        file, environ=ENVIRON, registry=registry
    )


def test_nothing_configured_names_the_three_ways() -> None:
    for environ in ({}, {"CM_PLATFORM_CONFIG": ""}):
        with pytest.raises(ConfigInvalidError) as caught:
            load(environ=environ)
        for way in ('configure("', "CM_PLATFORM_CONFIG", "configure(embedded=True)"):
            assert way in str(caught.value)
