"""What the global options mean for one run of a command."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cm_platform.config.loading import CONFIG_VARIABLE
from cm_platform.errors import ConfigInvalidError, InvalidArgumentError
from cm_platform.runtime import SYSTEM_CLOCK, Clock

from .output import Output

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.platform import Platform
    from cm_platform.storage.sync import Storage

DEFAULT_FILE: Final = "cm_platform.toml"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run. config: the file of `--config`. out: where it speaks. clock: what waits are
    measured by."""

    config: Path | None
    embedded: bool
    debug: bool
    out: Output
    clock: Clock = SYSTEM_CLOCK

    def source(self) -> Path | None:
        """The file to read: `--config`, CM_PLATFORM_CONFIG, or the one that lies here."""
        named = os.environ.get(CONFIG_VARIABLE)
        for candidate in (self.config, Path(named) if named else None):
            if candidate is not None:
                return candidate
        here = Path(DEFAULT_FILE)
        return here if here.is_file() else None

    def load(self) -> Config:
        """The configuration, checked. Raises `config_invalid` with everything that is wrong."""
        from cm_platform.config import embedded, load

        if self.embedded:
            if self.config is not None:
                raise InvalidArgumentError("give either --config or --embedded")
            return embedded()
        source = self.source()
        if source is None:
            raise ConfigInvalidError(
                f"nothing is configured. Give --config PATH, or set {CONFIG_VARIABLE}, or write "
                f"./{DEFAULT_FILE}, or try --embedded for a store under ./.cm_platform"
            )
        return load(source)

    @contextmanager
    def platform(self) -> Generator[Platform]:
        """A platform of the configuration, closed at the end."""
        from cm_platform.platform import Platform

        with Platform(self.load(), clock=self.clock) as platform:
            yield platform

    @contextmanager
    def storage(self, tenant: str, site: str | None) -> Generator[Storage]:
        """One tenant's storage."""
        from cm_platform.tenant import Tenant

        who = Tenant(tenant, site_id=site)
        with self.platform() as platform:
            yield platform.get_service("storage", who)


def invocation_of(context: Any) -> Invocation:
    """The run that a command belongs to. context: typer's."""
    found = context.obj
    assert isinstance(found, Invocation)  # noqa: S101 - the root command has set it
    return found


__all__ = ["DEFAULT_FILE", "Invocation", "invocation_of"]
