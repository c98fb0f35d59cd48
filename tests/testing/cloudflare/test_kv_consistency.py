"""KV is seen late elsewhere, at once where it was written, and one write a second to a key."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.errors import RateLimitedError
from cm_platform.testing.cloudflare import LocalCloudflare

from .conftest import Place, Probe, Rest

pytestmark = pytest.mark.usefixtures("still")


def test_a_write_is_seen_where_it_was_made_and_elsewhere_after_60_seconds(
    local_cloudflare: LocalCloudflare, near: Place, far: Place, rest: Rest
) -> None:
    near.put("page", b"one")
    assert near.get("page") == b"one"
    path = f"/values/{near.partition.replace('/', '%2F')}page"
    assert far.get("page") is None
    assert rest.ask("GET", path).status_code == 404
    local_cloudflare.clock.advance(59.9)
    assert far.get("page") is None
    local_cloudflare.clock.advance(0.1)
    assert far.get("page") == b"one"
    assert rest.ask("GET", path).content == b"one"


def test_an_overwrite_and_a_delete_are_seen_late_too(
    local_cloudflare: LocalCloudflare, near: Place, far: Place
) -> None:
    near.put("page", b"one")
    local_cloudflare.clock.advance(60)
    far.put("page", b"two")
    assert (near.get("page"), far.get("page")) == (b"one", b"two")
    local_cloudflare.clock.advance(60)
    near.do("kv.delete", key="page")
    assert (near.get("page"), far.get("page")) == (None, b"two")
    local_cloudflare.clock.advance(60)
    assert (near.get("page"), far.get("page")) == (None, None)


def test_the_last_write_wins_wherever_it_was_made(
    local_cloudflare: LocalCloudflare, near: Place, far: Place
) -> None:
    near.put("page", b"one")
    local_cloudflare.clock.advance(1)
    far.put("page", b"two")
    local_cloudflare.clock.advance(60)
    assert (near.get("page"), far.get("page")) == (b"two", b"two")


def test_a_second_write_within_a_second_is_refused_wherever_it_is_made(
    local_cloudflare: LocalCloudflare, near: Place, far: Place
) -> None:
    near.put("page", b"one")
    with pytest.raises(RateLimitedError):
        near.put("page", b"two")
    with pytest.raises(RateLimitedError):
        far.do("kv.delete", key="page")
    near.put("other", b"two")
    assert near.get("page") == b"one"
    local_cloudflare.clock.advance(1)
    near.put("page", b"three")
    assert near.get("page") == b"three"


def test_a_refused_write_does_not_postpone_the_next(
    local_cloudflare: LocalCloudflare, near: Place
) -> None:
    near.put("page", b"one")
    local_cloudflare.clock.advance(0.5)
    with pytest.raises(RateLimitedError):
        near.put("page", b"two")
    local_cloudflare.clock.advance(0.5)
    near.put("page", b"three")


def test_a_value_ends_with_its_time(local_cloudflare: LocalCloudflare, near: Place) -> None:
    near.put("page", b"one", ttl=60)
    local_cloudflare.clock.advance(59)
    assert near.get("page") == b"one"
    local_cloudflare.clock.advance(1)
    assert near.get("page") is None


def test_a_listing_is_late_even_where_the_write_was_made(
    local_cloudflare: LocalCloudflare, near: Place
) -> None:
    near.put("page", b"one")
    assert near.do("kv.list", prefix="")["keys"] == []
    local_cloudflare.clock.advance(60)
    assert [found["key"] for found in near.do("kv.list", prefix="")["keys"]] == ["page"]


def test_pages_have_gaps_where_keys_were_deleted_and_a_cursor_none_the_less(
    local_cloudflare: LocalCloudflare, near: Place
) -> None:
    for number in range(6):
        near.put(f"page-{number}", b"")
    local_cloudflare.clock.advance(1)
    for number in range(3):
        near.do("kv.delete", key=f"page-{number}")
    local_cloudflare.clock.advance(60)
    first = near.do("kv.list", prefix="page-", limit=3)
    assert first["keys"] == []
    second = near.do("kv.list", prefix="page-", limit=3, cursor=first["cursor"])
    assert [found["key"] for found in second["keys"]] == ["page-3", "page-4", "page-5"]
    assert second["cursor"] is None


class TestFreshColdReads:
    """A first read is current; what was read is kept for 60 s, and so is that there was nothing."""

    def test_that_there_was_nothing_is_remembered(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        assert probe.call("get", key, far=True) is None
        probe.call("put", key, "one")
        assert probe.call("get", key) == "one"
        assert probe.call("get", key, far=True) is None
        probed.clock.advance(60)
        assert probe.call("get", key, far=True) == "one"

    def test_one_key_may_be_new_and_another_old(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        probe.call("put", f"{key}-a", "one")
        probe.call("put", f"{key}-b", "one")
        assert probe.call("get", f"{key}-a", far=True) == "one"
        probed.clock.advance(1)
        probe.call("put", f"{key}-a", "two")
        probe.call("put", f"{key}-b", "two")
        seen = [probe.call("get", f"{key}-{name}", far=True) for name in "ab"]
        assert seen == ["one", "two"]

    def test_a_location_keeps_what_it_wrote_though_another_wrote_later(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        probe.call("put", key, "one")
        probed.clock.advance(1)
        probe.call("put", key, "two", far=True)
        assert probe.call("get", key) == "one"
        probed.clock.advance(59)
        assert probe.call("get", key) == "two"

    def test_a_longer_cache_ttl_keeps_a_value_longer(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        probe.call("put", key, "one")
        assert probe.call("get", key, {"cacheTtl": 300}, far=True) == "one"
        probed.clock.advance(1)
        probe.call("put", key, "two")
        probed.clock.advance(200)
        assert probe.call("get", key, far=True) == "one"
        probed.clock.advance(100)
        assert probe.call("get", key, far=True) == "two"

    def test_what_is_remembered_ends_with_its_time(
        self, probed: LocalCloudflare, probe: Probe, key: str
    ) -> None:
        probe.call("put", key, "one", {"expirationTtl": 60})
        probed.clock.advance(30)
        assert probe.call("get", key, far=True) == "one"
        probed.clock.advance(31)
        assert probe.call("get", key, far=True) is None


def test_what_has_ended_is_forgotten_after_a_while(
    local_cloudflare: LocalCloudflare, near: Place
) -> None:
    for number in range(4):
        near.put(f"page-{number}", b"one")
    local_cloudflare.clock.advance(60)
    near.put("page-0", b"two", ttl=60)
    near.do("kv.delete", key="page-1")
    near.put("page-2", b"two")
    local_cloudflare.clock.advance(4000)
    for _ in range(2):
        # The first listing forgets, which must bring nothing back.
        listed = near.do("kv.list", prefix="page-")["keys"]
        assert [found["key"] for found in listed] == ["page-2", "page-3"]
        assert [near.get(f"page-{number}") for number in range(4)] == [None, None, b"two", b"one"]
        local_cloudflare.clock.advance(4000)
    assert len(near.do("kv.list", prefix="page-", limit=2)["keys"]) == 2


def test_without_staleness_everything_is_seen_at_once(partition: str) -> None:
    with LocalCloudflare(kv_staleness=0) as local:
        places: Any = [
            Place(local, url, partition) for url in (local.gateway_url, local.gateway_url_far)
        ]
        near, far = places
        near.put("page", b"one")
        assert far.get("page") == b"one"
        assert len(far.do("kv.list", prefix="")["keys"]) == 1
        for place in places:
            place.close()
