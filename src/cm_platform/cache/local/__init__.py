"""The backend `cache.local`: this process's memory, or a file that several processes share."""

from .cache import BACKEND, LocalCache, LocalConfig

__all__ = ["BACKEND", "LocalCache", "LocalConfig"]
