"""A simulated store without a simulation keeps what every storage backend promises."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings
from cm_platform.storage.backend import StorageBackend, StorageCapability, StorageLimits
from cm_platform.testing import StorageConformance
from cm_platform.testing.simulation import SimulatedStorage, SimulatedStore
from cm_platform.testing.storage import ConditionsConformance, ModelConformance

# A URL of a simulated store leads to no server.
_CAPABILITIES = frozenset(StorageCapability) - {StorageCapability.PRESIGN}


class _Settings(Settings):
    unique_etags: bool = False


async def _open(settings: _Settings, runtime: Runtime) -> StorageBackend:
    store = SimulatedStore(
        "simulated",
        time.time,
        limits=StorageLimits(min_part=1024),
        unique_etags=settings.unique_etags,
    )
    return SimulatedStorage(store, None, capabilities=_CAPABILITIES)


_BACKEND = Backend(
    name="storage.simulated", config=_Settings, open=_open, capabilities=_CAPABILITIES
)


class TestSimulated(StorageConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls) -> Mapping[str, Any]:
        return {"driver": _BACKEND}


class TestSimulatedWithUniqueEtags(ConditionsConformance, ModelConformance):
    examples = 20

    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls) -> Mapping[str, Any]:
        return {"driver": _BACKEND, "unique_etags": True}
