"""Many deletions in one request, each with its own outcome."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cm_platform.errors import InternalError, PlatformError

from .errors import Fault, error_of

# XML 1.0 cannot carry these, or a parser alters them on the way back.
_NOT_IN_XML: Final = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")

# DeleteObjects gives a code for each key and no status.
_STATUS: Final = {"AccessDenied": 403, "SlowDown": 503, "ServiceUnavailable": 503}


class Batch:
    """Keys to delete: `together` in one DeleteObjects, `alone` what its XML cannot carry.

    failures: what is known by now of keys that were not deleted.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        distinct = dict.fromkeys(keys)
        self.alone = [key for key in distinct if _NOT_IN_XML.search(key) is not None]
        self.together = [key for key in distinct if _NOT_IN_XML.search(key) is None]
        self.failures: dict[str, PlatformError] = {}

    def request(self) -> dict[str, Any]:
        """The body of DeleteObjects. Not `Quiet`: that answer would not account for every key."""
        return {"Objects": [{"Key": key} for key in self.together]}

    def take(self, answer: Mapping[str, Any]) -> None:
        """Read the answer of DeleteObjects."""
        unmentioned = set(self.together)
        unmentioned -= {gone.get("Key") for gone in answer.get("Deleted", ())}
        for failed in answer.get("Errors", ()):
            key, code = failed.get("Key"), failed.get("Code", "")
            if key in unmentioned:
                unmentioned.remove(key)
                if code != "NoSuchKey":
                    status = _STATUS.get(code, 500)
                    self.failures[key] = error_of(Fault(status=status, code=code), "")
        for key in unmentioned:
            self.failures[key] = InternalError("the store did not say what became of this key")


__all__ = ["Batch"]
