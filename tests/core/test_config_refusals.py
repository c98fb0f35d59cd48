"""What a configuration is refused for: all of it together, by path, with the remedy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from cm_platform.config import Config, MigrationConfig, load
from cm_platform.errors import ConfigInvalidError
from cm_platform.registry import Backend, Registry
from cm_platform.routing import Kind
from cm_platform.runtime import Runtime

Table = dict[str, Any]


class Tuning(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str = ""

    @field_validator("host")
    @classmethod
    def _check(cls, value: str) -> str:
        raise ValueError(f"{value} is not a host")


class Demo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bucket: str
    pool_size: int = 1
    api_key: SecretStr | None = None
    tuning: Tuning | None = None

    @field_validator("api_key", mode="before")
    @classmethod
    def _check(cls, value: object) -> object:
        if value and str(value).startswith("wrong"):
            raise ValueError(f"{value} is not a key")
        return value


class Careless(BaseModel):
    """A model that forgot `extra="forbid"`."""

    bucket: str


async def _open(config: Any, runtime: Runtime) -> object:
    raise AssertionError("loading opens nothing")


CACHE = Kind("cache", holds_data=False)
STORAGE = Kind("storage", holds_data=True)


def _registry() -> Registry:
    registry = Registry()
    for kind in ("storage", "cache"):
        registry.register(Backend(f"{kind}.demo", Demo, _open, frozenset()))
    registry.register(Backend("storage.careless", Careless, _open, frozenset()))
    return registry


def _table() -> Table:
    return {
        "storage": {
            "default": "s3",
            "backends": {
                "s3": {"driver": "demo", "bucket": "a"},
                "r2": {"driver": "demo", "bucket": "b"},
            },
            "migrations": {"to-r2": {"source": "s3", "target": "r2"}},
            "rules": [{"tenants": ["acme"], "route": "to-r2:shadow"}],
        }
    }


def _load(table: Table, **environ: str) -> Config:
    return load(table, environ=environ, registry=_registry())


def refused(table: Table, **environ: str) -> str:
    with pytest.raises(ConfigInvalidError) as caught:
        _load(table, **environ)
    return str(caught.value)


def test_the_table_that_the_others_are_made_of_is_in_order() -> None:
    assert _load(_table()).kinds["storage"].default == "s3"


def _set(*path: str | int, to: object) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        target: Any = table
        for part in path[:-1]:
            target = target[part] if isinstance(part, int) else target.setdefault(part, {})
        target[path[-1]] = to

    return change


def _drop(*path: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        target: Any = table
        for part in path[:-1]:
            target = target[part]
        del target[path[-1]]

    return change


LEDGER: Table = {"ledger": {"driver": "sqlite", "path": "ledger.db"}}

S, B, M, R, T = "storage", "backends", "migrations", "rules", "tenants"
UUID = "5a7d0000-0000-4000-8000-000000000000"

CASES: dict[str, tuple[Callable[[Table], None], str, str]] = {
    "unknown section": (
        _set("sotrage", to={}),
        "sotrage: unknown key (did you mean 'storage'?)",
        "keys are cache, ledger, signing, storage, telemetry",
    ),
    "unknown key of a kind": (
        _set(S, "timeuot", to=3),
        "storage.timeuot: unknown key (did you mean 'timeout'?)",
        "",
    ),
    "unknown key of retry": (
        _set(S, "retry", to={"atempts": 3}),
        "storage.retry.atempts: unknown key (did you mean 'attempts'?)",
        "keys are attempts, initial, max",
    ),
    "unknown key of a backend": (
        _set(S, B, "s3", "bukcet", to="x"),
        "storage.backends.s3.bukcet: unknown key (did you mean 'bucket'?)",
        "",
    ),
    "unknown key of a model that ignores them": (
        _set(S, B, "x", to={"driver": "careless", "bucket": "b", "buckets": "c"}),
        "storage.backends.x.buckets: unknown key (did you mean 'bucket'?)",
        "",
    ),
    "unknown key of a rule": (
        _set(S, R, 0, "tenant", to=["acme"]),
        "storage.rules[0].tenant: unknown key (did you mean 'tenants'?)",
        "",
    ),
    "unknown key of a migration": (
        _set(S, M, "to-r2", "from", to="s3"),
        "storage.migrations.to-r2.from: unknown key",
        "keys are " + ", ".join(sorted(MigrationConfig.model_fields)),
    ),
    "unknown key of a tenant": (
        _set(S, T, UUID, "backend", to={}),
        f"storage.tenants.{UUID}.backend: unknown key (did you mean 'backends'?)",
        "",
    ),
    "unknown key of signing": (
        _set("signing", to={"curent": "a"}),
        "signing.curent: unknown key (did you mean 'current'?)",
        "",
    ),
    "unknown key of telemetry": (
        _set("telemetry", to={"tenant": True}),
        "telemetry.tenant: unknown key",
        "keys are tenant_attribute",
    ),
    "unknown driver": (
        _set(S, B, "s3", "driver", to="dmeo"),
        "storage.backends.s3.driver: 'dmeo' is no storage driver (did you mean 'demo'?)",
        "drivers are careless, demo",
    ),
    "no driver": (
        _drop(S, B, "s3", "driver"),
        "storage.backends.s3.driver: is missing; drivers are",
        "",
    ),
    "missing setting": (
        _drop(S, B, "s3", "bucket"),
        "storage.backends.s3.bucket: is missing",
        "",
    ),
    "no backends": (
        _set(S, B, to={}),
        "storage.backends: is missing: configure at least one backend",
        "",
    ),
    "unknown default": (
        _set(S, "default", to="s4"),
        "storage.default: 's4' is no backend (did you mean 's3'?); backends are r2, s3",
        "",
    ),
    "a migration as default": (
        _set(S, "default", to="to-r2"),
        "storage.default: 'to-r2' is no backend but a migration, and a default is a backend",
        "backends are r2, s3",
    ),
    "a migration's stage as default": (
        _set(S, "default", to="to-r2:off"),
        "storage.default: a default is a backend, not a migration's stage",
        "backends are r2, s3",
    ),
    "no default": (
        _drop(S, "default"),
        "storage.default: is missing: name a backend; backends are r2, s3",
        "",
    ),
    "unknown source": (
        _set(S, M, "to-r2", "source", to="s33"),
        "storage.migrations.to-r2.source: 's33' is no backend (did you mean 's3'?)",
        "",
    ),
    "no target": (
        _drop(S, M, "to-r2", "target"),
        "storage.migrations.to-r2.target: is missing",
        "",
    ),
    "a migration to itself": (
        _set(S, M, "to-r2", "target", to="s3"),
        "storage.migrations.to-r2: source and target must be two different backends",
        "",
    ),
    "two ways out of a source, of different terms": (
        _set(S, M, "again", to={"source": "s3", "target": "r2", "lease": 9}),
        "storage.migrations.again.lease: must be that of 'to-r2', which leaves the same source",
        "",
    ),
    "unknown backend in a route": (
        _set(S, R, 0, "route", to="s4"),
        "storage.rules[0].route: 's4' is no backend (did you mean 's3'?)",
        "",
    ),
    "unknown migration in a route": (
        _set(S, R, 0, "route", to="to-r3:live"),
        "storage.rules[0].route: 'to-r3' is no migration (did you mean 'to-r2'?)",
        "",
    ),
    "unknown stage in a route": (
        _set(S, R, 0, "route", to="to-r2:shadwo"),
        "storage.rules[0].route: 'shadwo' is no stage (did you mean 'shadow'?)",
        "stages are off, dualwrite, shadow, live, rampdown, complete",
    ),
    "a migration without its stage": (
        _set(S, R, 0, "route", to="to-r2"),
        "storage.rules[0].route: 'to-r2' is a migration: name its stage",
        "",
    ),
    "a backend with a stage": (
        _set(S, R, 0, "route", to="s3:live"),
        "storage.rules[0].route: 's3' is a backend, and a backend has no stage",
        "",
    ),
    "a rule without a route": (
        _set(S, R, to=[{"tenants": ["acme"]}]),
        "storage.rules[0].route: is missing",
        "",
    ),
    "tenants and percent": (
        _set(S, R, 0, "percent", to=3),
        "storage.rules[0]: has both tenants and percent: make it two rules",
        "",
    ),
    "no tenant's id": (
        _set(S, R, 0, "tenants", to=["acme", "Not An Id"]),
        "storage.rules[0].tenants[1]: a tenant's id must be a UUID or a slug",
        "",
    ),
    "a rule after one for everybody": (
        _set(S, R, to=[{"route": "s3"}, {"tenants": ["acme"], "route": "r2"}]),
        "storage.rules[1]: is never reached: rules[0] matches every tenant; move that one",
        "",
    ),
    "rules that are no list": (
        _set(S, R, to={"route": "s3"}),
        "storage.rules: must be a list of tables: [[...rules]]",
        "",
    ),
    "a name of a backend": (
        _set(S, B, "S_3", to={"driver": "demo", "bucket": "x"}),
        "storage.backends.S_3: a name is [a-z0-9][a-z0-9-]*",
        "",
    ),
    "a name of a migration": (
        _set(S, M, "to_r2", to={"source": "s3", "target": "r2"}),
        "storage.migrations.to_r2: a name is [a-z0-9][a-z0-9-]*",
        "",
    ),
    "one name for a backend and a migration": (
        _set(S, M, "r2", to={"source": "s3", "target": "r2"}),
        "storage.migrations.r2: a backend has this name too",
        "",
    ),
    "a layout in which tenants could meet": (
        _set(S, "layout", to="{tenant}{key}"),
        "storage.layout: layout '{tenant}{key}': {tenant} must be followed by",
        "",
    ),
    "a tenant's unknown backend": (
        _set(S, T, UUID, B, "s33", "bucket", to="x"),
        f"storage.tenants.{UUID}.backends.s33: no backend of this name is configured",
        " (did you mean 's3'?); backends are r2, s3",
    ),
    "a tenant's other driver": (
        _set(S, T, UUID, B, "s3", "driver", to="careless"),
        f"storage.tenants.{UUID}.backends.s3.driver: a tenant's table cannot change the driver",
        "configure another backend, and a rule",
    ),
    "a tenant's wrong setting": (
        _set(S, T, UUID, B, "s3", "pool_size", to="many"),
        f"storage.tenants.{UUID}.backends.s3.pool_size: must be a valid integer",
        "",
    ),
    "a tenant in two spellings": (
        _set(S, T, to={UUID: {}, UUID.upper(): {}}),
        f"storage.tenants.{UUID.upper()}: this tenant has two tables, in two spellings",
        "",
    ),
    "a table that is none": (_set("signing", to="x"), "signing: must be a table: [signing]", ""),
    "a backend that is none": (
        _set(S, B, "s3", to="x"),
        "storage.backends.s3: must be a table",
        "",
    ),
    "several keys and no current": (
        _set("signing", to={"keys": {"a": "x" * 32, "b": "y" * 32}}),
        "signing.current: is missing: say which of the keys signs; keys are a, b",
        "",
    ),
    "an unknown current key": (
        _set("signing", to={"keys": {"key-1": "x" * 32}, "current": "key-2"}),
        "signing.current: no key has this id (did you mean 'key-1'?); keys are key-1",
        "",
    ),
    "a short key": (
        _set("signing", to={"keys": {"a": "hush"}}),
        "signing.keys.a: is shorter than 32 characters; make one with",
        "token_urlsafe",
    ),
    "a key's id": (
        _set("signing", to={"keys": {"a.b": "x" * 32}}),
        'signing.keys."a.b": a key\'s id is letters, digits',
        "",
    ),
    "flags": (
        _set(S, "flags", to="launchdarkly"),
        "storage.flags: must be 'rules' or 'openfeature'",
        "",
    ),
    "a wait that is above the maximum": (
        _set(S, "retry", to={"initial": 9}),
        "storage.retry: max must not be below initial",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_its_path_and_remedy(case: str) -> None:
    change, line, remedy = CASES[case]
    table = _table()
    change(table)
    message = refused(table)
    assert line in message
    assert remedy in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("timeout", 0),
        ("timeout", 1e9),
        ("timeout", float("nan")),
        ("timeout", "soon"),
        ("route_ttl", -1),
        ("route_ttl", float("inf")),
        ("retry", {"attempts": 0}),
        ("retry", {"attempts": 1000}),
        ("retry", {"max": 0}),
        ("breaker", {"failures": 0}),
        ("breaker", {"open_for": 1e9}),
    ],
)
def test_figures_have_bounds(key: str, value: object) -> None:
    table = _table()
    table["storage"][key] = value
    assert f"storage.{key}" in refused(table)


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan"), "many"])
def test_a_percentage_is_above_0_and_at_most_100(percent: object) -> None:
    table = {"cache": _table()["storage"]}
    table["cache"]["rules"] = [{"percent": percent, "route": "r2"}]
    with pytest.raises(ConfigInvalidError, match=r"cache\.rules\[0\]\.percent: must be"):
        load(table, environ={}, registry=_registry(), kinds={"cache": CACHE})


def test_everything_wrong_is_told_together() -> None:
    table = _table()
    for case in ("unknown driver", "unknown default", "unknown stage in a route", "flags"):
        CASES[case][0](table)
    message = refused(table, CM_PLATFORM__STORAGE__TIMEOUT="0", CM_PLATFORM__STORGE__X="1")
    assert "has 6 problems" in message
    assert len(message.splitlines()) == 7
    for case in ("unknown driver", "unknown default", "unknown stage in a route", "flags"):
        assert CASES[case][1] in message
    assert "storage.timeout: must be greater than 0 (from environment CM_PLATFORM__" in message
    assert "environment CM_PLATFORM__STORGE__X: unknown key (did you mean 'storage'?)" in message


def test_one_wrong_part_of_a_table_hides_no_other() -> None:
    table = _table()
    table["storage"] |= {"timeout": "soon", "layout": "{key}"}
    table["storage"]["migrations"]["to-r2"] = {"source": "s33"}
    table["storage"]["rules"] = [
        {"tenant": "x", "tenants": ["a b"], "percent": 0, "route": "to-r2:shaddow"}
    ]
    table["signing"] = {"curent": "a", "keys": {"a": "short"}, "current": "b"}
    message = refused(table)
    for path in (
        *("storage.timeout", "storage.layout"),
        *("storage.migrations.to-r2.source", "storage.migrations.to-r2.target"),
        *("storage.rules[0].tenant:", "storage.rules[0].tenants[0]", "storage.rules[0].percent"),
        *("storage.rules[0]: has both", "storage.rules[0].route"),
        *("signing.curent", "signing.keys.a", "signing.current"),
    ):
        assert f"  - {path}" in message, path


def test_the_problems_of_an_error_can_be_counted() -> None:
    table = _table()
    table["storage"] |= {"timeout": 0, "route_ttl": 0}
    with pytest.raises(ConfigInvalidError) as caught:
        _load(table)
    error = caught.value
    assert error.problems == (
        "storage.route_ttl: must be greater than 0",
        "storage.timeout: must be greater than 0",
    )
    assert error.to_dict()["problems"] == list(error.problems)
    assert all(problem in error.message for problem in error.problems)
    table["storage"]["route_ttl"] = 1
    with pytest.raises(ConfigInvalidError) as caught:
        _load(table)
    assert caught.value.problems == ("storage.timeout: must be greater than 0",)
    assert ConfigInvalidError("other").problems == ("other",)


def test_a_variable_with_one_underscore_after_the_name_is_refused() -> None:
    message = refused(_table(), CM_PLATFORM_STORAGE__TIMEOUT="5", cm_platform_signing__current="a")
    assert (
        "environment CM_PLATFORM_STORAGE__TIMEOUT: has one underscore too few: "
        "set CM_PLATFORM__STORAGE__TIMEOUT"
    ) in message
    assert "set CM_PLATFORM__signing__current" in message


def test_variables_that_only_begin_alike_are_left_alone() -> None:
    config = _load(
        _table(),
        CM_PLATFORM_CONFIG="elsewhere.toml",
        CM_PLATFORM_STORAGE_BUCKET="an application's own",
        CM_PLATFORM_OTHER__THING="1",
    )
    assert config.kinds["storage"].timeout == 60


def test_percentages_are_refused_where_data_is_held_and_no_ledger_is() -> None:
    table = _table()
    table["storage"]["rules"].append({"percent": 10, "route": "to-r2:dualwrite"})
    message = refused(table)
    assert "storage.rules[1].percent: refused for storage, which holds data" in message
    assert "a percentage would send tenants to a store that does not have their data" in message
    assert "List the tenants instead, or configure a ledger" in message
    config = _load(table | LEDGER)
    assert config.kinds["storage"].rules[1].percent == 10


def test_remote_flags_are_refused_where_data_is_held_and_no_ledger_is() -> None:
    table = _table()
    table["storage"]["flags"] = "openfeature"
    del table["storage"]["rules"]
    message = refused(table)
    assert "storage.flags: refused for storage, which holds data" in message
    assert 'Use flags = "rules" and name the tenants, or configure a ledger' in message
    config = _load(table | LEDGER)
    assert config.kinds["storage"].flags == "openfeature"


def test_a_ledger_is_a_driver_with_its_settings() -> None:
    config = _load(_table() | LEDGER)
    assert config.ledger is not None
    assert (config.ledger.name, config.ledger.driver) == ("ledger", "sqlite")
    assert _load(_table()).ledger is None


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"driver": "sqlight", "path": "x"}, "ledger.driver"),
        ({"path": "x"}, "ledger.driver"),
        ({"driver": "sqlite"}, "ledger.path"),
        ({"driver": "sqlite", "path": "x", "pth": "y"}, "ledger.pth: unknown key"),
        ({"driver": "sqlite", "path": ":memory:"}, "a ledger that is configured needs a file"),
        ({"driver": "postgres", "url": "http://host/db"}, "ledger.url"),
        ("a.db", "ledger: must be a table: [ledger]"),
    ],
)
def test_a_ledger_that_is_not_in_order_is_refused_by_path(table: object, told: str) -> None:
    assert told in refused(_table() | {"ledger": table})


def test_a_ledgers_url_is_not_told() -> None:
    table = {"driver": "postgres", "url": "postgresql://me:hush@host/db", "pool_min": "hush"}
    assert "hush" not in refused(_table() | {"ledger": table})


def test_a_broken_ledger_is_not_blamed_on_the_rules_that_need_it() -> None:
    table = _table()
    table["storage"]["rules"].append({"percent": 10, "route": "to-r2:dualwrite"})
    assert "percent" not in refused(table | {"ledger": {"driver": "sqlite"}})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lease", 0),
        ("lease", float("inf")),
        ("upload_ttl", 0),
        ("upload_ttl", 604_801),
        ("soak", -1),
        ("shadow_sample", 1.1),
        ("shadow_per_second", -1),
        ("max_divergence", 2),
    ],
)
def test_a_migration_is_kept_to_what_can_be_meant(name: str, value: float) -> None:
    table = _table()
    table["storage"]["migrations"]["to-r2"][name] = value
    assert f"storage.migrations.to-r2.{name}" in refused(table)


def test_kinds_that_hold_no_data_may_use_percentages_and_remote_flags() -> None:
    kinds = {"cache": CACHE, "storage": STORAGE}
    table = _table()
    table["cache"] = copy.deepcopy(table["storage"])
    table["cache"]["rules"] = [{"percent": 10, "route": "r2"}]
    assert load(table, environ={}, registry=_registry(), kinds=kinds).kinds["cache"].rules
    table["cache"] |= {"rules": [], "flags": "openfeature"}
    config = load(table, environ={}, registry=_registry(), kinds=kinds)
    assert config.kinds["cache"].flags == "openfeature"


def test_rules_that_nobody_would_ask_are_refused() -> None:
    table = {"cache": _table()["storage"] | {"flags": "openfeature"}}
    with pytest.raises(ConfigInvalidError, match=r"cache\.rules: are not asked when flags"):
        load(table, environ={}, registry=_registry(), kinds={"cache": CACHE})


def test_a_tenant_may_stand_in_two_rules() -> None:
    table = _table()
    table["storage"]["rules"].append({"tenants": ["acme"], "route": "r2"})
    assert len(_load(table).kinds["storage"].rules) == 2


def test_an_unset_variable_is_named_with_its_setting() -> None:
    table = _table()
    table["storage"]["backends"]["s3"]["bucket"] = "${BUCKET}"
    message = refused(table)
    assert "storage.backends.s3.bucket: the environment variable BUCKET is not set" in message
    assert "${BUCKET:-default}" in message
    # And what is wrong with the hole that it leaves is not told as well.
    table["storage"]["backends"]["s3"]["pool_size"] = "${SIZE}"
    assert "has 2 problems" in refused(table)


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:=x}", "${A-x}"])
def test_half_a_reference_is_refused(text: str) -> None:
    table = _table()
    table["storage"]["backends"]["s3"]["bucket"] = text
    assert "storage.backends.s3.bucket: '${' begins a reference" in refused(table, A="x")


def test_messages_do_not_repeat_values() -> None:
    table = _table()
    s3 = table["storage"]["backends"]["s3"]
    s3 |= {"api_key": "wrong-hush-1", "pool_size": "hush-2", "bucket": ["hush-3"]}
    s3 |= {"ap_key": "hush-4"}
    table["storage"]["timeout"] = "hush-5"
    table["storage"]["backends"]["r2"]["api_key"] = "${SECRET}"
    table["signing"] = {"keys": {"a": ["hush-6"], "b": "hush-7"}}
    message = refused(table, SECRET="wrong-hush-8", CM_PLATFORM__TELEMETRY="hush-9")
    assert "hush" not in message
    assert "storage.backends.s3.api_key: ******** is not a key" in message
    assert "environment CM_PLATFORM__TELEMETRY: must be a JSON object" in message


def test_a_value_from_the_environment_may_be_a_secret_whatever_it_is_called() -> None:
    table = _table()
    tuning = {"tuning": {"host": "${HOST}"}}
    table["storage"]["backends"]["s3"] |= tuning
    message = refused(
        table, HOST="hush-1", CM_PLATFORM__STORAGE__BACKENDS__R2__TUNING__HOST="hush-2"
    )
    assert "storage.backends.s3.tuning.host: ******** is not a host" in message
    assert "storage.backends.r2.tuning.host: ******** is not a host" in message
    assert "hush" not in message
    table["storage"]["backends"]["s3"]["tuning"] = {"host": "plain"}
    assert "plain is not a host" in refused(table)


def test_a_table_in_the_place_of_a_rule_or_a_named_table_is_asked_for() -> None:
    table = _table()
    table["storage"] |= {"rules": ["acme"], "migrations": [1]}
    message = refused(table)
    assert "storage.rules[0]: must be a table" in message
    assert "storage.migrations: must be a table" in message


def test_a_misplaced_secret_is_not_repeated() -> None:
    table = _table()
    table["storage"]["default"] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert "wJalr" not in refused(table)


def test_one_variable_in_two_spellings_is_refused() -> None:
    message = refused(
        _table(), CM_PLATFORM__STORAGE__TIMEOUT="1", cm_platform__storage__timeout="2"
    )
    assert "is set twice" in message


def test_broken_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "cm_platform.toml"
    file.write_text('[storage]\ndefault = "s3\n', encoding="utf-8")
    with pytest.raises(ConfigInvalidError) as caught:
        load(file, environ={})
    assert str(file) in str(caught.value)
    assert "line 2, column" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigInvalidError, match=why) as caught:
            load(path, environ={})
        assert str(path) in str(caught.value)
    latin = tmp_path / "latin.toml"
    latin.write_bytes('a = "é"'.encode("latin-1"))
    with pytest.raises(ConfigInvalidError, match="UTF-8"):
        load(latin, environ={})


def test_a_driver_whose_module_cannot_be_imported_is_told() -> None:
    class Broken(Registry):
        def names(self, kind: str) -> list[str]:
            return ["broken", *super().names(kind)]

        def get(self, kind: str, driver: str) -> Backend[Any]:
            if driver == "broken":
                raise ImportError("no such module")
            return super().get(kind, driver)

    registry = Broken()
    registry.register(Backend("storage.demo", Demo, _open, frozenset()))
    table = _table()
    table["storage"]["backends"]["x"] = {"driver": "broken"}
    with pytest.raises(ConfigInvalidError, match="could not be loaded: ImportError"):
        load(table, environ={}, registry=registry)
