"""Servers for tests, run on this machine: S3, R2's S3 face, OpenStack Swift, Valkey, Postgres, and
faulty networks before them.

Names are loaded on first use: importing this package imports neither moto nor swift nor boto3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cm_platform.testing.servers.endpoint import Endpoint

if TYPE_CHECKING:
    from cm_platform.testing.servers.postgres import PostgresServer
    from cm_platform.testing.servers.process import ServerStartError
    from cm_platform.testing.servers.proxy import FaultProxy
    from cm_platform.testing.servers.r2 import R2Server
    from cm_platform.testing.servers.s3 import S3Server
    from cm_platform.testing.servers.swift import SwiftServer
    from cm_platform.testing.servers.valkey import ValkeyCluster, ValkeyServer
    from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

__all__ = [
    "Endpoint",
    "FaultProxy",
    "PostgresServer",
    "R2Server",
    "S3Server",
    "ServerStartError",
    "SwiftServer",
    "ValkeyCluster",
    "ValkeyProxy",
    "ValkeyServer",
]

_HOMES = {
    "FaultProxy": "proxy",
    "PostgresServer": "postgres",
    "R2Server": "r2",
    "S3Server": "s3",
    "ServerStartError": "process",
    "SwiftServer": "swift",
    "ValkeyCluster": "valkey",
    "ValkeyProxy": "valkey_proxy",
    "ValkeyServer": "valkey",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
