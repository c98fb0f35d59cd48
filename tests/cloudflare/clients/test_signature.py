"""What a request to the gateway signs; the Worker is held to the same vectors."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from cm_platform.cloudflare.signature import RequestSigner, canonical, new_nonce, sorted_query
from cm_platform.errors import InvalidArgumentError

VECTORS = json.loads(
    (Path(__file__).parents[3] / "gateway" / "test" / "vectors.json").read_text(encoding="utf-8")
)["vectors"]

SIGNER = RequestSigner("2026-11", "a secret of thirty-two characters")


def signed(partition: str = "t/", **changes: Any) -> dict[bytes, bytes]:
    parts: dict[str, Any] = {
        "method": b"POST",
        "path": b"/v1/batch",
        "query": b"",
        "digest": "0" * 64,
        "partition": partition,
        "now": 1_795_456_800.0,
        "nonce": b"fkevFY6dtU_F5JAplvU2Cg",
    }
    return dict(SIGNER.headers(**{**parts, **changes}))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_a_request_is_signed_as_the_worker_expects_it(vector: dict[str, Any]) -> None:
    signer = RequestSigner(vector["key_id"], vector["secret"])
    digest = hashlib.sha256(bytes.fromhex(vector["body_hex"])).hexdigest()
    headers = signer.headers(
        vector["method"].encode(),
        vector["path"].encode(),
        vector["query"].encode(),
        digest,
        vector["partition"],
        now=int(vector["timestamp"]) / 1000,
        nonce=vector["nonce"].encode(),
    )
    assert {name.decode(): value.decode() for name, value in headers} == vector["headers"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_the_canonical_form_is_the_workers(vector: dict[str, Any]) -> None:
    form = canonical(
        field.encode() if isinstance(field, str) else field
        for field in (
            "cm-gateway-v1",
            vector["key_id"],
            vector["method"],
            vector["path"],
            sorted_query(vector["query"].encode()),
            hashlib.sha256(bytes.fromhex(vector["body_hex"])).hexdigest(),
            vector["timestamp"],
            vector["nonce"],
            vector["partition"],
        )
    )
    assert form.hex() == vector["canonical_hex"]


def test_where_one_field_ends_and_the_next_begins_is_signed() -> None:
    assert canonical([b"a", b"bc"]) != canonical([b"ab", b"c"])


@pytest.mark.parametrize(
    "change",
    [
        {"method": b"GET"},
        {"path": b"/v1/health"},
        {"query": b"a=1"},
        {"digest": "1" * 64},
        {"partition": "u/"},
        {"now": 1_795_456_800.001},
        {"nonce": b"ZU4sh9eCDL6xtbVQ9DFmVA"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_part_of_a_request_is_signed(change: dict[str, Any]) -> None:
    assert signed(**change)[b"cm-signature"] != signed()[b"cm-signature"]


def test_nonces_are_new_each_time_and_fit_the_protocol() -> None:
    nonces = {new_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert all(re.fullmatch(rb"[A-Za-z0-9_-]{22}", nonce) for nonce in nonces)


@pytest.mark.parametrize("partition", ["a\0b", "half \ud800"], ids=["nul", "surrogate"])
def test_a_partition_that_the_gateway_cannot_take_is_refused(partition: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        signed(partition)
    assert caught.value.not_sent


def test_a_signer_does_not_show_its_secret() -> None:
    assert "secret" not in repr(SIGNER)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(SIGNER)
