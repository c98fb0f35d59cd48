"""`gateway/test/vectors.json` is what the protocol says, worked out here a third time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from cm_platform.cloudflare import worker

FILE = worker.source() / "test" / "vectors.json"


def vectors(file: Path = FILE) -> list[Any]:
    found: list[Any] = json.loads(file.read_text(encoding="utf-8"))["vectors"]
    return found


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_each_is_signed_as_the_protocol_says(vector: Any) -> None:
    pairs: list[str] = vector["query"].split("&") if vector["query"] else []
    fields = (
        "cm-gateway-v1",
        vector["key_id"],
        vector["method"],
        vector["path"],
        "&".join(sorted(pairs)),
        hashlib.sha256(bytes.fromhex(vector["body_hex"])).hexdigest(),
        vector["timestamp"],
        vector["nonce"],
        vector["partition"],
    )
    canonical = b"".join(
        len(field.encode()).to_bytes(4, "big") + field.encode() for field in fields
    )
    mac = hmac.new(vector["secret"].encode(), canonical, hashlib.sha256).digest()
    assert vector["canonical_hex"] == canonical.hex()
    assert vector["headers"] == {
        "cm-key-id": vector["key_id"],
        "cm-timestamp": vector["timestamp"],
        "cm-nonce": vector["nonce"],
        "cm-partition": quote(vector["partition"], safe="-_.!~*'()"),
        "cm-signature": base64.urlsafe_b64encode(mac).rstrip(b"=").decode(),
    }


def test_they_have_what_is_easily_done_wrong() -> None:
    found = vectors()
    assert len({vector["nonce"] for vector in found}) == len(found)
    assert len({vector["key_id"] for vector in found}) > 1
    assert any(not vector["partition"].isascii() for vector in found)
    assert any(vector["partition"] == "" for vector in found)
    assert any("%" in vector["query"] for vector in found)
    assert any(vector["body_hex"] == "" for vector in found)
    assert any(not vector["secret"].isascii() for vector in found)
    for vector in found:
        assert unquote(vector["headers"]["cm-partition"]) == vector["partition"]
