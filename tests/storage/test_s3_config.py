"""The settings of `storage.s3`: what is allowed, what is secret, what the environment may say."""

from __future__ import annotations

import logging
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from cm_platform.errors import ConfigInvalidError
from cm_platform.registry import Registry
from cm_platform.runtime import drive
from cm_platform.storage.backend import StorageBackend
from cm_platform.storage.s3 import BACKEND, S3Config, S3Storage
from cm_platform.testing.servers import Endpoint, S3Server

from .s3_faces import FACES, PLAIN, Face, body, failure, keys, on, opened, s3_config

SECRET = "CANARY-secret"
KEYS = {"access_key_id": "A", "secret_access_key": "S"}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Endpoint:
    return server.new_bucket()


def _config(**more: Any) -> S3Config:
    return S3Config.model_validate({"bucket": "media", "region": "eu-west-3", **more})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bucket": "a"}, "3 to 63"),
        ({"bucket": "media/../other"}, "3 to 63"),
        ({"bucket": "media\n"}, "3 to 63"),
        ({"region": ""}, "set `region`"),
        ({"region": "eu west"}, "lower-case letters"),
        ({"endpoint": "s3.example.com"}, "https://"),
        ({"endpoint": "http://s3.example.com"}, "allow_http"),
        ({"endpoint": "https://s3.example.com/media"}, "no path"),
        ({"endpoint": f"https://user:{SECRET}@s3.example.com"}, "no path, query or user"),
        ({"access_key_id": SECRET}, "both"),
        ({"session_token": SECRET}, "needs access_key_id"),
        ({"profile": "p", "access_key_id": SECRET, "secret_access_key": SECRET}, "either profile"),
        ({"addressing": "dns"}, "'virtual' or 'path'"),
        ({"read_timeout": 0}, "greater than 0"),
        ({"pool_size": 0}, "greater than or equal to 1"),
        ({"lacks": ["versions"]}, "'conditional_create'"),
        ({"secret": SECRET}, "not permitted"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _config(**settings)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "bucket_endpoint", "virtual"),
    [
        ({}, "https://media.s3.eu-west-3.amazonaws.com", True),
        ({"region": "cn-north-1"}, "https://media.s3.cn-north-1.amazonaws.com.cn", True),
        ({"bucket": "me.dia"}, "https://s3.eu-west-3.amazonaws.com", False),
        ({"addressing": "path"}, "https://s3.eu-west-3.amazonaws.com", False),
        ({"endpoint": "https://s3.example.com:9000/"}, "https://s3.example.com:9000", False),
        (
            {"endpoint": "https://s3.example.com", "addressing": "virtual"},
            "https://media.s3.example.com",
            True,
        ),
        ({"endpoint": "http://minio", "allow_http": True}, "http://minio", False),
        ({"endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000", False),
        ({"endpoint": "http://[::1]:9000"}, "http://[::1]:9000", False),
    ],
)
def test_the_bucket_is_addressed(settings: Any, bucket_endpoint: str, virtual: bool) -> None:
    connection = _config(**settings).connection()
    assert (connection.bucket_endpoint, connection.virtual) == (bucket_endpoint, virtual)


def test_without_a_region_an_endpoint_has_us_east_1() -> None:
    assert S3Config(bucket="media", endpoint="https://a.example").connection().region == "us-east-1"


@pytest.mark.parametrize("addressing", ["virtual", "path"])
def test_both_paths_sign_for_the_same_url(addressing: str) -> None:
    config = _config(access_key_id="A", secret_access_key="S", addressing=addressing)
    storage = opened(config)
    signed = drive(storage.presign("a b", "GET", expires_in=1, attributes=PLAIN))
    drive(storage.close())
    where = "https://media.s3.eu-west-3.amazonaws.com/a%20b?"
    if addressing == "path":
        where = "https://s3.eu-west-3.amazonaws.com/media/a%20b?"
    assert signed.url.startswith(where)
    assert config.connection().bucket_endpoint in signed.url


def test_secrets_stay_out_of_every_repr() -> None:
    config = _config(
        access_key_id=SECRET, secret_access_key=SECRET, session_token=SECRET, proxy=SECRET
    )
    storage = opened(config)
    for shown in (config, config.connection(), storage, storage._fast, storage._complete):
        assert SECRET not in repr(shown)
        assert SECRET not in str(shown)
    drive(storage.close())


def test_importing_the_backends_imports_no_sdk() -> None:
    code = (
        "import sys, cm_platform.storage.s3, cm_platform.storage.r2\n"
        "found = {'boto3', 'botocore', 'obstore', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    ran = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_it_is_a_storage_backend() -> None:
    storage: StorageBackend = opened(_config(**KEYS))
    assert storage.max_request_lifetime == 83.0
    assert storage.limits.max_part == 5 * 1024**3
    drive(storage.close())


def test_opening_does_no_io_and_takes_no_time() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = _config(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
        storage = opened(config)
        assert storage._complete._client is None
        drive(storage.close())


def test_clients_share_botocores_model_of_s3() -> None:
    first, second = opened(_config(**KEYS)), opened(_config(**KEYS))
    models = [
        storage.native().meta.service_model._service_description for storage in (first, second)
    ]
    assert models[0] is models[1]
    drive(first.close())
    drive(second.close())


def test_an_authority_that_cannot_be_read_is_a_matter_of_configuration(tmp_path: Path) -> None:
    config = _config(ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigInvalidError, match="ca_file"):
        opened(config)


def test_a_missing_sdk_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cm_platform.storage.s3.driver.find_spec", lambda _: None)
    with pytest.raises(ConfigInvalidError, match=r"cm-platform\[s3\]"):
        opened(_config())


def test_the_entry_point_leads_here() -> None:
    assert Registry().get("storage", "s3") is BACKEND


@pytest.mark.parametrize("face", FACES)
def test_the_environment_changes_nothing(
    face: Face, bucket: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "AWS_PROXY_URL"):
        monkeypatch.setenv(name, nowhere)
        monkeypatch.setenv(name.lower(), nowhere)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ENDPOINT_URL_S3": nowhere,
        "AWS_ENDPOINT": nowhere,
        "AWS_REGION": "eu-west-3",
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_BUCKET": "other",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_CONDITIONAL_PUT": "disabled",
        "AWS_ALLOW_HTTP": "false",
        "AWS_TIMEOUT": "1ns",
        "AWS_CA_BUNDLE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)

    async def scenario(storage: S3Storage) -> None:
        await storage.put("k", b"fast", PLAIN, if_none_match=True)
        await storage.put("k/", b"complete", PLAIN)
        assert await keys(storage) == ["k", "k/"]
        assert await body(storage, "k") == b"fast"

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_profiles_and_files_of_the_machine_change_nothing_where_keys_are_given(
    face: Face, bucket: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\ns3 =\n  use_accelerate_endpoint = true\n"
        "  payload_signing_enabled = false\n"
    )
    (tmp_path / "credentials").write_text("this is no such file\n")

    async def scenario(storage: S3Storage) -> None:
        await storage.put("k", b"fast", PLAIN)
        await storage.put("k/", b"complete", PLAIN)
        assert await keys(storage) == ["k", "k/"]
        signed = await storage.presign("k", "GET", expires_in=1, attributes=PLAIN)
        assert signed.url.startswith(f"{bucket.url}/{bucket.bucket}/k?")

    for name, value in (
        ("AWS_CONFIG_FILE", str(tmp_path / "config")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials")),
        ("AWS_PROFILE", "nobody"),
    ):
        with monkeypatch.context() as patch:
            patch.delenv("AWS_DEFAULT_PROFILE", raising=False)
            patch.setenv(name, value)
            on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_variables_that_only_obstore_reads_switch_it_off(
    face: Face,
    bucket: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "AES256")
    caplog.set_level(logging.INFO, "cm_platform.storage")

    async def scenario(storage: S3Storage) -> None:
        assert storage._fast is None
        await storage.put("k", b"x", PLAIN)
        assert await body(storage, "k") == b"x"

    on(face, s3_config(bucket), scenario)
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("cm_")]
    assert "boto3 alone" in line
    assert "AWS_SERVER_SIDE_ENCRYPTION" in line


def _without_credentials(endpoint: Endpoint) -> S3Config:
    return S3Config(bucket=endpoint.bucket, endpoint=endpoint.url, region=endpoint.region)


@pytest.fixture
def no_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


@pytest.mark.parametrize("face", FACES)
def test_without_configured_credentials_boto3s_chain_finds_them(
    face: Face, bucket: Endpoint, no_chain: pytest.MonkeyPatch
) -> None:
    no_chain.setenv("AWS_ACCESS_KEY_ID", bucket.access_key_id)
    no_chain.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret_access_key)

    async def scenario(storage: S3Storage) -> None:
        await storage.put("k", b"fast", PLAIN)
        await storage.put("k/", b"complete", PLAIN)
        assert await keys(storage) == ["k", "k/"]

    on(face, _without_credentials(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_a_profile_brings_credentials(
    face: Face, bucket: Endpoint, no_chain: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[media]\naws_access_key_id = {bucket.access_key_id}\n"
        f"aws_secret_access_key = {bucket.secret_access_key}\n"
    )

    async def scenario(storage: S3Storage) -> None:
        await storage.put("k", b"fast", PLAIN)
        assert await keys(storage) == ["k"]

    on(face, _without_credentials(bucket).model_copy(update={"profile": "media"}), scenario)

    async def refused(storage: S3Storage) -> list[str]:
        calls = (storage.put("k", b"x", PLAIN), storage.put("k/", b"x", PLAIN))
        return [(await failure(storage, call)).code for call in calls]

    unknown = _without_credentials(bucket).model_copy(update={"profile": "other"})
    assert "config_invalid" in on(face, unknown, refused)


@pytest.mark.parametrize("face", FACES)
def test_without_any_credentials_the_error_says_where_they_may_come_from(
    face: Face, bucket: Endpoint, no_chain: pytest.MonkeyPatch
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for key in ("k", "k/"):
            error = await failure(storage, storage.put(key, b"x", PLAIN))
            assert (error.code, error.not_sent) == ("unauthenticated", True)
            assert "AWS_ACCESS_KEY_ID" in str(error)

    on(face, _without_credentials(bucket), scenario)


def test_what_obstore_holds_of_the_chain_expires_soon(no_chain: pytest.MonkeyPatch) -> None:
    no_chain.setenv("AWS_ACCESS_KEY_ID", "A")
    no_chain.setenv("AWS_SECRET_ACCESS_KEY", "S")
    storage = opened(_config())
    credential = storage._complete.credentials()
    assert credential["expires_at"] is not None
    assert 500 < (credential["expires_at"] - datetime.now(UTC)).total_seconds() <= 600
    drive(storage.close())


def test_the_configuration_cannot_be_changed() -> None:
    config = _config(secret_access_key=SecretStr("s"), access_key_id=SecretStr("a"))
    with pytest.raises(ValidationError):
        config.bucket = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(_config())
