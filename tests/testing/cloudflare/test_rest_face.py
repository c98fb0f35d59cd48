"""The REST face: who gets in, what an answer looks like, namespaces, and the token's cap."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cm_platform.testing.cloudflare import LocalCloudflare, RestCap

from .conftest import Rest


def test_an_answer_has_cloudflares_envelope(rest: Rest, local_cloudflare: LocalCloudflare) -> None:
    answer = rest.ask("GET", "")
    assert answer.json() == {
        "success": True,
        "errors": [],
        "messages": [],
        "result": {
            "id": local_cloudflare.kv_namespace_id,
            "title": "KV",
            "supports_url_encoding": True,
        },
    }


def test_a_missing_key_is_404_with_its_code(rest: Rest, key: str) -> None:
    for path in (f"/values/{key}", f"/metadata/{key}"):
        answer = rest.ask("GET", path)
        assert answer.status_code == 404
        assert answer.json()["errors"] == [{"code": 10009, "message": "get: 'key not found'"}]


@pytest.mark.parametrize("token", ["wrong", "x y"])
def test_a_wrong_token_is_refused(rest: Rest, token: str) -> None:
    answer = rest.ask("GET", "/keys", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert answer.json()["errors"] == [{"code": 10000, "message": "Authentication error"}]


def test_no_token_is_refused(rest: Rest, local_cloudflare: LocalCloudflare) -> None:
    answer = httpx.get(f"{local_cloudflare.rest_url}{rest.namespace}/keys", trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["success"] is False


def test_another_account_is_refused(rest: Rest, local_cloudflare: LocalCloudflare) -> None:
    path = rest.namespace.replace(local_cloudflare.account_id, "0" * 32)
    answer = rest.http.get(f"{path}/keys")
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["code"] == 10000


def test_an_unknown_namespace_and_an_unknown_path(rest: Rest) -> None:
    answer = rest.http.get(f"{rest.account}/storage/kv/namespaces/{'0' * 32}/keys")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, 10013)
    answer = rest.ask("GET", "/nothing")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, 7003)
    assert rest.ask("PATCH", "/keys").status_code == 404


def test_an_encoded_slash_belongs_to_the_key(rest: Rest, key: str) -> None:
    assert rest.ask("PUT", f"/values/{key}%2F..%2Fx", content=b"one").status_code == 200
    assert rest.ask("GET", f"/values/{key}%2F..%2Fx").content == b"one"
    assert rest.ask("GET", f"/values/{key}/y").status_code == 404


def test_namespaces_are_separate_and_can_be_made_renamed_and_removed(rest: Rest, key: str) -> None:
    root = f"{rest.account}/storage/kv/namespaces"
    made = rest.http.post(root, json={"title": key}).json()["result"]
    assert rest.http.post(root, json={"title": key}).json()["errors"][0]["code"] == 10014
    own = f"{root}/{made['id']}"
    assert rest.http.put(f"{own}/values/k", content=b"one").status_code == 200
    assert rest.ask("GET", "/values/k").status_code == 404
    assert rest.http.put(own, json={"title": f"{key}-2"}).json()["result"]["title"] == f"{key}-2"
    listed = rest.http.get(root, params={"per_page": 100}).json()
    assert made["id"] in [found["id"] for found in listed["result"]]
    assert listed["result_info"]["total_count"] >= 2
    assert rest.http.delete(own).status_code == 200
    assert rest.http.get(own).status_code == 404


class TestTokenCap:
    def test_production_has_1200_requests_in_300_seconds(self, rest: Rest) -> None:
        assert rest.ask("GET", "").headers["ratelimit-policy"] == '"default";q=1200;w=300'

    def test_after_the_cap_nothing_is_answered_for_a_whole_block(self, key: str) -> None:
        with LocalCloudflare(rest_cap=RestCap(requests=5, period=10, block=30)) as local:
            rest = Rest(local)
            with rest.http, local.clock.frozen():
                told = [rest.ask("GET", "").headers["ratelimit"] for _ in range(5)]
                assert told[0].startswith('"default";r=4;t=')
                assert told[4].startswith('"default";r=0;t=')
                refused = self.refused(rest)
                assert refused.headers["retry-after"] == "30"
                assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
                local.clock.advance(25)
                self.refused(rest)
                local.clock.advance(5)
                assert rest.ask("GET", "").status_code == 200
                assert local.rest_counts() == (8, 2)

    def test_any_period_counts_and_not_only_whole_ones(self) -> None:
        with LocalCloudflare(rest_cap=RestCap(requests=4, period=10, block=10)) as local:
            rest = Rest(local)
            with rest.http, local.clock.frozen():
                for wait in (6, 0.1, 0.1, 5):
                    assert rest.ask("GET", "").status_code == 200
                    local.clock.advance(wait)
                # The first is out of the period by now, the others are not.
                assert rest.ask("GET", "").status_code == 200
                self.refused(rest)

    def test_a_request_that_is_not_authenticated_does_not_count(self) -> None:
        with LocalCloudflare(rest_cap=RestCap(requests=2, period=10, block=10)) as local:
            rest = Rest(local)
            with rest.http:
                for _ in range(5):
                    rest.ask("GET", "", headers={"authorization": "Bearer x"})
                assert rest.ask("GET", "").status_code == 200

    def refused(self, rest: Rest) -> Any:
        answer = rest.ask("GET", "")
        assert answer.status_code == 429
        assert answer.json()["success"] is False
        return answer
