"""What `cm-platform doctor` looks at. Each check says what it found, and what to do about it."""

from __future__ import annotations

import multiprocessing
import platform as machine
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel

from cm_platform.config import Config
from cm_platform.config.fields import keys_of
from cm_platform.config.models import BackendConfig
from cm_platform.limits import LIMITS_AGE, entries, products_of, provenance
from cm_platform.platform import Health

from .hosts import hosts, is_loopback
from .output import counted
from .services import is_secret

Status = Literal["ok", "note", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome. seconds: what a ping took."""

    check: str
    subject: str
    status: Status
    detail: str
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


def credentials(config: Config) -> Iterator[Finding]:
    """Which secrets are set, by name; never their values."""
    for kind, settings in config.kinds.items():
        for name, backend in settings.backends.items():
            yield _credentials(f"{kind}.{name}", backend)
        for tenant, own in settings.tenants.items():
            for name, backend in own.items():
                yield _credentials(f"{kind}.{name} of {tenant}", backend)
    if config.ledger is not None:
        yield _credentials("ledger", config.ledger)


def _credentials(subject: str, backend: BackendConfig) -> Finding:
    secrets = dict(_secrets(backend.settings))
    given = [name for name, is_set in secrets.items() if is_set]
    if not secrets:
        detail = "needs none"
    elif given:
        detail = f"set: {', '.join(given)}"
    else:
        detail = "none set: the SDK looks for them itself (environment, profile, role)"
    return Finding("credentials", subject, "ok", detail)


def _secrets(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Each secret by its name, inner tables' with a dot, and whether it is set."""
    model = type(settings)
    for name in keys_of(model):
        value = getattr(settings, name, None)
        if isinstance(value, BaseModel):
            yield from _secrets(value, f"{prefix}{name}.")
        elif is_secret(model, name):
            yield f"{prefix}{name}", value is not None


def encryption(config: Config) -> Iterator[Finding]:
    """Whether what goes to other machines is encrypted, of backends that leave the choice."""
    for kind, settings in config.kinds.items():
        for name, backend in settings.backends.items():
            yield from _encryption(f"{kind}.{name}", backend, "use TLS (rediss://)")
    if config.ledger is not None:
        yield from _encryption("ledger", config.ledger, "use TLS (sslmode=verify-full)")


def _encryption(subject: str, backend: BackendConfig, remedy: str) -> Iterator[Finding]:
    encrypted = getattr(backend.settings, "encrypted", None)
    if encrypted is None:
        return
    if encrypted or all(map(is_loopback, hosts(backend.settings))):
        yield Finding("encryption", subject, "ok", "encrypted, or on this machine")
    else:
        detail = f"passwords and values may travel in the open: {remedy}"
        yield Finding("encryption", subject, "warning", detail)


def reachable(healths: list[Health]) -> Iterator[Finding]:
    """Whether each backend answers."""
    for health in healths:
        subject = f"{health.service}.{health.backend}"
        if health.error is None:
            detail = f"opened, and answered after {health.latency * 1000:.0f} ms"
            yield Finding("reachable", subject, "ok", detail, health.latency)
        else:
            detail = f"{health.error.code}: {health.error.message}"
            yield Finding("reachable", subject, "failed", detail, health.latency)


def signing(config: Config) -> Finding:
    """Whether what we sign holds in another process."""
    keys = sorted(config.signing.keys)
    if not keys:
        return Finding(
            "signing",
            "signing.keys",
            "warning",
            "none: cursors hold only in the process that made them. Configure signing.keys",
        )
    detail = f"{config.signing.current} signs; verified: {', '.join(keys)}"
    return Finding("signing", "signing.keys", "ok", detail)


def limits(config: Config, today: date) -> Iterator[Finding]:
    """Whether the limits that we keep to were read lately."""
    used = {
        f"{kind}.{backend.driver}"
        for kind, settings in config.kinds.items()
        for backend in settings.backends.values()
    }
    used |= {product for driver in used for product in products_of(driver)}
    for name, source, as_of in provenance():
        if name in used:
            age = (today - as_of).days
            old = age > LIMITS_AGE
            advice = f": {_old(name, today)}a newer cm-platform may know better" if old else ""
            yield Finding(
                "limits",
                name,
                "warning" if old else "ok",
                f"read {as_of} ({counted(max(age, 0), 'day')} ago){advice}. {source}",
            )


def _old(table: str, today: date) -> str:
    """Which entries, where not all are as old as the oldest."""
    all_of_it = entries(table)
    old = [limit.name.rpartition(".")[2] for limit in all_of_it if limit.is_old(today)]
    return f"{', '.join(old)}; " if 0 < len(old) < len(all_of_it) else ""


def environment(config: Config) -> Iterator[Finding]:
    """What the machine and this Python mean for the backends."""
    system = f"{machine.system()} {machine.release()}"
    supported = machine.system() in ("Linux", "Darwin")
    yield Finding(
        "environment",
        "system",
        "ok" if supported else "warning",
        f"{system}, {machine.machine()}" + ("" if supported else ": not tested on it"),
    )
    yield Finding(
        "environment",
        "python",
        "ok",
        f"{machine.python_implementation()} {machine.python_version()}",
    )
    drivers = {b.driver for kind in config.kinds.values() for b in kind.backends.values()}
    if drivers & {"s3", "r2"}:
        yield _fork()


def _fork() -> Finding:
    # Not `get_start_method()`, which would settle it for this process.
    chosen = multiprocessing.get_start_method(allow_none=True)
    default = chosen or ("fork" if sys.platform == "linux" and sys.version_info < (3, 14) else "")
    detail = (
        "processes are forked by default here: a child of a process that has used S3 or R2 "
        "moves bytes through boto3 alone, which is slower. Open them after the fork"
        if default == "fork"
        else "processes are not forked by default here"
    )
    return Finding("environment", "fork", "note", detail)


__all__ = [
    "LIMITS_AGE",
    "Finding",
    "Status",
    "credentials",
    "encryption",
    "environment",
    "limits",
    "reachable",
    "signing",
]
