"""Every limit has a value, a unit, a scope, a source and a date."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cm_platform import limits as data
from cm_platform.limits import LIMITS_AGE, entries, limits, products_of, provenance

TABLES = [name for name, _, _ in provenance()]


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_is_whole(table: str) -> None:
    found = entries(table)
    assert found
    for limit in found:
        assert limit.name.startswith(f"{table}.")
        assert isinstance(limit.value, bool | int | float)
        assert limit.unit
        assert limit.scope
        assert limit.source
        assert date(2026, 1, 1) <= limit.as_of <= date.today() + timedelta(days=1)  # noqa: DTZ011


def test_a_table_is_its_values() -> None:
    assert limits("cloudflare", "kv")["min_ttl"] == 60
    assert limits("storage", "r2")["equal_parts"] is True
    with pytest.raises(KeyError):
        limits("storage", "nothing")


def test_a_backend_has_the_limits_of_its_products() -> None:
    assert products_of("cache.workers_kv") == [
        "cloudflare.rest",
        "cloudflare.worker",
        "cloudflare.kv",
    ]
    assert products_of("storage.s3") == []


def test_what_binds_kv_and_its_backend_is_the_same() -> None:
    backend, product = limits("cache", "workers_kv"), limits("cloudflare", "kv")
    for name in ("max_key", "max_value", "staleness"):
        assert backend[name] == product[name]
    assert backend["max_batch"] == product["max_bulk_get"]


def test_an_entry_is_old_after_180_days() -> None:
    limit = entries("cloudflare.kv")[0]
    assert not limit.is_old(limit.as_of + timedelta(days=LIMITS_AGE))
    assert limit.is_old(limit.as_of + timedelta(days=LIMITS_AGE + 1))


def test_a_table_is_as_old_as_its_oldest_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = entries("cloudflare.kv")
    older = replace(second, as_of=first.as_of - timedelta(days=1))
    monkeypatch.setattr(data, "_tables", lambda: {"cloudflare.kv": (first, older)})
    assert provenance() == [("cloudflare.kv", first.source, older.as_of)]


def test_doctor_looks_at_the_products_of_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    from cm_platform.cli import checks

    backend = SimpleNamespace(driver="workers_kv")
    config: Any = SimpleNamespace(kinds={"cache": SimpleNamespace(backends={"kv": backend})})
    first, second, *_ = entries("cloudflare.kv")
    today = first.as_of + timedelta(days=LIMITS_AGE)
    found = {finding.subject: finding for finding in checks.limits(config, today)}
    assert {"cache.workers_kv", "cloudflare.kv", "cloudflare.rest"} <= set(found)
    assert "storage.s3" not in found
    assert {finding.status for finding in found.values()} == {"ok"}

    older = replace(second, as_of=first.as_of - timedelta(days=1))
    monkeypatch.setattr(data, "_tables", lambda: {"cloudflare.kv": (first, older)})
    (finding,) = checks.limits(config, today)
    assert finding.status == "warning"
    assert f"(181 days ago): {second.name.rpartition('.')[2]}; a newer" in finding.detail
