"""The backend `storage.s3`: Amazon S3, and services that speak its API."""

from .driver import BACKEND, S3Config
from .store import S3Storage

__all__ = ["BACKEND", "S3Config", "S3Storage"]
