"""What is opened is closed, in order and once; loops, threads and forks have their own."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cm_platform import AsyncPlatform, Tenant
from cm_platform.errors import UnavailableError

from .test_platform_services import ACME, House, house

__all__ = ["house"]


def test_the_last_opened_is_closed_first(house: House) -> None:
    rules = [{"tenants": [name], "route": name} for name in ("b", "c")]
    with house.platform("a", "b", "c", rules=rules) as platform:
        for name in ("b", "a", "c"):
            platform.get_service("storage", Tenant(name)).put("k", b"")
    assert house.log == [f"opened {n}" for n in "bac"] + [f"closed {n}" for n in "cab"]


def test_closing_twice_closes_once(house: House) -> None:
    platform = house.platform()
    platform.get_service("storage", ACME).put("k", b"")
    platform.close()
    platform.close()
    assert house.log == ["opened one", "closed one"]


def test_closing_twice_on_the_async_face(house: House) -> None:
    async def run() -> None:
        platform = house.async_platform()
        await platform.get_service("storage", ACME).put("k", b"")
        await platform.close()
        await platform.close()

    asyncio.run(run())
    assert house.log == ["opened one", "closed one"]


def test_one_that_will_not_close_does_not_keep_the_others_open(house: House) -> None:
    rules = [{"tenants": ["stubborn"], "route": "stubborn"}]
    platform = house.platform("one", "stubborn", rules=rules)
    for name in ("one", "stubborn"):
        platform.get_service("storage", Tenant(name)).put("k", b"")
    with pytest.raises(OSError, match="will not close"):
        platform.close()
    assert house.log[2:] == ["closed stubborn", "closed one"]
    platform.close()


def test_after_close_a_handle_is_unavailable(house: House) -> None:
    platform = house.platform()
    storage = platform.get_service("storage", ACME)
    storage.put("k", b"")
    platform.close()
    for use in (
        lambda: storage.get("k"),
        lambda: storage.put("k", b""),
        lambda: list(storage.list()),
        platform.health,
        lambda: platform.native("storage.one"),
        lambda: platform.get_service("storage", Tenant("new")).get("k"),
    ):
        with pytest.raises(UnavailableError, match="the platform was closed") as caught:
            use()
        assert caught.value.not_sent
    assert house.log == ["opened one", "closed one"]


def test_after_close_an_async_handle_is_unavailable(house: House) -> None:
    async def run() -> None:
        platform = house.async_platform()
        storage = platform.get_service("storage", ACME)
        await storage.put("k", b"")
        await platform.close()
        with pytest.raises(UnavailableError, match="the platform was closed"):
            await storage.get("k")

    asyncio.run(run())


def test_what_is_being_opened_while_it_closes_is_closed_too(house: House) -> None:
    opening, go_on = threading.Event(), threading.Event()

    def slowly(settings: object) -> None:
        opening.set()
        assert go_on.wait(10)

    house.opening = slowly
    platform = house.platform()
    storage = platform.get_service("storage", ACME)
    with ThreadPoolExecutor(2) as pool:
        put = pool.submit(storage.put, "k", b"")
        assert opening.wait(10)
        close = pool.submit(platform.close)
        while not platform._core.opener.closed:
            pass
        go_on.set()
        close.result(10)
        put.exception(10)
    assert house.log == ["opened one", "closed one"]


def test_left_open_it_complains(house: House) -> None:
    platform = house.platform()
    platform.get_service("storage", ACME).put("k", b"")
    with pytest.warns(ResourceWarning, match="Platform was left open: use a with block or close"):
        del platform
        gc.collect()


def test_left_open_the_async_one_complains(house: House) -> None:
    async def run() -> AsyncPlatform:
        platform = house.async_platform()
        await platform.get_service("storage", ACME).put("k", b"")
        return platform

    platform = asyncio.run(run())
    with pytest.warns(ResourceWarning, match="AsyncPlatform was left open: .* await close"):
        del platform
        gc.collect()


def test_what_opened_nothing_or_was_closed_does_not_complain(house: House) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        house.platform()
        with house.platform() as platform:
            platform.get_service("storage", ACME).put("k", b"")
        del platform
        gc.collect()


def test_a_platform_that_was_never_made_does_not_complain() -> None:
    from cm_platform import Platform

    with pytest.raises(TypeError):
        Platform()  # type: ignore[call-arg]
    gc.collect()


# Loops ------------------------------------------------------------------------------------


def test_each_loop_opens_what_is_its_own(house: House) -> None:
    platform = house.async_platform()
    storage = platform.get_service("storage", ACME)

    async def put() -> None:
        await storage.put("k", b"x")
        await storage.put("k", b"x")

    asyncio.run(put())
    asyncio.run(put())

    async def last() -> None:
        await put()
        await platform.close()

    asyncio.run(last())
    assert house.log == ["opened one", "opened one", "opened one", "closed one"]


def test_loops_in_several_threads_serve_one_handle(house: House) -> None:
    platform = house.async_platform()
    storage = platform.get_service("storage", ACME)
    together = threading.Barrier(4)

    async def use(number: int) -> bytes:
        together.wait(10)
        for _ in range(20):
            await storage.put(f"k{number}", b"%d" % number)
            await asyncio.sleep(0)
        return await (await storage.get(f"k{number}")).read()

    def in_a_loop(number: int) -> bytes:
        return asyncio.run(use(number))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(in_a_loop, range(4))) == [b"0", b"1", b"2", b"3"]
    assert house.log == ["opened one"] * 4
    asyncio.run(platform.close())


def test_the_sync_face_works_within_a_loop(house: House) -> None:
    async def run() -> bytes:
        with house.platform() as platform:
            storage = platform.get_service("storage", ACME)
            storage.put("k", b"x")
            return storage.get("k").read()

    assert asyncio.run(run()) == b"x"


# Forks ------------------------------------------------------------------------------------

FORK = """
import os, signal, sys, threading
import cm_platform
from cm_platform import Tenant

cm_platform.configure({"storage": {"default": "local", "backends": {
    "local": {"driver": "local", "path": sys.argv[1]}}}})
acme = cm_platform.get_service("storage", Tenant("acme"))
acme.put("k", b"parent")
opener = cm_platform.default._platform._core.opener
backend = next(iter(opener._sessions.values())).endpoints["storage", "local", None].backend
holding = threading.Event()

def hold():
    # Another thread holds every lock in the moment of the fork.
    with cm_platform.default._guard, opener._guard, opener.session().guard._lock:
        holding.set()
        done.wait(20)

done = threading.Event()
thread = threading.Thread(target=hold)
thread.start()
holding.wait(20)
child = os.fork()
if child == 0:
    signal.alarm(20)
    acme.put("k", b"child")
    assert acme.get("k").read() == b"child"
    assert cm_platform.get_service("storage", Tenant("acme")) is acme
    cm_platform.get_service("storage", Tenant("beta")).put("k", b"child")
    own = next(iter(opener._sessions.values())).endpoints["storage", "local", None].backend
    assert own is not backend
    cm_platform.close()
    sys.exit(0)
done.set()
thread.join()
_, status = os.waitpid(child, 0)
assert status == 0, status
assert acme.get("k").read() == b"child"
assert next(iter(opener._sessions.values())).endpoints["storage", "local", None].backend is backend
cm_platform.close()
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_opens_anew_and_leaves_its_parent_unharmed(tmp_path: Path) -> None:
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-W", "error", "-c", FORK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("well\n", "")
