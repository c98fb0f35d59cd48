"""`cache.local` as it is configured: its settings, their bounds, and whose path is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cm_platform.cache.backend import CacheCapability, CacheLimits
from cm_platform.cache.local import BACKEND, LocalConfig
from cm_platform.cache.local.memory import MemoryStore
from cm_platform.config.fields import absolute_paths, path_keys
from cm_platform.limits import limits

from .opened import opened


def test_without_settings_it_is_in_memory_and_has_64_mib() -> None:
    config = LocalConfig()
    assert (config.path, config.max_bytes, config.fsync) == (None, 64 * 1024**2, False)
    with opened("sync") as cache:
        assert isinstance(cache.cache.native(), MemoryStore)


def test_with_a_path_it_is_a_file(tmp_path: Path) -> None:
    with opened("sync", tmp_path / "cache") as cache:
        assert cache.cache.native() == tmp_path / "cache"


def test_a_relative_path_is_relative_to_the_configuration_file(tmp_path: Path) -> None:
    assert absolute_paths(LocalConfig, {"path": "var/cache"}, tmp_path) == {
        "path": tmp_path / "var" / "cache"
    }
    # The embedded configuration fills in the one path that a local driver has.
    assert path_keys(LocalConfig) == ["path"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_bytes": 64 * 1024 - 1}, "max_bytes"),
        ({"max_bytes": 1024**4 + 1}, "max_bytes"),
        ({"max_bytes": "much"}, "max_bytes"),
        ({"busy_timeout": 0}, "busy_timeout"),
        ({"busy_timeout": 61}, "busy_timeout"),
        ({"busy_timeout": float("nan")}, "busy_timeout"),
        ({"lacks": ["fly"]}, "lacks"),
        ({"fsync": True}, "path"),
        ({"pth": "x"}, "pth"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(
    settings: dict[str, object], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        LocalConfig.model_validate(settings)


def test_the_configuration_narrows_capabilities() -> None:
    with opened("sync", lacks=frozenset({CacheCapability.ATOMIC_INCREMENT})) as cache:
        assert cache.cache.capabilities == BACKEND.capabilities - {"atomic_increment"}


def test_limits_come_from_the_dated_file_and_from_the_bound(tmp_path: Path) -> None:
    declared = CacheLimits(**limits("cache", "local"))
    assert declared.staleness == declared.generation_age == 0
    for path in (None, tmp_path / "cache"):
        with opened("sync", path, max_bytes=64 * 1024) as cache:
            own = cache.cache.limits
            assert own.max_key == declared.max_key
            assert own.max_batch == declared.max_batch
            assert 60_000 < own.max_value < 64 * 1024
    with opened("sync", max_bytes=1024**3) as cache:
        assert cache.cache.limits == declared
