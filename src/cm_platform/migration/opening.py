"""Which kinds can be moved, and what puts each of them together."""

from __future__ import annotations

from functools import partial

from cm_platform.config import KindConfig
from cm_platform.errors import ConfigInvalidError

from .mover import Assemble


def assembler(kind: str, settings: KindConfig) -> Assemble:
    """What puts a kind's migration together; `config_invalid` for one that cannot be moved.

    kind: such as "storage", or of a namespace that moves alone "cache.sessions". settings: of the
    kind.
    """
    name, _, namespace = kind.partition(".")
    # Imported for who moves: the parts of a migration are some thirty modules.
    if name == "storage":
        from .storage.assembling import assemble as assemble_storage

        return assemble_storage
    if name == "cache":
        from .cache.assembling import assemble as assemble_cache
        from .cache.assembling import moved_with

        return partial(assemble_cache, namespaces=moved_with(settings, namespace))
    raise ConfigInvalidError(f"this version does not move {name}: only {', '.join(MOVABLE)}")


MOVABLE = ("storage", "cache")

__all__ = ["MOVABLE", "assembler"]
