"""OpenStack Swift with its S3 face (s3api, tempauth): an S3 implementation that is not ours.

Four processes, one replica, unprivileged, everything below one directory. Right are signatures,
ranges, copies, listings, multipart uploads and presigned URLs. Not right or not there: conditional
writes (`If-None-Match: *` is not atomic, If-Match on PUT is 501), tags, lifecycle.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cm_platform.testing.servers.accounts import create_bucket, new_accounts
from cm_platform.testing.servers.endpoint import Endpoint
from cm_platform.testing.servers.process import ChildServer, ServerStartError
from cm_platform.testing.servers.serve_swift import ACCOUNTS, PORT_TAKEN

_STARTS = 3
_REGION = "us-east-1"
_XATTR = "user.cm_platform.probe"


class SwiftServer:
    """A real Swift. `directory` must be on a filesystem with user extended attributes.

    Without `directory` a temporary one is made and removed at the end. Two accounts, 0 and 1,
    cannot see each other's buckets. Use as a context manager.
    """

    def __init__(self, directory: Path | None = None, *, start_timeout: float = 30.0) -> None:
        self._directory = directory
        self._start_timeout = start_timeout
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildServer | None = None
        self._endpoints: list[Endpoint] = []

    @property
    def endpoint(self) -> Endpoint:
        """Account 0 with its first bucket."""
        return self.endpoint_for(0)

    @property
    def pid(self) -> int:
        """The id of the process that holds the four servers."""
        if self._child is None:
            raise RuntimeError("the server is not running; use it as a context manager")
        return self._child.pid

    def endpoint_for(self, account: int) -> Endpoint:
        """An account (0 or 1) with its first bucket."""
        if not self._endpoints:
            raise RuntimeError("the server is not running; use it as a context manager")
        return self._endpoints[account]

    def new_bucket(self, account: int = 0) -> Endpoint:
        """Create an empty bucket with a fresh name."""
        return create_bucket(self.endpoint_for(account))

    def __enter__(self) -> Self:
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="cm-swift-")
        directory = self._directory or Path(tempfile.gettempdir(), self._temporary_name())
        try:
            require_xattr(directory)
            accounts = self._start(directory)
            self._endpoints = [create_bucket(account) for account in accounts]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _temporary_name(self) -> str:
        assert self._temporary is not None
        return self._temporary.name

    def _start(self, directory: Path) -> list[Endpoint]:
        """Swift's rings name ports before its servers bind them, so a port may be lost: retry."""
        # tempauth's access key ids are "account:user".
        accounts = [
            replace(account, access_key_id=f"{account.access_key_id.lower()}:tester")
            for account in new_accounts(region=_REGION)
        ]
        keys = {account.access_key_id: account.secret_access_key for account in accounts}
        arguments = [str(directory)] + (["--remove"] if self._temporary else [])
        attempt = 1
        while True:
            child = ChildServer(
                "cm_platform.testing.servers.serve_swift",
                arguments,
                environment={ACCOUNTS: json.dumps(keys)},
                start_timeout=self._start_timeout,
            )
            try:
                port = child.start()
            except ServerStartError as error:
                if attempt == _STARTS or PORT_TAKEN not in str(error):
                    raise
                attempt += 1
            else:
                self._child = child
                return [replace(account, url=f"http://127.0.0.1:{port}") for account in accounts]

    def _stop(self) -> None:
        self._endpoints = []
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None


def require_xattr(directory: Path) -> None:
    """Raise RuntimeError unless files in `directory` can carry what Swift stores beside them."""
    if sys.platform != "linux":
        raise RuntimeError("Swift's object server needs Linux's user extended attributes")
    with tempfile.NamedTemporaryFile(dir=directory) as probe:
        try:
            os.setxattr(probe.fileno(), _XATTR, b"1")
        except OSError as error:
            raise RuntimeError(
                f"the filesystem of {directory} has no user extended attributes, which Swift "
                "needs: give SwiftServer a directory on ext4, xfs, btrfs, or a tmpfs of Linux 6.6"
            ) from error
