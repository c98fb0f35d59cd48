"""The platforms behind `cm_platform.get_service`: configured once, closed at exit."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cm_platform
from cm_platform import Tenant
from cm_platform.errors import ConfigInvalidError, InvalidArgumentError, UnavailableError

ACME = Tenant("acme")


def forget() -> None:
    from cm_platform import default

    cm_platform.close()
    asyncio.run(cm_platform.aclose())
    default._config = None


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("CM_PLATFORM_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    forget()
    yield
    forget()


def test_nothing_configured_names_the_three_ways() -> None:
    with pytest.raises(ConfigInvalidError) as caught:
        cm_platform.get_service("storage", ACME)
    for way in ('configure("cm_platform.toml")', "CM_PLATFORM_CONFIG", "configure(embedded=True)"):
        assert way in caught.value.message
    assert not Path(".cm_platform").exists()


def test_the_environment_names_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("platform.toml").write_text(
        '[storage]\ndefault = "local"\n'
        '[storage.backends.local]\ndriver = "local"\npath = "files"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("CM_PLATFORM_CONFIG", "platform.toml")
    cm_platform.get_service("storage", ACME).put("k", b"x")
    assert Path("files").is_dir()


def test_the_second_time_it_is_the_same_service() -> None:
    cm_platform.configure(embedded=True)
    assert cm_platform.get_service("storage", ACME) is cm_platform.get_service("storage", ACME)
    assert cm_platform.get_async_service("storage", ACME) is cm_platform.get_async_service(
        "storage", ACME
    )


def test_both_faces_see_one_store() -> None:
    cm_platform.configure(embedded=True)
    cm_platform.get_service("storage", ACME).put("k", b"x")

    async def read() -> bytes:
        found = await cm_platform.get_async_service("storage", ACME).get("k")
        body = await found.read()
        await cm_platform.aclose()
        return body

    assert asyncio.run(read()) == b"x"


def test_configured_again_handles_of_before_are_unavailable() -> None:
    cm_platform.configure(embedded=True)
    before = cm_platform.get_service("storage", ACME)
    before.put("k", b"x")
    cm_platform.configure(embedded=True)
    with pytest.raises(UnavailableError, match="the platform was closed"):
        before.get("k")
    after = cm_platform.get_service("storage", ACME)
    assert after is not before
    assert after.get("k").read() == b"x"


def test_a_bad_configuration_changes_nothing() -> None:
    cm_platform.configure(embedded=True)
    storage = cm_platform.get_service("storage", ACME)
    with pytest.raises(ConfigInvalidError):
        cm_platform.configure({"storag": {}})
    with pytest.raises(InvalidArgumentError):
        cm_platform.configure("x.toml", embedded=True)
    storage.put("k", b"x")
    assert cm_platform.get_service("storage", ACME) is storage


def test_configured_again_an_async_platform_that_is_open_complains() -> None:
    cm_platform.configure(embedded=True)

    async def put() -> None:
        await cm_platform.get_async_service("storage", ACME).put("k", b"x")

    asyncio.run(put())
    with pytest.warns(ResourceWarning, match="AsyncPlatform was left open"):
        cm_platform.configure(embedded=True)
        gc.collect()


def test_several_loops_one_after_another() -> None:
    cm_platform.configure(embedded=True)

    async def use(number: int) -> bytes:
        storage = cm_platform.get_async_service("storage", ACME)
        await storage.put(f"k{number}", b"x")
        return await (await storage.get("k0")).read()

    assert [asyncio.run(use(number)) for number in range(3)] == [b"x"] * 3


def test_several_loops_at_once() -> None:
    cm_platform.configure(embedded=True)
    together = threading.Barrier(4)

    async def use(number: int) -> bytes:
        together.wait(10)
        storage = cm_platform.get_async_service("storage", Tenant(f"t{number}"))
        await storage.put("k", b"%d" % number)
        return await (await storage.get("k")).read()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: asyncio.run(use(number)), range(4)))
    assert found == [b"0", b"1", b"2", b"3"]


def test_closed_it_can_be_used_again() -> None:
    cm_platform.configure(embedded=True)
    cm_platform.get_service("storage", ACME).put("k", b"x")
    cm_platform.close()
    cm_platform.close()
    assert cm_platform.get_service("storage", ACME).get("k").read() == b"x"


def test_many_threads_make_one_platform() -> None:
    cm_platform.configure(embedded=True)
    together = threading.Barrier(16)

    def get(number: int) -> int:
        together.wait(10)
        return id(cm_platform.get_service("storage", ACME))

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(get, range(16)))) == 1


@pytest.mark.parametrize("get", [cm_platform.get_service, cm_platform.get_async_service])
@pytest.mark.parametrize("tenant", ["acme", {"id": "acme"}])
def test_a_tenant_must_be_a_tenant(get: object, tenant: object) -> None:
    cm_platform.configure(embedded=True)
    with pytest.raises(InvalidArgumentError, match=r"a tenant is a cm_platform\.Tenant"):
        get("storage", tenant)  # type: ignore[operator]


def test_it_closes_at_exit_without_a_word(tmp_path: Path) -> None:
    program = (
        "import cm_platform\n"
        "cm_platform.configure(embedded=True)\n"
        "cm_platform.get_service('storage', cm_platform.Tenant('acme')).put('k', b'x')\n"
    )
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
