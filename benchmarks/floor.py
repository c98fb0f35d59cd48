"""The floor: a socket, Signature V4, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time

REGION = "us-east-1"


class RawClient:
    """PUT and GET of one bucket over one connection."""

    def __init__(self, port: int, bucket: str, key_id: str, secret: str) -> None:
        self._host = f"127.0.0.1:{port}"
        self._path = f"/{bucket}/"
        self._key_id = key_id
        self._date = time.strftime("%Y%m%d", time.gmtime())
        key = f"AWS4{secret}".encode()
        for part in (self._date, REGION, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._signing_key = key
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def request(self, method: str, key: str, body: bytes = b"") -> bytes:
        """One signed request; the body of its reply."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(body).hexdigest()
        path = self._path + key
        signed = "host;x-amz-content-sha256;x-amz-date"
        canonical = (
            f"{method}\n{path}\n\nhost:{self._host}\nx-amz-content-sha256:{digest}\n"
            f"x-amz-date:{stamp}\n\n{signed}\n{digest}"
        )
        scope = f"{self._date}/{REGION}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
        signature = hmac.digest(self._signing_key, to_sign.encode(), "sha256").hex()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nx-amz-date: {stamp}\r\n"
            f"x-amz-content-sha256: {digest}\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self._key_id}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        status = self._file.readline()
        if status[9:10] != b"2":
            raise ConnectionError(status.decode())
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        return self._file.read(length)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()
