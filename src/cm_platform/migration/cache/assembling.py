"""All that moves one tenant's cache, made of two opened backends and a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cm_platform.cache.keys import DEFAULT_NAMESPACE
from cm_platform.config import KindConfig, MigrationConfig, NamespaceConfig
from cm_platform.migration import mover
from cm_platform.migration.lease import StageLease
from cm_platform.migration.ledger import Ledger, Subject, Terms
from cm_platform.runtime import Runtime

from .atomics import Atomics
from .backend import MigratingCache
from .copies import Copies
from .mix import Mix
from .mover import CacheMover
from .moving import Moving
from .pair import Pair
from .reads import Reader
from .shadow import Shadow, ShadowTerms
from .stand import Stand
from .writes import Writer


def assemble(
    sides: mover.Sides,
    ledger: Ledger,
    subject: Subject,
    terms: Terms,
    config: MigrationConfig,
    runtime: Runtime,
    *,
    act: float,
    prefix: str,
    namespaces: Mapping[str, NamespaceConfig] = MappingProxyType({}),
) -> mover.Moving:
    """See `Assemble`.

    terms: `longest` is taken from the two backends and from what this process does.
    namespaces: those that move, as they are configured.
    """
    pair = Pair(sides.source, sides.target, runtime)
    terms = replace(terms, longest=act + pair.max_request_lifetime)
    bound = staleness(pair, config.staleness)
    stand = Stand(StageLease(ledger, subject, terms, runtime), ledger, subject, pair, runtime)
    mix = Mix(ledger, subject, pair, runtime, prefix)
    moving = Moving(pair, stand, act=act)
    reader = moving.reader = Reader(pair, stand, runtime, moving.brought)
    writer = Writer(pair, stand, reader, Copies(pair, mix), runtime, bound=bound)
    shadow = Shadow(
        pair,
        ledger,
        subject,
        runtime,
        ShadowTerms(config.shadow_sample, config.shadow_per_second, bound),
        prefix,
    )
    atomics = Atomics(pair, stand, reader, moving, writer)
    cache = MigratingCache(pair, stand, reader, writer, atomics, shadow, mix)
    acts = CacheMover(pair, ledger, subject, mix, terms, prefix, namespaces)
    return mover.Moving(cache, acts, terms, cache.prepare)


def moved_with(settings: KindConfig, namespace: str) -> dict[str, NamespaceConfig]:
    """The namespaces that move with a route, as they are configured.

    namespace: whose route it is; "" for the kind's, with which all go that have none.
    """
    if namespace:
        return {namespace: settings.namespaces[namespace]}
    found = {name: one for name, one in settings.namespaces.items() if one.default is None}
    if DEFAULT_NAMESPACE not in settings.namespaces:
        found[DEFAULT_NAMESPACE] = NamespaceConfig()
    return found


def staleness(pair: Pair, declared: float) -> float:
    """Seconds by which a read may be older than a write: as declared, and as the stores have it."""
    return max(
        declared,
        *(
            backend.limits.staleness + backend.limits.generation_age
            for backend in (pair.source, pair.target)
        ),
    )


__all__ = ["assemble", "moved_with", "staleness"]
