"""`[cache.namespaces]`: parts of a cache that go elsewhere, and what they may not be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.cache.sync import Cache
from cm_platform.config import Config, load
from cm_platform.errors import ConfigInvalidError

ACME = Tenant("acme")
OTHER = Tenant("other")

KV = {
    "driver": "workers_kv",
    "gateway": {"url": "http://localhost:1", "key_id": "k", "secret": "s" * 32},
}
DO = {
    "driver": "durable_objects",
    "url": "http://localhost:1",
    "key_id": "k",
    "secret": "s" * 32,
}


def table(**changes: Any) -> dict[str, Any]:
    """A cache with two local backends, KV and Durable Objects."""
    cache: dict[str, Any] = {
        "default": "one",
        "backends": {
            "one": {"driver": "local"},
            "two": {"driver": "local"},
            "kv": KV,
            "objects": DO,
        },
    }
    return {"cache": {**cache, **changes}}


def loaded(**changes: Any) -> Config:
    return load(table(**changes), environ={})


def refused(*told: str, **changes: Any) -> str:
    """The message, which has each of these."""
    with pytest.raises(ConfigInvalidError) as caught:
        loaded(**changes)
    message = str(caught.value)
    for text in told:
        assert text in message, message
    return message


def names(**namespaces: Any) -> dict[str, Any]:
    return {"namespaces": namespaces}


# What is refused --------------------------------------------------------------------------------


def test_without_namespaces_there_is_nothing_to_say() -> None:
    assert loaded().kinds["cache"].namespaces == {}


def test_a_namespace_has_defaults() -> None:
    found = loaded(**names(plain={})).kinds["cache"].namespaces["plain"]
    assert (found.default, found.encoding, found.consistency, found.ttl) == (
        None,
        "entry",
        "eventual",
        300.0,
    )
    assert found.rules == ()


def test_an_unknown_key_names_the_nearest() -> None:
    refused(
        "cache.namespaces.sessions.defualt: unknown key (did you mean 'default'?)",
        "keys are consistency, default, encoding, rules, ttl",
        **names(sessions={"defualt": "one"}),
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"encoding": "pickle"}, "cache.namespaces.n.encoding"),
        ({"consistency": "strong"}, "cache.namespaces.n.consistency"),
        ({"ttl": 0}, "cache.namespaces.n.ttl"),
        ({"ttl": -5}, "cache.namespaces.n.ttl"),
        ({"ttl": 1e12}, "cache.namespaces.n.ttl"),
        ({"ttl": float("inf")}, "cache.namespaces.n.ttl"),
        ({"default": "three"}, "cache.namespaces.n.default: 'three' is no backend"),
        ({"default": "to-kv:shadow"}, "cache.namespaces.n.default"),
        ({"default": ""}, "cache.namespaces.n.default: is missing"),
        ({"rules": {}}, "cache.namespaces.n.rules: must be a list"),
        ("one", "cache.namespaces.n"),
    ],
)
def test_a_setting_that_is_none_is_refused_by_its_path(settings: Any, told: str) -> None:
    refused(told, **names(n=settings))


@pytest.mark.parametrize("name", ["Sessions", "a b", "a:b", "~", "a!g", "", "a" * 64])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    refused("cache.namespaces", namespaces={name: {}})


def test_rules_need_a_default_for_all_others() -> None:
    refused(
        "cache.namespaces.n.rules: need a default beside them",
        **names(n={"rules": [{"tenants": ["acme"], "route": "two"}]}),
    )


def test_a_rule_is_checked_as_the_kinds_own_are() -> None:
    refused(
        "cache.namespaces.n.rules[0].route: ",
        "cache.namespaces.n.rules[1].tenants[0]",
        "cache.namespaces.n.rules[2].percent",
        **names(
            n={
                "default": "one",
                "rules": [
                    {"tenants": ["acme"], "route": "tow"},
                    {"tenants": ["No Tenant"], "route": "two"},
                    {"percent": 101, "route": "two"},
                ],
            }
        ),
    )


def test_storage_has_none() -> None:
    with pytest.raises(ConfigInvalidError, match=r"storage\.namespaces: unknown key"):
        load(
            {
                "storage": {
                    "default": "one",
                    "backends": {"one": {"driver": "local", "path": "/nowhere"}},
                    "namespaces": {"n": {}},
                }
            },
            environ={},
        )


# What is promised -------------------------------------------------------------------------------


def test_read_your_writes_is_refused_on_kv_and_the_alternatives_are_named() -> None:
    refused(
        "cache.namespaces.sessions.consistency",
        "'kv' (workers_kv) is only eventually consistent",
        "one of these as its default: objects, one, two",
        **names(sessions={"default": "kv", "consistency": "read_your_writes"}),
    )


def test_without_an_alternative_the_drivers_are_named() -> None:
    message = refused(
        "'kv' (workers_kv)",
        "configure a backend whose driver is one of",
        default="kv",
        backends={"kv": KV},
        **names(sessions={"consistency": "read_your_writes"}),
    )
    for driver in ("durable_objects", "local", "redis"):
        assert driver in message.partition("one of")[2]
    assert "workers_kv" not in message.partition("one of")[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"default": "kv", "namespaces": {"n": {"consistency": "read_your_writes"}}},
        {
            "rules": [{"tenants": ["acme"], "route": "kv"}],
            "namespaces": {"n": {"consistency": "read_your_writes"}},
        },
        {
            "namespaces": {
                "n": {
                    "default": "one",
                    "consistency": "read_your_writes",
                    "rules": [{"tenants": ["acme"], "route": "kv"}],
                }
            }
        },
    ],
    ids=["the kind's default", "a rule of the kind", "a rule of its own"],
)
def test_read_your_writes_is_refused_wherever_a_route_leads(changes: dict[str, Any]) -> None:
    refused("cache.namespaces.n.consistency", "'kv'", **changes)


def test_what_promises_enough_may_be_asked_for_it() -> None:
    for backend in ("one", "objects"):
        settings = {"default": backend, "consistency": "read_your_writes"}
        found = loaded(**names(n=settings)).kinds["cache"].namespaces["n"]
        assert found.consistency == "read_your_writes"
    # Where the kind goes does not matter to a namespace that goes elsewhere.
    loaded(default="kv", **names(n={"default": "objects", "consistency": "read_your_writes"}))


def test_a_flag_service_might_lead_anywhere() -> None:
    refused(
        "cache.namespaces.n.consistency",
        "'kv'",
        'a flag may lead there: use flags = "rules"',
        flags="openfeature",
        **names(n={"default": "one", "consistency": "read_your_writes"}),
    )
    loaded(
        flags="openfeature",
        backends={"one": {"driver": "local"}, "two": {"driver": "local"}},
        **names(n={"default": "one", "consistency": "read_your_writes"}),
    )


def test_rules_are_refused_where_a_flag_service_is_asked() -> None:
    rules = [{"tenants": ["acme"], "route": "two"}]
    refused(
        "cache.namespaces.n.rules: are not asked",
        flags="openfeature",
        **names(n={"default": "one", "rules": rules}),
    )


# Where it leads ---------------------------------------------------------------------------------

ROUTED: dict[str, dict[str, Any]] = {
    "sessions": {"default": "two", "ttl": 50.0},
    "beta": {"default": "one", "rules": [{"tenants": ["acme"], "route": "two"}]},
    "shared": {"encoding": "raw"},
}


class Routed:
    """A platform, and which of its two backends has a value."""

    def __init__(self, platform: Platform | AsyncPlatform, runner: asyncio.Runner | None) -> None:
        self.platform = platform
        self._runner = runner

    def run(self, result: Any) -> Any:
        return result if self._runner is None else self._runner.run(_awaited(result))

    def cache(self, tenant: Tenant = ACME, namespace: str = "default") -> Any:
        found: Any = self.platform.get_service("cache", tenant)
        return found.namespace(namespace)

    def where(self, tenant: Tenant, namespace: str) -> str:
        """The backend that keeps what is set."""
        self.run(self.cache(tenant, namespace).set("key", b"value"))
        ending = b"key" if namespace == "shared" else f"~{namespace}:key".encode()
        name = f"{tenant.id}/".encode() + ending
        found = [
            backend
            for backend in ("one", "two")
            if name in self.run(self.platform.native(f"cache.{backend}")).keys()  # noqa: SIM118
        ]
        self.run(self.cache(tenant, namespace).delete("key"))
        (only,) = found
        return only


async def _awaited(result: Any) -> Any:
    return await result


@pytest.fixture(params=["sync", "async"])
def routed(request: pytest.FixtureRequest) -> Iterator[Routed]:
    config = loaded(namespaces=ROUTED)
    if request.param == "sync":
        with Platform(config) as platform:
            yield Routed(platform, None)
        return
    with asyncio.Runner() as runner:
        made = Routed(AsyncPlatform(config), runner)
        yield made
        made.run(made.platform.close())


@pytest.mark.parametrize(
    ("tenant", "namespace", "backend"),
    [
        (ACME, "default", "one"),
        (ACME, "unnamed", "one"),
        (ACME, "shared", "one"),
        (ACME, "sessions", "two"),
        (OTHER, "sessions", "two"),
        (ACME, "beta", "two"),
        (OTHER, "beta", "one"),
    ],
)
def test_a_namespace_goes_where_its_rules_lead(
    routed: Routed, tenant: Tenant, namespace: str, backend: str
) -> None:
    assert routed.where(tenant, namespace) == backend


def test_namespaces_are_apart_whatever_their_backend(routed: Routed) -> None:
    for name in ("default", "sessions", "beta"):
        routed.run(routed.cache(ACME, name).set("key", name))
    routed.run(routed.cache(ACME, "sessions").clear())
    found = [
        routed.run(routed.cache(ACME, name).get("key")) for name in ("default", "sessions", "beta")
    ]
    assert found == ["default", None, "beta"]


def test_a_ttl_is_the_namespaces(routed: Routed) -> None:
    for name, ttl in (("sessions", 50), ("default", 300)):
        routed.run(routed.cache(ACME, name).set("key", 1))
        assert routed.run(routed.cache(ACME, name).ttl("key")) == pytest.approx(ttl, abs=5)


def test_one_that_is_not_configured_is_as_the_default_one_routes_included() -> None:
    namespaces = {"default": {"default": "two", "ttl": 20.0, "consistency": "read_your_writes"}}
    with Platform(loaded(namespaces=namespaces)) as platform:
        routed = Routed(platform, None)
        assert routed.where(ACME, "default") == "two"
        assert routed.where(ACME, "unnamed") == "two"
        cache: Cache = routed.cache(ACME, "unnamed")
        cache.set("key", 1)
        assert cache.ttl("key") == pytest.approx(20, abs=5)


# Reload -----------------------------------------------------------------------------------------


def test_a_reload_moves_a_namespace_and_held_handles_follow(routed: Routed) -> None:
    held = routed.cache(ACME, "sessions")
    routed.run(held.set("key", "two"))
    moved = {**ROUTED, "sessions": {"default": "one", "ttl": 50.0}}
    routed.platform.reload(loaded(namespaces=moved))
    assert routed.run(held.get("key")) is None
    routed.run(held.set("key", "one"))
    routed.platform.reload(loaded(namespaces=ROUTED))
    assert routed.run(held.get("key")) == "two"


def test_what_one_backend_was_cleared_of_another_still_has(routed: Routed) -> None:
    """Generations belong to a store: knowing the other one's would lose counters, and hits."""
    held = routed.cache(ACME, "sessions")
    moved = {**ROUTED, "sessions": {"default": "one", "ttl": 50.0}}
    routed.run(held.set("key", "two"))
    routed.run(held.increment("count", 5))
    routed.platform.reload(loaded(namespaces=moved))
    routed.run(held.set("key", "one"))
    routed.run(held.clear())
    assert routed.run(held.get("key")) is None
    routed.platform.reload(loaded(namespaces=ROUTED))
    assert routed.run(held.get("key")) == "two"
    assert routed.run(held.increment("count")) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl": 51.0},
        {"encoding": "raw"},
        {"default": None},
        {"consistency": "read_your_writes"},
    ],
)
def test_a_reload_that_changes_more_is_refused(routed: Routed, changes: dict[str, Any]) -> None:
    settings = {**ROUTED["sessions"], **changes}
    settings = {name: value for name, value in settings.items() if value is not None}
    with pytest.raises(ConfigInvalidError, match=r"cache\.namespaces"):
        routed.platform.reload(loaded(namespaces={**ROUTED, "sessions": settings}))
    assert routed.run(routed.cache(ACME, "sessions").set("key", 1)) is True


def test_a_reload_to_a_backend_that_promises_too_little_is_refused() -> None:
    settings = {"default": "one", "consistency": "read_your_writes"}
    with Platform(loaded(**names(n=settings))) as platform:
        with pytest.raises(ConfigInvalidError, match="eventually consistent"):
            platform.reload(table(**names(n={**settings, "default": "kv"})))
        platform.get_service("cache", ACME).namespace("n").set("key", 1)


def test_explain_tells_of_namespaces() -> None:
    told = {setting.path: setting.value for setting in loaded(namespaces=ROUTED).explain()}
    assert told["cache.namespaces.sessions.default"] == "two"
    assert any(path.startswith("cache.namespaces.beta.rules") for path in told)


def test_what_a_backends_configuration_takes_away_is_not_promised() -> None:
    lagging = {"driver": "redis", "url": "redis://127.0.0.1", "staleness": 5}
    backends = {"one": {"driver": "local"}, "replica": lagging}
    refused(
        "cache.namespaces.sessions.consistency",
        "'replica' (redis)",
        "one",
        backends=backends,
        **names(sessions={"default": "replica", "consistency": "read_your_writes"}),
    )
    whole = {**lagging, "staleness": 0}
    config = loaded(
        backends={**backends, "replica": whole},
        **names(sessions={"default": "replica", "consistency": "read_your_writes"}),
    )
    assert config.kinds["cache"].namespaces["sessions"].default == "replica"
