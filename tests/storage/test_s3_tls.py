"""What TLS may do to a request to an S3 service, and whether anything was sent."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from cm_platform.errors import PlatformError
from cm_platform.storage.s3 import S3Config, S3Storage

from .s3_faces import FACES, PLAIN, Face, body, failure, on

# "k" goes through obstore and "k/" through boto3.
pytestmark = [pytest.mark.parametrize("face", FACES), pytest.mark.parametrize("key", ["k", "k/"])]


def _config(port: int, ca_file: Path | None = None) -> S3Config:
    return S3Config(
        bucket="media",
        endpoint=f"https://127.0.0.1:{port}",
        access_key_id=SecretStr("a"),
        secret_access_key=SecretStr("s"),
        ca_file=ca_file,
    )


def _signs(error: PlatformError) -> tuple[str, bool, bool]:
    return error.code, error.retryable, error.not_sent


@contextmanager
def _not_tls() -> Iterator[int]:
    """A port where something answers, but not in TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        answering.join()


def test_a_server_without_tls_is_unavailable(face: Face, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        for call in (storage.put(key, b"x", PLAIN), storage.get(key)):
            assert _signs(await failure(storage, call)) == ("unavailable", True, True)

    with _not_tls() as port:
        on(face, _config(port), scenario)


def _certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return file


@contextmanager
def _tls(certificate: Path) -> Iterator[int]:
    """A port where TLS is spoken until 2 MiB of an object are half said, and then something else;
    a write is not even answered in TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2097152\r\n\r\n' + b"x" * 1000
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client = context.wrap_socket(client, server_side=True)
                    request = client.recv(65536)
                    if request.startswith(b"GET"):
                        client.sendall(head)
                    with socket.socket(fileno=client.detach()) as bare:
                        bare.sendall(b"This is no TLS record. " * 10)
                        bare.shutdown(socket.SHUT_WR)
                        while bare.recv(65536):
                            pass

        answering = threading.Thread(target=answer)
        answering.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        answering.join()


def test_a_certificate_that_is_not_trusted_is_a_matter_of_configuration(
    face: Face, key: str, tmp_path: Path
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for call in (storage.put(key, b"x", PLAIN), storage.get(key), storage.delete(key)):
            error = await failure(storage, call)
            assert _signs(error) == ("config_invalid", False, True)
            assert "ca_file" in str(error)

    with _tls(_certificate(tmp_path)) as port:
        on(face, _config(port), scenario)


def test_tls_that_breaks_after_the_request_may_have_had_an_effect(
    face: Face, key: str, tmp_path: Path
) -> None:
    if key == "k":
        return  # obstore says no more than that it does not know the answer

    async def scenario(storage: S3Storage) -> None:
        with _not_tls() as elsewhere:
            bare = socket.create_connection(("127.0.0.1", elsewhere))
            try:
                ssl.create_default_context().wrap_socket(bare, server_hostname="127.0.0.1")
            except OSError:
                # As in a retry: a handshake that failed before is not this request's failure.
                error = await failure(storage, storage.put(key, b"x", PLAIN))
        assert _signs(error) == ("unavailable", True, False)
        error = await failure(storage, body(storage, key))
        assert _signs(error) == ("unavailable", True, False)

    certificate = _certificate(tmp_path)
    with _tls(certificate) as port:
        on(face, _config(port, ca_file=certificate), scenario)
