"""The conformance suite, run by pytest in a process of its own on one configured backend.

`cm-platform conformance run` starts it and says in the environment what is tested. Secrets are
read from the configuration here; they do not travel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, cast

import pytest

from cm_platform.cli.invocation import Invocation
from cm_platform.cli.output import Output
from cm_platform.config.models import BackendConfig
from cm_platform.testing.storage import StorageConformance

VARIABLE: Final = "CM_PLATFORM_CONFORMANCE"


@pytest.fixture(scope="module")
def storage_backend() -> Mapping[str, Any]:
    """The table of the backend that is tested."""
    told: dict[str, Any] = json.loads(os.environ[VARIABLE])
    config = Path(told["config"]) if told["config"] else None
    call = Invocation(config, told["embedded"], False, Output(as_json=False))
    return table_of(call.load().kinds["storage"].backends[told["backend"]])


class TestStorage(StorageConformance):
    """Everything that storage promises."""


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
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in _items(value)]
    return value


def _items(value: Any) -> list[Any]:
    return list(cast("list[Any]", value))
