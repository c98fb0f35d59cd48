"""Storage's operations: what each needs and what may be done when it fails."""

from __future__ import annotations

from functools import partial
from typing import Final

from cm_platform.operation import Operation

from .backend import StorageCapability

_read = partial(Operation, "storage", access="read")
_write = partial(Operation, "storage", access="write")

HEAD: Final = _read("head")
GET: Final = _read("get")
LIST: Final = _read("list", continues=True)
PING: Final = _read("ping")
PRESIGN: Final = _read("presign", requires=StorageCapability.PRESIGN)

# Made twice, a put leaves what it leaves made once; a conditional one refuses the second time,
# and then the revision in the metadata tells whose object it is.
PUT: Final = _write("put")
COPY: Final = _write("copy")
COMPLETE_MULTIPART: Final = _write("complete_multipart", continues=True)
DELETE: Final = _write("delete")
DELETE_MANY: Final = _write("delete_many")
# Made twice, the second meets the first's success as a conflict, and nothing in the store tells
# any more who removed the object.
DELETE_MATCHING: Final = _write("delete", idempotent=False)

# A part sent twice is the same part; an upload begun twice leaves an empty one behind, which the
# store's lifecycle rules remove.
CREATE_MULTIPART: Final = _write("create_multipart", visible=False)
PUT_PART: Final = _write("put_part", visible=False, continues=True)
COPY_PART: Final = _write("copy_part", visible=False, continues=True)
ABORT_MULTIPART: Final = _write("abort_multipart", visible=False, continues=True)

__all__ = [
    "ABORT_MULTIPART",
    "COMPLETE_MULTIPART",
    "COPY",
    "COPY_PART",
    "CREATE_MULTIPART",
    "DELETE",
    "DELETE_MANY",
    "DELETE_MATCHING",
    "GET",
    "HEAD",
    "LIST",
    "PING",
    "PRESIGN",
    "PUT",
    "PUT_PART",
]
