"""What production's KV refuses is refused, by the binding and over REST alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cm_platform.limits import limits
from cm_platform.testing.cloudflare import LocalCloudflare

from .conftest import Probe, Rest

KV = limits("cloudflare", "kv")

pytestmark = pytest.mark.usefixtures("still")


class TestBinding:
    def test_it_is_workerds_own(self, probe: Probe, key: str) -> None:
        probe.call("put", key, '{"a": 1}', {"metadata": {"é": "ü"}})
        found = probe.call("getWithMetadata", key, "json")
        assert found["value"] == {"a": 1}
        assert found["metadata"] == {"é": "ü"}

    def test_a_second_write_within_a_second(self, probe: Probe, key: str) -> None:
        probe.call("put", key, "one")
        assert probe.error("put", key, "two") == "KV PUT failed: 429 Too Many Requests"
        assert probe.error("delete", key) == "KV DELETE failed: 429 Too Many Requests"

    @pytest.mark.parametrize("ttl", [1, 59])
    def test_a_ttl_below_60(self, probe: Probe, key: str, ttl: int) -> None:
        error = probe.error("put", key, "one", {"expirationTtl": ttl})
        assert error.startswith("KV PUT failed: 400 Invalid expiration_ttl")
        assert "at least 60" in error
        assert probe.call("get", key) is None

    def test_an_expiration_too_soon(self, probed: LocalCloudflare, probe: Probe, key: str) -> None:
        soon = int(probed.clock.now()) + 50
        error = probe.error("put", key, "one", {"expiration": soon})
        assert error.startswith("KV PUT failed: 400 Invalid expiration of")

    def test_a_key_of_512_bytes_is_the_longest(self, probe: Probe, key: str) -> None:
        longest = key + "é" * ((KV["max_key"] - len(key)) // 2)
        probe.call("put", longest, "one")
        assert probe.call("get", longest) == "one"
        assert "414" in probe.error("put", longest + "x", "one")
        assert "414" in probe.error("get", longest + "x")

    @pytest.mark.parametrize("name", ["", ".", ".."])
    def test_names_that_no_url_can_say(self, probe: Probe, name: str) -> None:
        for call in (("put", name, "x"), ("get", name), ("delete", name)):
            assert probe.error(*call)

    def test_metadata_of_more_than_1024_bytes(self, probe: Probe, key: str) -> None:
        fits = "x" * (KV["max_metadata"] - 2)
        probe.call("put", f"{key}-1", "one", {"metadata": fits})
        error = probe.error("put", f"{key}-2", "one", {"metadata": fits + "x"})
        assert error.startswith("KV PUT failed: 413 Metadata length of 1025")

    def test_a_value_of_more_than_25_mib(self, probe: Probe, key: str) -> None:
        most = KV["max_value"]
        probe.call("put", f"{key}-1", "x" * most)
        error = probe.error("put", f"{key}-2", "x" * (most + 1))
        assert error.startswith(f"KV PUT failed: 413 Value length of {most + 1} exceeds limit")

    def test_a_cache_ttl_below_30(self, probe: Probe, key: str) -> None:
        assert "400 Invalid cache_ttl of 29" in probe.error("get", key, {"cacheTtl": 29})

    def test_a_page_of_more_than_1000(self, probe: Probe) -> None:
        assert "400" in probe.error("list", {"limit": 1001})

    def test_a_cursor_of_another_prefix(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        for number in range(3):
            probe.call("put", f"{key}-{number}", "")
        probed.clock.advance(60)
        page = probe.call("list", {"prefix": key, "limit": 2})
        assert not page["list_complete"]
        error = probe.error("list", {"prefix": "other", "cursor": page["cursor"]})
        assert "400 Invalid list cursor" in error
        rest = probe.call("list", {"prefix": key, "cursor": page["cursor"]})
        assert [found["name"] for found in rest["keys"]] == [f"{key}-2"]

    def test_a_bulk_read_of_more_than_100_keys(self, probe: Probe, key: str) -> None:
        probe.call("put", f"{key}-7", "seven")
        names = [f"{key}-{number}" for number in range(100)]
        found = probe.call("get", names)
        assert found[f"{key}-7"] == "seven"
        assert found[f"{key}-8"] is None
        assert "maximum of 100 keys" in probe.error("get", [*names, "one more"])

    def test_names_are_listed_in_the_order_of_their_bytes(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        names = [f"{key}{end}" for end in ("a", "Z", "é", "\U0001f600", "\uffff", "a/b", "a b")]
        for name in names:
            probe.call("put", name, "")
        probed.clock.advance(60)
        listed = [found["name"] for found in probe.call("list", {"prefix": key})["keys"]]
        assert listed == sorted(names, key=str.encode)


class TestInvocation:
    def test_it_has_1000_operations_on_kv_and_durable_objects_together(
        self, probe: Probe, key: str
    ) -> None:
        outcomes = probe.calls(*([["get", key]] * 997), ["add", key], ["add", key], ["get", key])
        assert [outcome["result"] for outcome in outcomes[-3:]] == [1, 2, None]
        outcomes = probe.calls(*([["get", key]] * 1000), ["add", key], ["get", key])
        assert outcomes[999] == {"result": None}
        for outcome in outcomes[1000:]:
            assert outcome["error"] == "Too many subrequests by single Worker invocation."
        assert probe.call("add", key) == 3

    def test_a_bulk_read_is_one_operation(self, probe: Probe, key: str) -> None:
        names = [f"{key}-{number}" for number in range(100)]
        assert len(probe.calls(*([["get", names]] * 20))) == 20

    def test_durable_objects_are_the_same_from_both_locations(self, probe: Probe, key: str) -> None:
        assert probe.call("add", key) == 1
        assert probe.call("add", key, far=True) == 2


class TestRest:
    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"expiration_ttl": "59"}, "at least 60"),
            ({"expiration_ttl": "0"}, "greater than 0"),
            ({"expiration_ttl": "soon"}, "greater than 0"),
            ({"expiration": "1"}, "in the future"),
            # Kept, it could not be read again.
            ({"expiration_ttl": str(2**53 - 1)}, "beyond what can be counted"),
        ],
    )
    def test_bad_times(self, rest: Rest, key: str, query: dict[str, str], message: str) -> None:
        refused = rest.ask("PUT", f"/values/{key}", content=b"one", params=query)
        assert message in refusal(refused, 400)
        assert rest.ask("GET", f"/values/{key}").status_code == 404

    def test_a_second_write_within_a_second(self, rest: Rest, key: str) -> None:
        assert rest.ask("PUT", f"/values/{key}", content=b"one").status_code == 200
        refusal(rest.ask("PUT", f"/values/{key}", content=b"two"), 429)
        refusal(rest.ask("DELETE", f"/values/{key}"), 429)
        assert rest.ask("GET", f"/values/{key}").content == b"one"

    def test_a_key_of_more_than_512_bytes(self, rest: Rest) -> None:
        refusal(rest.ask("PUT", f"/values/{'x' * 513}", content=b"one"), 414)
        refusal(rest.ask("GET", f"/values/{'x' * 513}"), 414)

    def test_names_that_no_url_can_say(self, rest: Rest) -> None:
        for name in ("%2E", "%2E%2E", ""):
            answer = rest.http.request("PUT", f"{rest.namespace}/values/{name}", content=b"x")
            assert answer.status_code in (400, 404)

    def test_metadata_of_more_than_1024_bytes(self, rest: Rest, key: str) -> None:
        parts = {"value": (None, b"one"), "metadata": (None, json.dumps("x" * 1023).encode())}
        refusal(rest.ask("PUT", f"/values/{key}", files=parts), 413)

    def test_a_value_of_more_than_25_mib(self, rest: Rest, key: str) -> None:
        most = KV["max_value"]
        assert rest.ask("PUT", f"/values/{key}-1", content=bytes(most)).status_code == 200
        refusal(rest.ask("PUT", f"/values/{key}-2", content=bytes(most + 1)), 413)
        refusal(rest.ask("PUT", f"/values/{key}-3", content=bytes(2 * most)), 413)

    def test_bytes_come_back_as_they_were_sent(self, rest: Rest, key: str) -> None:
        value = bytes(range(256)) + b"\r\n--boundary\r\n"
        assert rest.ask("PUT", f"/values/{key}-1", content=value).status_code == 200
        assert rest.ask("GET", f"/values/{key}-1").content == value
        parts = {"value": (None, value), "metadata": (None, b"{}")}
        assert rest.ask("PUT", f"/values/{key}-2", files=parts).status_code == 200
        assert rest.ask("GET", f"/values/{key}-2").content == value

    @pytest.mark.parametrize("limit", ["9", "1001", "x"])
    def test_a_page_of_another_size(self, rest: Rest, limit: str) -> None:
        refusal(rest.ask("GET", "/keys", params={"limit": limit}), 400)

    def test_one_bad_pair_refuses_a_bulk_write(self, rest: Rest, key: str) -> None:
        pairs: list[dict[str, Any]] = [
            {"key": key, "value": "one"},
            {"key": f"{key}-2", "value": "two", "expiration_ttl": 10},
        ]
        refusal(rest.ask("PUT", "/bulk", json=pairs), 400)
        assert rest.ask("GET", f"/values/{key}").status_code == 404

    def test_a_bulk_write_names_the_keys_that_were_written_a_moment_ago(
        self, rest: Rest, key: str
    ) -> None:
        rest.ask("PUT", f"/values/{key}-1", content=b"one")
        pairs = [{"key": f"{key}-{number}", "value": "two"} for number in range(3)]
        result = rest.ask("PUT", "/bulk", json=pairs).json()["result"]
        assert result == {"successful_key_count": 2, "unsuccessful_keys": [f"{key}-1"]}

    def test_bulk_sizes(self, rest: Rest, key: str) -> None:
        pairs = [{"key": f"{key}-{number}", "value": ""} for number in range(10_001)]
        refusal(rest.ask("PUT", "/bulk", json=pairs), 400)
        names = [pair["key"] for pair in pairs]
        refusal(rest.ask("POST", "/bulk/delete", json=names), 400)
        refusal(rest.ask("POST", "/bulk/get", json={"keys": names[:101]}), 400)
        refusal(rest.ask("POST", "/bulk/get", json={"keys": []}), 400)
        refusal(rest.ask("PUT", "/bulk", content=bytes(KV["max_bulk_body"] + 1)), 413)


def refusal(answer: Any, status: int) -> str:
    """The message in Cloudflare's envelope."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["success"] is False
    assert document["result"] is None
    (error,) = document["errors"]
    assert isinstance(error["code"], int)
    message: str = error["message"]
    return message
