"""The backend `cache.redis`: Redis, Valkey and Upstash, one server or a cluster."""

from .driver import BACKEND, RedisConfig
from .store import RedisCache

__all__ = ["BACKEND", "RedisCache", "RedisConfig"]
