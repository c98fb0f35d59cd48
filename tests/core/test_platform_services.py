"""A platform hands out services, opens backends once, follows its configuration."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.config import Config, load
from cm_platform.errors import (
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    UnavailableError,
)
from cm_platform.registry import Backend, Registry
from cm_platform.runtime import Runtime
from cm_platform.storage.local import LocalConfig, LocalStorage

ACME, BETA = Tenant("acme"), Tenant("beta")


class Settings(BaseModel):
    """Of the backend below, which a third party might have written."""

    path: Path
    name: str = "one"


class Watched(LocalStorage):
    """Files in a directory; writes down when it is closed."""

    def __init__(self, config: Settings, runtime: Runtime, log: list[str]) -> None:
        (config.path / "objects").mkdir(parents=True, exist_ok=True)
        (config.path / "uploads").mkdir(exist_ok=True)
        (config.path / "locks").mkdir(exist_ok=True)
        super().__init__(LocalConfig(path=config.path), runtime)
        self.name = config.name
        self.log = log

    async def close(self) -> None:
        self.log.append(f"closed {self.name}")
        if self.name == "stubborn":
            raise OSError("will not close")


class House:
    """A registry with that backend, and what happened to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[str] = []
        self.opening: Callable[[Settings], None] = lambda settings: None
        self.registry = Registry()
        self.registry.register(
            Backend("storage.watched", Settings, self._open, frozenset(), extra="watched")
        )

    async def _open(self, settings: Settings, runtime: Runtime) -> Watched:
        self.opening(settings)
        self.log.append(f"opened {settings.name}")
        return Watched(settings, runtime, self.log)

    def config(self, *names: str, **table: Any) -> Config:
        backends = {
            name: {"driver": "watched", "path": str(self.root / name), "name": name}
            for name in names or ("one",)
        }
        storage = {"default": next(iter(backends)), "backends": backends, **table}
        return load({"storage": storage}, environ={}, registry=self.registry)

    def platform(self, *names: str, **table: Any) -> Platform:
        return Platform(self.config(*names, **table), registry=self.registry)

    def async_platform(self, *names: str, **table: Any) -> AsyncPlatform:
        return AsyncPlatform(self.config(*names, **table), registry=self.registry)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def platform(house: House) -> Iterator[Platform]:
    with house.platform() as opened:
        yield opened


# Services ---------------------------------------------------------------------------------


def test_the_second_time_it_is_the_same_service(platform: Platform) -> None:
    assert platform.get_service("storage", ACME) is platform.get_service("storage", Tenant("acme"))
    assert platform.get_service("storage", ACME) is not platform.get_service("storage", BETA)


def test_many_threads_get_the_same_service(platform: Platform) -> None:
    for number in range(50):
        tenant = Tenant(f"t{number}")
        together = threading.Barrier(8)

        def get(tenant: Tenant = tenant, together: threading.Barrier = together) -> int:
            together.wait(10)
            return id(platform.get_service("storage", tenant))

        with ThreadPoolExecutor(8) as pool:
            assert len({f.result() for f in [pool.submit(get) for _ in range(8)]}) == 1


def test_getting_a_service_opens_nothing(house: House) -> None:
    with house.platform() as platform:
        platform.get_service("storage", ACME)
        assert house.log == []


def test_handles_remembered_are_bounded(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cm_platform.assembly.SERVICES_KEPT", 10)
    first = platform.get_service("storage", ACME)
    for number in range(50):
        platform.get_service("storage", Tenant(f"t{number}"))
    assert len(platform._services) == 10
    assert platform.get_service("storage", ACME) is not first


@pytest.mark.parametrize("tenant", ["acme", None, 7, b"acme"])
def test_a_tenant_must_be_a_tenant(platform: Platform, tenant: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"a tenant is a cm_platform\.Tenant, not"):
        platform.get_service("storage", tenant)


@pytest.mark.parametrize("tenant", [{"id": "acme"}, ["acme"]])
def test_a_tenant_that_cannot_be_a_key_is_refused_alike(platform: Platform, tenant: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"a tenant is a cm_platform\.Tenant, not"):
        platform.get_service("storage", tenant)


@pytest.mark.parametrize("kind", ["storag", "", "Storage", None, 7, ["storage"]])
def test_a_kind_must_be_one_that_there_is(platform: Platform, kind: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"there is no service called .* storage"):
        platform.get_service(kind, ACME)


def test_a_kind_that_is_not_configured_says_so() -> None:
    with (
        Platform(load({}, environ={})) as platform,
        pytest.raises(ConfigInvalidError, match=r"storage is not configured: add a \[storage\]"),
    ):
        platform.get_service("storage", ACME)


def test_two_tenants_share_one_backend_and_no_object(house: House) -> None:
    with house.platform() as platform:
        acme, beta = (platform.get_service("storage", tenant) for tenant in (ACME, BETA))
        acme.put("k", b"acme's")
        with pytest.raises(NotFoundError):
            beta.get("k")
        beta.put("k", b"beta's")
        assert acme.get("k").read() == b"acme's"
        assert [listed.key for listed in beta.list()] == ["k"]
    assert house.log == ["opened one", "closed one"]


def test_a_tenant_with_a_configuration_of_its_own_gets_a_backend_of_its_own(house: House) -> None:
    own = {"acme": {"backends": {"one": {"name": "acme's", "path": str(house.root / "own")}}}}
    with house.platform(tenants=own) as platform:
        for tenant in (ACME, BETA, Tenant("gamma")):
            platform.get_service("storage", tenant).put("k", tenant.id.encode())
        assert house.log == ["opened acme's", "opened one"]
        assert (house.root / "own" / "objects").exists()
        assert platform.get_service("storage", ACME).get("k").read() == b"acme"


def test_a_rule_sends_a_tenant_to_another_backend(house: House) -> None:
    rules = [{"tenants": ["beta"], "route": "two"}]
    with house.platform("one", "two", rules=rules) as platform:
        platform.get_service("storage", ACME).put("k", b"")
        assert house.log == ["opened one"]
        platform.get_service("storage", BETA).put("k", b"")
        assert house.log == ["opened one", "opened two"]


def test_a_migration_without_a_ledger_is_refused_at_the_start_with_the_reason(house: House) -> None:
    with pytest.raises(ConfigInvalidError) as caught:
        house.platform(
            "one",
            "two",
            migrations={"move": {"source": "one", "target": "two"}},
            rules=[
                {"tenants": ["beta"], "route": "two"},
                {"tenants": ["acme"], "route": "move:shadow"},
            ],
        )
    assert caught.value.message.startswith("storage.rules[1]: the route move:shadow needs a ledger")
    assert house.log == []


# Opening ----------------------------------------------------------------------------------


def test_thirty_two_threads_open_a_backend_once(house: House) -> None:
    def slowly(settings: Settings) -> None:
        time.sleep(0.02)  # so that the others arrive meanwhile

    house.opening = slowly
    together = threading.Barrier(32)
    with house.platform() as platform:

        def put(number: int) -> None:
            storage = platform.get_service("storage", Tenant(f"t{number}"))
            together.wait(10)
            storage.put("k", b"x")

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(put, range(32)))
    assert house.log == ["opened one", "closed one"]


def test_a_hundred_tasks_open_a_backend_once(house: House) -> None:
    async def run() -> None:
        async with house.async_platform() as platform:
            await asyncio.gather(
                *(
                    platform.get_service("storage", Tenant(f"t{number}")).put("k", b"x")
                    for number in range(100)
                )
            )

    asyncio.run(run())
    assert house.log == ["opened one", "closed one"]


def fails_with(error: Exception) -> Callable[[Settings], None]:
    def opening(settings: Settings) -> None:
        raise error

    return opening


def test_a_missing_sdk_names_the_extra(house: House) -> None:
    house.opening = fails_with(ModuleNotFoundError("no module", name="fancy_sdk"))
    with house.platform() as platform:
        storage = platform.get_service("storage", ACME)
        with pytest.raises(ConfigInvalidError) as caught:
            storage.put("k", b"")
    assert caught.value.message == (
        "the backend storage.watched needs fancy_sdk, which is not installed: "
        "pip install 'cm-platform[watched]'"
    )
    assert (caught.value.service, caught.value.backend) == ("storage", "one")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_whatever_goes_wrong_in_opening_is_an_error_of_ours(house: House) -> None:
    cause = RuntimeError("CANARY")
    house.opening = fails_with(cause)
    with house.platform() as platform:
        storage = platform.get_service("storage", ACME)
        with pytest.raises(InternalError, match="could not be opened: it raised Runt") as caught:
            storage.put("k", b"")
    assert caught.value.__cause__ is cause
    assert "CANARY" not in str(caught.value)


def test_a_failed_opening_is_tried_again(house: House) -> None:
    house.opening = fails_with(UnavailableError("not yet"))
    with house.platform() as platform:
        storage = platform.get_service("storage", ACME)
        with pytest.raises(UnavailableError, match="storage on one: not yet"):
            storage.put("k", b"")
        house.opening = lambda settings: None
        storage.put("k", b"")


def test_an_unknown_driver_names_the_known_ones(house: House) -> None:
    with pytest.raises(ConfigInvalidError, match="watched"):
        load(
            {"storage": {"default": "a", "backends": {"a": {"driver": "wached"}}}},
            environ={},
            registry=house.registry,
        )


# Health and native ------------------------------------------------------------------------


def test_health_asks_every_backend(house: House) -> None:
    def opening(settings: Settings) -> None:
        if settings.name == "broken":
            raise RuntimeError("CANARY")

    house.opening = opening
    with house.platform("one", "broken", "two") as platform:
        found = {health.backend: health for health in platform.health()}
    assert {name: health.ok for name, health in found.items()} == {
        "one": True,
        "broken": False,
        "two": True,
    }
    assert found["one"].error is None
    assert found["one"].latency >= 0
    assert isinstance(found["broken"].error, InternalError)
    assert "CANARY" not in repr(found)


def test_health_on_the_async_face(house: House) -> None:
    async def run() -> list[bool]:
        async with house.async_platform("one", "two") as platform:
            return [health.ok for health in await platform.health()]

    assert asyncio.run(run()) == [True, True]


def test_native_gives_the_sdks_own_client(platform: Platform, house: House) -> None:
    assert platform.native("storage.one") == house.root / "one"


@pytest.mark.parametrize("name", ["storage.two", "cache.one", "storage", "", "storage.one.x"])
def test_native_names_what_there_is(platform: Platform, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"there are: storage\.one"):
        platform.native(name)


def test_native_on_the_async_face(house: House) -> None:
    async def run() -> Any:
        async with house.async_platform() as platform:
            return await platform.native("storage.one")

    assert asyncio.run(run()) == house.root / "one"


def test_a_platform_knows_its_configuration(house: House) -> None:
    config = house.config()
    with Platform.from_config(config) as platform:
        assert platform.config is config


def test_embedded_and_a_file_exclude_each_other() -> None:
    with pytest.raises(InvalidArgumentError, match="either a configuration or embedded=True"):
        Platform.from_config("x.toml", embedded=True)


def test_embedded_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Platform.from_config(embedded=True) as platform:
        platform.get_service("storage", ACME).put("k", b"x")
    with Platform.from_config(embedded=True) as platform:
        assert platform.get_service("storage", ACME).get("k").read() == b"x"


def test_errors_of_a_service_say_where(platform: Platform) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.get_service("storage", ACME).get("missing")
    assert str(caught.value).startswith("storage.get on one: ")
