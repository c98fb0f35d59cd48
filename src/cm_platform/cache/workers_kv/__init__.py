"""The backend `cache.workers_kv`: eventually consistent, read everywhere, written rarely."""

from .store import BACKEND, WorkersKvCache, WorkersKvConfig

__all__ = ["BACKEND", "WorkersKvCache", "WorkersKvConfig"]
