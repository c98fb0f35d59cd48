"""Whose certificates the gateway's client believes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cm_platform.cloudflare.gateway import Gateway
from cm_platform.cloudflare.settings import GatewaySettings
from cm_platform.errors import ConfigInvalidError

from .doubles import Face, Server
from .test_gateway import NOTHING, SECRET, echo


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For 127.0.0.1, its own authority, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return file


@pytest.fixture
def server(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(echo, context) as running:
        yield running


def opened(face: Face, server: Server, ca_file: Path | None) -> Gateway:
    settings = GatewaySettings.model_validate(
        {
            "url": f"https://127.0.0.1:{server.port}",
            "key_id": "k1",
            "secret": SECRET,
            "ca_file": ca_file,
        }
    )
    return Gateway.open(settings, face.runtime())


def test_an_unknown_authority_is_a_matter_of_configuration(face: Face, server: Server) -> None:
    gateway = opened(face, server, None)
    with pytest.raises(ConfigInvalidError, match="ca_file") as caught:
        face.run(gateway.batch("t/", [NOTHING]))
    assert (caught.value.not_sent, caught.value.retryable) == (True, False)
    assert not server.requests
    face.run(gateway.close())


def test_the_authority_of_the_setting_is_believed(
    face: Face, server: Server, certificate: Path
) -> None:
    gateway = opened(face, server, certificate)
    ((outcome),) = face.run(gateway.batch("t/", [NOTHING]))
    assert outcome.checked()["value"] == b"absent"
    face.run(gateway.close())
