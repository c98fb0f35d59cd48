"""Configuration: a TOML file, the environment over it, and a word on where each value is from.

    config = load("cm_platform.toml")
    for setting in config.explain():
        print(setting.path, setting.value, setting.source)

Everything that is wrong is reported together, by path, without repeating a value.
"""

from cm_platform.routing import Rule

from .embedding import embedded
from .explaining import defaults
from .loading import load
from .models import (
    BackendConfig,
    BreakerConfig,
    Config,
    KindConfig,
    MigrationConfig,
    NamespaceConfig,
    RetryConfig,
    Setting,
    SigningConfig,
    TelemetryConfig,
)

__all__ = [
    "BackendConfig",
    "BreakerConfig",
    "Config",
    "KindConfig",
    "MigrationConfig",
    "NamespaceConfig",
    "RetryConfig",
    "Rule",
    "Setting",
    "SigningConfig",
    "TelemetryConfig",
    "defaults",
    "embedded",
    "load",
]
