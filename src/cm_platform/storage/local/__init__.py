"""The backend `storage.local`: a directory, with the promises of an object store."""

from .store import BACKEND, LocalConfig, LocalStorage

__all__ = ["BACKEND", "LocalConfig", "LocalStorage"]
