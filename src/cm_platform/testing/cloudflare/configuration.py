"""What one local Cloudflare is told: identity, ports, consistency, and the limits."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

from cm_platform.errors import ConfigInvalidError, UnavailableError
from cm_platform.limits import limits

ColdReads = Literal["stale", "fresh"]

LOCATIONS: Final = ("near", "far")
"""Where the gateway runs. REST is a third."""

_IDENTITY: Final = "identity.json"


@dataclass(frozen=True, slots=True)
class RestCap:
    """The cap of an API token: requests in any period, then none for block (seconds)."""

    requests: int
    period: float
    block: float

    @classmethod
    def of_production(cls) -> Self:
        """1,200 in 300 s, then none for 300 s: see `limits.toml`."""
        rest = limits("cloudflare", "rest")
        return cls(rest["max_requests"], rest["period"], rest["block"])


@dataclass(frozen=True, slots=True)
class Identity:
    """Who one speaks to, and as whom."""

    account_id: str
    kv_namespace_id: str
    gateway_key_id: str
    api_token: str = field(repr=False)
    gateway_secret: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """One that nobody has had."""
        return cls(
            account_id=secrets.token_hex(16),
            kv_namespace_id=secrets.token_hex(16),
            gateway_key_id="local",
            api_token=secrets.token_urlsafe(30),
            gateway_secret=secrets.token_urlsafe(32),
        )

    @classmethod
    def kept_in(cls, directory: Path) -> Self:
        """The one of a persistent directory, made on first use: its data belong to it."""
        file = directory / _IDENTITY
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (ValueError, TypeError) as error:
            raise ConfigInvalidError(
                f"{file} was not written by a local Cloudflare; give it a directory of its own"
            ) from error
        identity = cls.new()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            json.dump(asdict(identity), stream)
        return identity


def held(directory: Path) -> int:
    """The persistent directory, for one at a time: a descriptor that holds it until closed.

    Raises `unavailable` when another local Cloudflare has it.
    """
    descriptor = os.open(directory / _IDENTITY, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UnavailableError(f"another local Cloudflare works in {directory}") from error
    return descriptor


def node_configuration(
    identity: Identity,
    *,
    root: Path,
    modules: Path,
    secret: str,
    persist: Path | None,
    gateway_port: int,
    rest_port: int,
    kv_staleness: float,
    kv_cold_reads: ColdReads,
    rest_cap: RestCap,
) -> dict[str, Any]:
    """What server/main.mjs reads: see there."""
    return {
        "gateway": {
            "root": str(root),
            "modules": str(modules),
            "ports": {name: gateway_port if name == LOCATIONS[0] else 0 for name in LOCATIONS},
            "keys": {identity.gateway_key_id: identity.gateway_secret},
        },
        "rest": {
            "id": identity.account_id,
            "token": identity.api_token,
            "port": rest_port,
            "cap": asdict(rest_cap),
        },
        "kv": {
            "namespace": identity.kv_namespace_id,
            "title": "KV",
            "consistency": {"staleness": kv_staleness, "cold_reads": kv_cold_reads},
        },
        "secret": secret,
        "persist": None if persist is None else str(persist),
        "limits": {product: limits("cloudflare", product) for product in ("kv", "worker")},
    }


__all__ = ["LOCATIONS", "ColdReads", "Identity", "RestCap", "held", "node_configuration"]
