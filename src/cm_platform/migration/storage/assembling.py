"""All that moves one tenant's objects, made of two opened backends and a ledger."""

from __future__ import annotations

from dataclasses import replace

from cm_platform.config import MigrationConfig
from cm_platform.migration.intents import Intents
from cm_platform.migration.lease import StageLease
from cm_platform.migration.ledger import Ledger, Subject, Terms
from cm_platform.migration.mover import Moving, Sides
from cm_platform.runtime import Runtime

from .backend import MigratingStorage
from .mover import StorageMover
from .pair import Pair
from .reads import Reader
from .reconcile import Reconciler
from .repair import Repairer
from .shadow import Shadow, ShadowTerms
from .writes import Writer


def assemble(
    sides: Sides,
    ledger: Ledger,
    subject: Subject,
    terms: Terms,
    config: MigrationConfig,
    runtime: Runtime,
    *,
    act: float,
    prefix: str,
) -> Moving:
    """See `Assemble`.

    terms: `longest` is taken from the two backends and from what this process does.
    """
    pair = Pair(sides.source, sides.target, runtime)
    quarantine = pair.max_request_lifetime
    terms = replace(terms, longest=max(act, config.upload_ttl) + quarantine)
    stage = StageLease(ledger, subject, terms, runtime)
    intents = Intents(ledger, subject, stage, runtime, act=act, quarantine=quarantine)
    reconciler = Reconciler(pair, intents)
    repairer = Repairer(intents, reconciler, runtime, concurrency=config.concurrency)
    shadow = Shadow(
        pair,
        ledger,
        subject,
        runtime,
        ShadowTerms(config.shadow_sample, config.shadow_per_second),
        lambda key: key_class(key, prefix),
    )
    storage = MigratingStorage(
        pair,
        stage,
        intents,
        reconciler,
        Writer(pair, intents, reconciler, repairer),
        Reader(stage, shadow),
        shadow,
        upload_ttl=config.upload_ttl,
    )
    mover = StorageMover(
        pair,
        ledger,
        subject,
        intents,
        reconciler,
        repairer,
        prefix,
        concurrency=config.concurrency,
        rate=config.rate,
    )
    return Moving(storage, mover, terms)


def key_class(key: str, prefix: str) -> str:
    """What keys are counted together: those of a folder, such as "invoices/", or the rest."""
    folder, slash, _ = key.removeprefix(prefix).partition("/")
    return f"{folder}/" if slash else "(no folder)"


__all__ = ["assemble", "key_class"]
