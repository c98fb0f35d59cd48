"""The settings of `cache.redis`: what they accept, what they refuse, what they never show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from cm_platform.cache.redis import RedisConfig
from cm_platform.errors import ConfigInvalidError
from cm_platform.runtime import drive

from .redis_faces import opened

PASSWORD = "p@ss/word:%"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", ("localhost", 6379, None, None, False, 0)),
        ("redis://:secret@10.0.0.7:7000/3", ("10.0.0.7", 7000, None, "secret", False, 3)),
        (
            "rediss://default:p%40ss%2Fword%3A%25@eu1-x.upstash.io:6380",
            ("eu1-x.upstash.io", 6380, "default", PASSWORD, True, 0),
        ),
        ("rediss://[::1]:7000/", ("::1", 7000, None, None, True, 0)),
    ],
)
def test_a_url_says_where_and_who(url: str, expected: tuple[Any, ...]) -> None:
    found = RedisConfig(url=SecretStr(url)).address()
    assert (
        found.host,
        found.port,
        found.username,
        found.password,
        found.tls,
        found.database,
    ) == expected


def test_single_settings_say_the_same() -> None:
    single = RedisConfig(
        host="db", port=7000, username="u", password=SecretStr(PASSWORD), tls=True, database=2
    )
    url = RedisConfig(url=SecretStr("rediss://u:p%40ss%2Fword%3A%25@db:7000/2"))
    assert single.address() == url.address()
    assert single.encrypted
    assert not RedisConfig(host="db").encrypted


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "either url, or host"),
        ({"url": "redis://a", "host": "a"}, "either url, or host"),
        ({"url": "redis://a", "port": 6379, "tls": True}, "remove port, tls"),
        ({"url": "http://a"}, "rediss://user:password@host:6379/0"),
        ({"url": "redis://"}, "rediss://user:password@host:6379/0"),
        ({"url": "redis://a:port"}, "rediss://user:password@host:6379/0"),
        ({"url": "redis://a/x"}, "number of a database"),
        ({"url": "redis://a?ssl_cert_reqs=none"}, "settings of their own"),
        ({"host": "a", "username": "u"}, "needs a password"),
        ({"host": "a", "cluster": True, "database": 1}, "database 0 only"),
        ({"url": "redis://a/1", "cluster": True}, "database 0 only"),
        ({"host": "a", "ca_file": "/x.pem"}, "for tls"),
        ({"host": "a", "client_name": "two words"}, "without spaces"),
        ({"host": "a", "pool_size": 0}, "greater than or equal to 1"),
        ({"host": "a", "read_timeout": 0}, "greater than 0"),
        ({"host": "a", "retries": 3}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RedisConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": f"redis://u:{'hush-hush'}@a:99999"},
        {"url": "redis://u:hush-hush@a/x"},
        {"url": "hush-hush"},
        {"host": "a", "password": "hush-hush", "pool_size": 0},
    ],
)
def test_no_refusal_shows_the_secret(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        RedisConfig(**settings)
    assert "hush-hush" not in str(refused.value)


def test_no_repr_shows_the_secret() -> None:
    settings = RedisConfig(url=SecretStr("redis://u:hush-hush@a"))
    cache = opened(settings)
    for one in (settings, settings.address(), cache, cache.native()):
        assert "hush-hush" not in repr(one)
    drive(cache.close())


def test_a_ca_file_that_is_not_there_is_told_when_it_is_opened() -> None:
    settings = RedisConfig(host="a", tls=True, ca_file=Path("/nowhere/ca.pem"))
    with pytest.raises(ConfigInvalidError, match="PEM file"):
        opened(settings)


def test_the_sdk_is_imported_when_it_is_opened_and_its_retries_are_off() -> None:
    script = (
        "import sys\n"
        "from cm_platform.cache.redis import BACKEND, RedisConfig\n"
        "print([m for m in ('redis', 'hiredis', 'asyncio') if m in sys.modules])\n"
        "from cm_platform.runtime import BlockingRuntime, drive\n"
        "cache = drive(BACKEND.open(RedisConfig(host='localhost'), BlockingRuntime()))\n"
        "print('redis' in sys.modules, cache.native().get_retry().get_retries())\n"
    )
    done = subprocess.run(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "True 0"]
