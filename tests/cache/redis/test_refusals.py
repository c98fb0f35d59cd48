"""What Redis refuses, in our terms; and that no message repeats a key, a value, a password."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import redis.exceptions as sdk
from redis._parsers.base import BaseParser

from cm_platform.cache.redis import RedisCache
from cm_platform.cache.redis.errors import refused
from cm_platform.errors import (
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    QuotaExceededError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from cm_platform.testing.servers.process import free_port
from cm_platform.testing.servers.valkey import ValkeyServer, ask

from .redis_faces import Face, config, entry, failure, on, one

SECRET = "hush-hush"


def reply(text: str) -> Exception:
    """An error reply, as the SDK's parser makes it."""
    parser: Any = BaseParser
    made: Exception = parser.parse_error(text)
    return made


@pytest.mark.parametrize(
    ("text", "error", "retryable"),
    [
        ("LOADING Valkey is loading the dataset in memory", UnavailableError, True),
        ("READONLY You can't write against a read only replica.", UnavailableError, True),
        ("CLUSTERDOWN The cluster is down", UnavailableError, True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", UnavailableError, True),
        ("MASTERDOWN Link with MASTER is down", UnavailableError, True),
        ("BUSY Valkey is busy running a script.", UnavailableError, True),
        ("ERR max concurrent connections exceeded", UnavailableError, True),
        ("MISCONF Errors writing to the AOF file", UnavailableError, False),
        ("NOAUTH Authentication required.", UnauthenticatedError, False),
        ("WRONGPASS invalid username-password pair", UnauthenticatedError, False),
        ("NOPERM User x has no permissions to run the 'get' command", PermissionDeniedError, False),
        ("OOM command not allowed when used memory > 'maxmemory'.", QuotaExceededError, False),
        ("ERR max requests limit exceeded. Limit: 10, Usage: 10", QuotaExceededError, False),
        ("ERR max daily request limit exceeded", QuotaExceededError, False),
        ("ERR DB capacity quota exceeded", QuotaExceededError, False),
        ("ERR max requests per second limit exceeded", RateLimitedError, True),
        ("ERR max request size exceeded. Limit: 1 bytes", InvalidArgumentError, False),
        ("ERR max single record size exceeded", InvalidArgumentError, False),
        ("ERR unknown command 'EVALSHA', with args: 'k' 'v'", UnsupportedError, False),
        ("MOVED 3999 127.0.0.1:6381", ConfigInvalidError, False),
        ("CROSSSLOT Keys in request don't hash to the same slot", ConfigInvalidError, False),
    ],
)
def test_a_refusal_had_no_effect_and_says_whether_to_try_again(
    text: str, error: type[PlatformError], retryable: bool
) -> None:
    found = refused(reply(text))
    assert type(found) is error
    assert found.retryable is retryable
    assert found.not_sent


def test_an_unknown_refusal_leaves_room_for_doubt_and_repeats_nothing() -> None:
    found = refused(reply(f"ERR odd '{SECRET}'"))
    assert type(found) is InternalError
    assert not found.not_sent
    assert SECRET not in str(found)


def test_each_refusal_is_an_error_of_its_own() -> None:
    answer = reply("OOM full")
    assert refused(answer) is not refused(answer)


def test_what_the_sdk_raises_elsewhere_is_classified(server: ValkeyServer) -> None:
    async def scenario(cache: RedisCache) -> None:
        unavailable = cache.translate(sdk.ConnectionError("gone"))
        assert isinstance(unavailable, UnavailableError)
        assert not unavailable.not_sent
        late = cache.translate(sdk.TimeoutError("late"))
        assert late is not None
        assert late.code == "deadline_exceeded"
        assert isinstance(cache.translate(reply("NOPERM no")), PermissionDeniedError)
        assert cache.translate(ValueError("ours")) is None

    on("blocking", config(server.url), scenario)


@pytest.fixture(scope="module")
def guarded() -> Iterator[ValkeyServer]:
    users = {
        "reader": "on >reading ~* +@read +@connection",
        "narrow": "on >narrow ~* +get +mget +set",
    }
    with ValkeyServer(password="open/sesame", users=users) as server:
        yield server


def at(server: ValkeyServer, login: str) -> str:
    return f"redis://{login}@127.0.0.1:{server.port}"


def test_the_right_password_is_accepted(face: Face, guarded: ValkeyServer, partition: str) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"1", ttl=None)
        assert await one(cache, partition, "a") == b"1"

    on(face, config(guarded.url, client_name="tests"), scenario)


@pytest.mark.parametrize("login", [f":{SECRET}", f"reader:{SECRET}", f"nobody:{SECRET}"])
def test_a_wrong_password_is_unauthenticated_before_anything_is_sent(
    face: Face, guarded: ValkeyServer, partition: str, login: str
) -> None:
    async def scenario(cache: RedisCache) -> PlatformError:
        return await failure(cache, cache.get_many(partition, [SECRET]))

    error = on(face, config(at(guarded, login)), scenario)
    assert isinstance(error, UnauthenticatedError)
    assert error.not_sent
    assert not error.retryable
    assert SECRET not in "".join(traceback.format_exception(error))


def test_no_password_where_one_is_needed_is_unauthenticated(
    face: Face, guarded: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> PlatformError:
        return await failure(cache, cache.get_many(partition, ["a"]))

    url = f"redis://127.0.0.1:{guarded.port}"
    assert isinstance(on(face, config(url), scenario), UnauthenticatedError)


def test_what_the_rules_forbid_is_permission_denied(
    face: Face, guarded: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        assert await one(cache, partition, "a") is None
        for call in (
            cache.set(partition, "a", b"1", ttl=None),
            cache.delete_many(partition, ["a"]),
            cache.increment(partition, "a", 1, initial=entry(1, b"1"), ttl=None),
        ):
            error = await failure(cache, call)
            assert isinstance(error, PermissionDeniedError)
            assert error.not_sent
        many = await cache.set_many(partition, {"a": b"1", "b": b"2"}, ttl=None)
        assert set(many.failures) == {"a", "b"}
        assert many.failures["a"] is not many.failures["b"]

    on(face, config(at(guarded, "reader:reading")), scenario)


def test_a_user_who_may_not_even_ping_can_read_and_write(
    face: Face, guarded: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"1", ttl=5)
        assert await one(cache, partition, "a") == b"1"
        assert isinstance(await failure(cache, cache.ping()), PermissionDeniedError)

    on(face, config(at(guarded, "narrow:narrow")), scenario)


def test_a_failed_read_along_leaves_no_doubt_that_the_write_was_sent(
    face: Face, partition: str
) -> None:
    users = {"writer": "on >writing ~* +set +evalsha +eval +incrby +@connection"}
    with ValkeyServer(users=users) as server:

        async def scenario(cache: RedisCache) -> None:
            error = await failure(cache, cache.set(partition, "a", b"1", ttl=None, along=["a"]))
            assert isinstance(error, PermissionDeniedError)
            assert not error.not_sent

        on(face, config(at(server, "writer:writing")), scenario)
        assert ask(server.port, "GET", f"{partition}a") == b"1"


def test_a_full_server_is_a_quota_and_still_answers_reads(face: Face, partition: str) -> None:
    settings = {"maxmemory": "1mb", "maxmemory-policy": "noeviction"}
    with ValkeyServer(settings=settings) as server:

        async def scenario(cache: RedisCache) -> None:
            values = {f"k{number}": bytes(100_000) for number in range(100)}
            many = await cache.set_many(partition, values, ttl=None)
            assert many.failures
            assert all(isinstance(e, QuotaExceededError) for e in many.failures.values())
            for call in (
                cache.set(partition, "a", b"1", ttl=None),
                cache.increment(partition, "n", 1, initial=entry(1, b"1"), ttl=None),
                cache.increment(partition, "n", 1, initial=None, ttl=None),
            ):
                error = await failure(cache, call)
                assert isinstance(error, QuotaExceededError)
                assert error.not_sent
            assert await one(cache, partition, "a") is None

        on(face, config(server.url), scenario)


def test_a_full_house_of_clients_is_unavailable(face: Face, partition: str) -> None:
    async def scenario(cache: RedisCache) -> PlatformError:
        return await failure(cache, cache.get_many(partition, ["a"]))

    with (
        ValkeyServer(settings={"maxclients": "1"}) as server,
        socket.create_connection(("127.0.0.1", server.port)) as taken,
    ):
        taken.sendall(b"PING\r\n")
        assert taken.recv(64)
        error = on(face, config(server.url), scenario)
    assert isinstance(error, UnavailableError)
    assert "no room for another connection" in error.message
    assert error.retryable
    assert error.not_sent


def test_a_server_that_is_not_there_is_unavailable_and_nothing_was_sent(
    face: Face, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> PlatformError:
        return await failure(cache, cache.set(partition, SECRET, SECRET.encode(), ttl=None))

    error = on(face, config(f"redis://:{SECRET}@127.0.0.1:{free_port()}"), scenario)
    assert isinstance(error, UnavailableError)
    assert (error.retryable, error.not_sent) == (True, True)
    assert SECRET not in "".join(traceback.format_exception(error))


def test_nothing_that_fails_shows_a_key_or_a_value(
    face: Face,
    server: ValkeyServer,
    partition: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(server.port, "RPUSH", f"{partition}{SECRET}", "1")

    async def scenario(cache: RedisCache) -> list[str]:
        value = SECRET.encode()
        shown: list[str] = []
        for call in (
            cache.increment(partition, SECRET, 1, initial=None, ttl=None),
            cache.increment(partition, SECRET, 1, initial=entry(1, value), ttl=5),
            cache.compare_and_set(partition, SECRET, value, value, ttl=None),
            cache.ttl(partition, SECRET + "-absent"),
        ):
            try:
                await call
            except PlatformError as error:
                shown.append("".join(traceback.format_exception(error)))
        return shown

    shown = on(face, config(server.url), scenario)
    assert len(shown) == 4
    assert all(SECRET not in text for text in shown)
    assert SECRET not in caplog.text
