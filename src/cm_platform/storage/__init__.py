"""Object storage: one interface over S3, R2 and the local disk.

The names that an application, or a backend of its own, needs. Importing this imports none of
them, and no SDK: each comes on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .backend import Attributes as Attributes
    from .backend import BackendPage as BackendPage
    from .backend import ListedObject as ListedObject
    from .backend import ObjectInfo as ObjectInfo
    from .backend import ObjectReply as ObjectReply
    from .backend import Part as Part
    from .backend import Presigned as Presigned
    from .backend import StorageBackend as StorageBackend
    from .backend import StorageCapability as StorageCapability
    from .backend import StorageLimits as StorageLimits
    from .backend import Uncarried as Uncarried
    from .backend import Written as Written
    from .body import AsyncBody as AsyncBody
    from .body import Body as Body
    from .reading import AsyncStoredObject as AsyncStoredObject
    from .service import AsyncStorage as AsyncStorage
    from .sync import Storage as Storage
    from .sync import StoredObject as StoredObject
    from .view import Page as Page
    from .view import PresignedUrl as PresignedUrl
    from .writing import Progress as Progress

_MODULES: Final = {
    "Attributes": "backend",
    "BackendPage": "backend",
    "ListedObject": "backend",
    "ObjectInfo": "backend",
    "ObjectReply": "backend",
    "Part": "backend",
    "Presigned": "backend",
    "StorageBackend": "backend",
    "StorageCapability": "backend",
    "StorageLimits": "backend",
    "Uncarried": "backend",
    "Written": "backend",
    "AsyncBody": "body",
    "Body": "body",
    "AsyncStoredObject": "reading",
    "AsyncStorage": "service",
    "Storage": "sync",
    "StoredObject": "sync",
    "Page": "view",
    "PresignedUrl": "view",
    "Progress": "writing",
}

# Hidden from type checkers, to whom a module with `__getattr__` has every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if (module := _MODULES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{module}", __name__), name)


__all__ = [
    "AsyncBody",
    "AsyncStorage",
    "AsyncStoredObject",
    "Attributes",
    "BackendPage",
    "Body",
    "ListedObject",
    "ObjectInfo",
    "ObjectReply",
    "Page",
    "Part",
    "Presigned",
    "PresignedUrl",
    "Progress",
    "Storage",
    "StorageBackend",
    "StorageCapability",
    "StorageLimits",
    "StoredObject",
    "Uncarried",
    "Written",
]
