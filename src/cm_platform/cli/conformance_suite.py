"""The conformance suite, run by pytest in a process of its own on one configured backend.

`cm-platform conformance run` starts it and says in the environment what is tested. Secrets are
read from the configuration here; they do not travel.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, cast

import pytest
from pydantic import BaseModel

from cm_platform.cli.invocation import Invocation
from cm_platform.cli.output import Output
from cm_platform.config.models import BackendConfig

VARIABLE: Final = "CM_PLATFORM_CONFORMANCE"


def told() -> dict[str, Any]:
    """What the command said: the service, the backend's name, and where its configuration is."""
    found: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
    return found


def backend_table(service: str) -> Mapping[str, Any]:
    """The table of the backend that is tested."""
    said = told()
    config = Path(said["config"]) if said["config"] else None
    call = Invocation(config, said["embedded"], False, Output(as_json=False))
    return table_of(call.load().kinds[service].backends[said["backend"]])


def table_of(backend: BackendConfig) -> dict[str, Any]:
    """A backend as it could stand in a file, its secrets in the open."""
    table: dict[str, Any] = {"driver": backend.driver}
    for name, value in backend.settings:
        if value is not None:
            table[name] = _plain(value)
    return table


def _plain(value: Any) -> Any:
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        # It was resolved once; what looks like a reference now is text.
        return value.replace("${", "$${")
    if isinstance(value, BaseModel):
        return {name: _plain(item) for name, item in value if item is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in _items(value)]
    return value


def _items(value: Any) -> list[Any]:
    return list(cast("list[Any]", value))


# Below, because what is tested is read while pytest imports this.
if told().get("service") == "storage":
    from cm_platform.testing.storage import StorageConformance

    @pytest.fixture(scope="module")
    def storage_backend() -> Mapping[str, Any]:
        """The backend that is tested."""
        return backend_table("storage")

    class TestStorage(StorageConformance):
        """Everything that storage promises."""


if told().get("service") == "cache":
    from cm_platform.limits import limits
    from cm_platform.testing.cache import CacheConformance

    _TABLE: Final = backend_table("cache")
    _IS_LOCAL: Final = _TABLE["driver"] == "local"
    # KV's minute; by REST, as long again for the generation that a process goes on with.
    _LATE: Final = limits("cloudflare", "kv")["staleness"] * (1 + ("rest" in _TABLE))

    @pytest.fixture(scope="module")
    def cache_backend() -> Mapping[str, Any]:
        """The backend that is tested."""
        return _TABLE

    class TestCache(CacheConformance):
        """Everything that a cache promises."""

        # The local store goes by the clock that it is given, which the suite puts forward. Others
        # have their own, and what must end there ends while the suite waits.
        real_time = not _IS_LOCAL
        moment = CacheConformance.moment if _IS_LOCAL else 1.0
        shared = not _IS_LOCAL or "path" in _TABLE

        @classmethod
        def settle(cls) -> None:
            """See `CacheHarness.settle`."""
            # A local one that `lacks` it is not as late as it says.
            if not _IS_LOCAL:
                time.sleep(_LATE)
