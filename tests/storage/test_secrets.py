"""A canary set as every credential is nowhere: not in DEBUG logs, errors, reprs or pickles."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cm_platform import PlatformError, Storage, Tenant
from cm_platform.config import load
from cm_platform.testing.faces import FACES, Face
from cm_platform.testing.servers import Endpoint, R2Server, S3Server

pytestmark = pytest.mark.xdist_group("secrets")

CANARY = "CaNaRy0123456789CaNaRy0123456789"
MIB = 1024 * 1024


@pytest.fixture(scope="module", params=["s3", "r2"])
def backend(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A backend's table whose every credential is the canary, which the server refuses."""
    server_class: type[S3Server | R2Server] = S3Server if request.param == "s3" else R2Server
    with server_class() as server:
        yield table(request.param, server.new_bucket())


def table(driver: str, endpoint: Endpoint) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "driver": driver,
        "bucket": endpoint.bucket,
        "endpoint": endpoint.url,
        "access_key_id": f"{CANARY}-id",
        "secret_access_key": f"{CANARY}-secret",
    }
    if driver == "s3":
        return {**settings, "region": endpoint.region, "session_token": f"{CANARY}-token"}
    return {**settings, "account_id": "0" * 32}


@pytest.fixture(params=FACES)
def storage(
    request: pytest.FixtureRequest, backend: dict[str, Any]
) -> Iterator[tuple[Face, Storage]]:
    signing = {"keys": {"k": f"{CANARY}-signing-key"}}
    with Face(request.param, "storage", backend, layout="{tenant}/{key}", signing=signing) as face:
        yield face, face.get_service(Tenant("acme"))


CALLS: dict[str, Callable[[Storage], object]] = {
    "get": lambda s: s.get("k"),
    "put": lambda s: s.put("k", b"value", metadata={"a": "b"}),
    "put in parts": lambda s: s.put("k", bytes(11 * MIB), part_size=5 * MIB),
    "create": lambda s: s.put("k", b"value", if_none_match="*"),
    "head": lambda s: s.head("k"),
    "odd key": lambda s: s.get("a//b"),
    "delete": lambda s: s.delete("k"),
    "copy": lambda s: s.copy("k", "l"),
    "list": lambda s: list(s.list()),
    "ping": lambda s: s.ping(),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_that_a_refused_call_leaves_behind_has_the_canary(
    storage: tuple[Face, Storage], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, service = storage
    with caplog.at_level(logging.DEBUG), pytest.raises(PlatformError) as caught:
        CALLS[name](service)
    error = caught.value
    assert error.code in ("unauthenticated", "permission_denied")
    told = [
        str(error),
        repr(error),
        repr(error.to_dict()),
        "".join(traceback.format_exception(error)),
        repr(pickle.dumps(error)),
        caplog.text,
    ]
    assert not [text for text in told if CANARY in text]


def test_delete_many_says_nothing_either(
    storage: tuple[Face, Storage], caplog: pytest.LogCaptureFixture
) -> None:
    _, service = storage
    with caplog.at_level(logging.DEBUG):
        outcomes = service.delete_many(["a", "b"])
    assert all(outcomes.values())
    assert CANARY not in repr(outcomes) + caplog.text


def test_a_signed_url_is_in_no_repr_and_no_log(
    storage: tuple[Face, Storage], caplog: pytest.LogCaptureFixture
) -> None:
    _, service = storage
    with caplog.at_level(logging.DEBUG):
        signed = service.presign("k")
    signature = signed.url.split("X-Amz-Signature=")[1].split("&")[0]
    assert signature not in repr(signed)
    assert signature not in caplog.text
    assert f"{CANARY}-secret" not in signed.url + caplog.text


def test_no_object_shows_the_canary_or_takes_it_into_a_pickle(
    backend: dict[str, Any], storage: tuple[Face, Storage]
) -> None:
    face, service = storage
    config = load(
        {
            "storage": {"default": "b", "backends": {"b": backend}},
            "signing": {"keys": {"k": f"{CANARY}-signing-key"}},
        },
        environ={},
    )
    shown = [config, config.kinds, config.signing, service, face.backend, config.explain()]
    assert not [thing for thing in shown if CANARY in repr(thing)]
    for thing in (config, config.kinds["storage"], config.signing, service, face.backend):
        with pytest.raises((TypeError, AttributeError)):
            pickle.dumps(thing)


def test_a_wrong_configuration_is_refused_without_repeating_it(backend: dict[str, Any]) -> None:
    wrong = {**backend, "secret_access_key": [f"{CANARY}-secret"], "acess_key_id": f"{CANARY}-id"}
    with pytest.raises(PlatformError) as caught:
        load({"storage": {"default": "b", "backends": {"b": wrong}}}, environ={})
    text = "".join(traceback.format_exception(caught.value))
    assert caught.value.code == "config_invalid"
    assert "acess_key_id" in text
    assert "access_key_id" in text
    assert CANARY not in text
