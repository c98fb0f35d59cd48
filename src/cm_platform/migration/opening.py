"""Which kinds can be moved, and what is put together for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from cm_platform.config import KindConfig, MigrationConfig
from cm_platform.errors import ConfigInvalidError
from cm_platform.runtime import Runtime

from .ledger import Ledger, Subject, Terms
from .mover import Mover


class Moving(NamedTuple):
    """One tenant's data of one kind on its way.

    backend: what the tenant's service uses, a backend of its kind. mover: what the operator
    uses. terms: what all processes agree on. prepare: to be awaited before the backend is asked
    what it can do, where that depends on the stage.
    """

    backend: Any
    mover: Mover
    terms: Terms
    prepare: Callable[[], Awaitable[None]] | None = None


class Sides(NamedTuple):
    """The two backends, opened."""

    source: Any
    target: Any


class Assemble(Protocol):
    """Puts it together for one kind. No I/O.

    act: seconds that a whole operation may take. prefix: what all of the tenant's keys begin with.
    """

    def __call__(
        self,
        sides: Sides,
        ledger: Ledger,
        subject: Subject,
        terms: Terms,
        config: MigrationConfig,
        runtime: Runtime,
        *,
        act: float,
        prefix: str,
    ) -> Moving: ...


def assembler(kind: str, settings: KindConfig) -> Assemble:
    """What puts a kind's migration together; `config_invalid` for one that cannot be moved.

    kind: such as "storage", or of a namespace that moves alone "cache.sessions". settings: of the
    kind.
    """
    name, _, namespace = kind.partition(".")
    if name == "storage":
        from .storage.assembling import assemble as assemble_storage

        return assemble_storage
    if name == "cache":
        from .cache.assembling import assemble as assemble_cache
        from .cache.assembling import moved_with

        return partial(assemble_cache, namespaces=moved_with(settings, namespace))
    raise ConfigInvalidError(f"this version does not move {name}: only {', '.join(MOVABLE)}")


MOVABLE = ("storage", "cache")

__all__ = ["MOVABLE", "Assemble", "Moving", "Sides", "assembler"]
