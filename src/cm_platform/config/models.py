"""The frozen models of a configuration that was read, checked and found to be in order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    Field,
    InstanceOf,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from cm_platform.routing import Rule
from cm_platform.settings import Settings
from cm_platform.tenant import DEFAULT_LAYOUT

from .tree import Origins
from .tree import Path as TreePath


class Setting(NamedTuple):
    """One value and where it came from.

    value: for people. data: for programs, JSON-ready: a number is a number. In both, secrets
    read ********.
    """

    path: str
    value: str
    source: str
    data: Any = None


class RetryConfig(Settings):
    """How often and how long to try again.

    attempts: at most, the first one included.
    initial: seconds; before the second attempt a random time up to this is waited, before each
        further one up to twice as long.
    max: seconds that are waited before any attempt, at most.
    """

    attempts: int = Field(default=4, ge=1, le=20)
    initial: float = Field(default=0.1, gt=0, le=60, allow_inf_nan=False)
    max: float = Field(default=5.0, gt=0, le=300, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.initial:
            raise ValueError("max must not be below initial")
        return self


class BreakerConfig(Settings):
    """When to stop asking a backend that does not answer.

    failures: so many in a row open it, and calls fail at once.
    open_for: seconds until one call is let through, to see.
    """

    failures: int = Field(default=10, ge=1, le=10_000)
    open_for: float = Field(default=10.0, gt=0, le=3600, allow_inf_nan=False)


class MigrationConfig(Settings):
    """A way from one backend to another.

    source: the backend that has the data.
    target: the backend that is to have it.
    lease: seconds for which a process uses what the ledger said; a change of sides takes at
        least as long.
    upload_ttl: seconds that a URL to upload may live meanwhile.
    soak: seconds between the change of sides and the end, at least.
    shadow_sample: of all reads, the share whose other side is looked at, 0 to 1.
    shadow_per_second: such looks in one process, at most.
    max_divergence: of those looks, the share that may find a difference, 0 to 1.
    staleness: seconds by which what is read of a cache may be late while it moves, at most; where
        a store may show for so long what was deleted, the delete is kept as a tombstone. No
        lower than the stores have it themselves.
    concurrency: keys at once of a plan, a backfill, a verification, a repair.
    rate: keys a second of a backfill, at most; 0 for no bound.
    """

    source: str
    target: str
    lease: float = Field(default=5.0, ge=0.05, le=300, allow_inf_nan=False)
    upload_ttl: int = Field(default=3600, ge=1, le=604_800)
    soak: float = Field(default=86_400.0, ge=0, le=31_536_000, allow_inf_nan=False)
    shadow_sample: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False)
    shadow_per_second: float = Field(default=10.0, ge=0, le=10_000, allow_inf_nan=False)
    max_divergence: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    staleness: float = Field(default=120.0, ge=0, le=86_400, allow_inf_nan=False)
    concurrency: int = Field(default=8, ge=1, le=256)
    rate: float = Field(default=0.0, ge=0, le=1_000_000, allow_inf_nan=False)


class BackendConfig(Settings):
    """A configured backend. settings: an instance of its driver's model."""

    name: str
    driver: str
    settings: InstanceOf[BaseModel]


class KindSettings(Settings):
    """What a kind's table says beside its named tables.

    default: the backend of tenants that no rule matches.
    layout: what keys look like in the store, made of `{tenant}`, `{site}` and `{key}`.
    flags: who is asked for routes: the rules of this configuration, or the provider that the
        application has set in OpenFeature.
    route_ttl: seconds that a route is used without asking again.
    timeout: seconds for a whole operation, its retries included.
    """

    default: str
    layout: str = DEFAULT_LAYOUT
    flags: Literal["rules", "openfeature"] = "rules"
    route_ttl: float = Field(default=30.0, gt=0, le=3600, allow_inf_nan=False)
    timeout: float = Field(default=60.0, gt=0, le=86_400, allow_inf_nan=False)
    retry: RetryConfig = RetryConfig()
    breaker: BreakerConfig = BreakerConfig()


class NamespaceSettings(Settings):
    """What the table of a namespace says beside its rules.

    default: the backend of tenants that none of its rules matches. Left out, the namespace goes
        where the kind goes.
    encoding: "entry" is our own form; "raw" keeps bytes as they are, under names as they are,
        for keys that are shared with other programs.
    consistency: what its readers count on. "read_your_writes" is refused on a backend that is
        only eventually consistent.
    ttl: seconds that a value is kept where a call does not say.
    """

    default: str | None = None
    encoding: Literal["entry", "raw"] = "entry"
    consistency: Literal["read_your_writes", "eventual"] = "eventual"
    ttl: float = Field(default=300.0, gt=0, le=316_224_000, allow_inf_nan=False)


class NamespaceConfig(NamespaceSettings):
    """Everything about one namespace. rules: its own, where it has a default."""

    rules: tuple[InstanceOf[Rule], ...] = ()


class KindConfig(KindSettings):
    """Everything about one kind of service.

    tenants: backends that are configured differently for one tenant, by tenant and name.
    namespaces: of a kind that has them; one that is not named here is as "default" is.
    """

    backends: Mapping[str, BackendConfig]
    namespaces: Mapping[str, NamespaceConfig] = {}
    migrations: Mapping[str, MigrationConfig] = {}
    rules: tuple[InstanceOf[Rule], ...] = ()
    tenants: Mapping[str, Mapping[str, BackendConfig]] = {}


class SigningConfig(Settings):
    """Keys for cursors, envelopes and the gateway, by id.

    current: the id of the key that signs; the others still verify. Left out, the only key.
    keys: by id, each of 32 characters or more. Without keys, cursors hold in one process only.
    """

    current: str | None = None
    keys: Mapping[str, SecretStr] = {}


class TelemetryConfig(Settings):
    """What traces tell.

    tenant_attribute: put the ids of tenant, site and user on spans.
    """

    tenant_attribute: bool = False


class Config(Settings):
    """A whole configuration; made by `load` and `embedded`.

    kinds: those that are configured. ledger: what knows where each tenant's data is; migrations,
    percentages and remote flags need it. source_dir: what relative paths were relative to.
    """

    kinds: Mapping[str, KindConfig]
    ledger: BackendConfig | None = None
    signing: SigningConfig = SigningConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    source_dir: Path

    _origins: Origins = PrivateAttr(default_factory=dict[TreePath, str])

    def explain(self) -> list[Setting]:
        """Every setting in force, with its source: the file, the environment or the default."""
        from .explaining import explained

        return explained(self, self._origins)


__all__ = [
    "BackendConfig",
    "BreakerConfig",
    "Config",
    "KindConfig",
    "KindSettings",
    "MigrationConfig",
    "NamespaceConfig",
    "NamespaceSettings",
    "RetryConfig",
    "Setting",
    "SigningConfig",
    "TelemetryConfig",
]
