"""`rediss://`: encrypted, and only to a server that can prove who it is."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cm_platform.cache.redis import RedisCache
from cm_platform.errors import ConfigInvalidError, PlatformError
from cm_platform.testing.servers.valkey import ValkeyServer
from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

from .redis_faces import Face, config, entry, failure, on, one


def certificate(directory: Path, name: str) -> tuple[str, str]:
    """A certificate for a host that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    host = ip_address(name) if name[0].isdigit() else None
    names: list[x509.GeneralName] = [x509.IPAddress(host) if host else x509.DNSName(name)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = directory / f"{name}.pem", directory / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(public), str(private)


@pytest.fixture
def right(tmp_path: Path) -> tuple[str, str]:
    return certificate(tmp_path, "127.0.0.1")


@pytest.fixture
def encrypted(server: ValkeyServer, right: tuple[str, str]) -> Iterator[ValkeyProxy]:
    with ValkeyProxy(server.port, tls=right) as proxy:
        yield proxy


def url(proxy: ValkeyProxy) -> str:
    return f"rediss://127.0.0.1:{proxy.port}"


def test_a_known_authority_is_trusted(
    face: Face, encrypted: ValkeyProxy, right: tuple[str, str], partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        value = bytes(300_000)
        await cache.set(partition, "a", value, ttl=60, along=["a"])
        for _ in range(5):
            assert await one(cache, partition, "a") == value
        counted = await cache.increment(partition, "n", 1, initial=entry(1, b"1"), ttl=60)
        assert counted.value == 1

    on(face, config(url(encrypted), ca_file=Path(right[0])), scenario)
    assert encrypted.connections == 1


async def refusal(cache: RedisCache) -> PlatformError:
    error = await failure(cache, cache.set("a/", "x", b"1", ttl=None))
    assert error.not_sent
    return error


def test_an_unknown_authority_is_not_trusted(face: Face, encrypted: ValkeyProxy) -> None:
    error = on(face, config(url(encrypted)), refusal)
    assert isinstance(error, ConfigInvalidError)
    assert "certificate" in error.message
    assert not encrypted.commands


def test_a_certificate_of_another_host_is_not_trusted(
    face: Face, server: ValkeyServer, tmp_path: Path
) -> None:
    files = certificate(tmp_path, "redis.example.com")
    with ValkeyProxy(server.port, tls=files) as proxy:
        error = on(face, config(url(proxy), ca_file=Path(files[0])), refusal)
        assert isinstance(error, ConfigInvalidError)
        assert not proxy.commands


def test_a_server_that_does_not_encrypt_gets_nothing(face: Face, proxy: ValkeyProxy) -> None:
    error = on(face, config(url(proxy), connect_timeout=0.5, read_timeout=0.5), refusal)
    assert error.code == "unavailable"
    assert not proxy.commands


def test_a_connection_that_is_closed_leaves_no_socket(
    face: Face, encrypted: ValkeyProxy, right: tuple[str, str], partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"1", ttl=60)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        on(face, config(url(encrypted), ca_file=Path(right[0])), scenario)
        gc.collect()
    assert not [str(warning.message) for warning in told]
