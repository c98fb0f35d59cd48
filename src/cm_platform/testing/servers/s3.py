"""An S3 server for tests, in a child process on a loopback port.

It is our own small implementation, in memory, because a test server must refuse what production
refuses: it verifies signatures, checks digests, makes conditional writes atomic, keeps keys exactly
as they were sent, and answers NotImplemented to whatever it does not do (versions, ACLs, policies,
locks, changes of tags). It speaks path-style addressing only.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import TracebackType
from typing import ClassVar, Self

from cm_platform.testing.servers.accounts import create_bucket, new_accounts
from cm_platform.testing.servers.dialect import AWS, Dialect
from cm_platform.testing.servers.endpoint import Endpoint
from cm_platform.testing.servers.process import ChildServer
from cm_platform.testing.servers.serve_s3 import ACCOUNTS


class S3Server:
    """Amazon S3 as far as a storage backend needs it. Use as a context manager.

    There are two accounts, 0 and 1, which cannot see each other's buckets.
    """

    dialect: ClassVar[Dialect] = AWS

    def __init__(self) -> None:
        self._accounts = new_accounts(region=self.dialect.region)
        keys = {account.access_key_id: account.secret_access_key for account in self._accounts}
        self._child = ChildServer(
            "cm_platform.testing.servers.serve_s3",
            [self.dialect.name],
            environment={ACCOUNTS: json.dumps(keys)},
        )
        self._endpoints: list[Endpoint] = []

    @property
    def endpoint(self) -> Endpoint:
        """Account 0 with its first bucket."""
        return self.endpoint_for(0)

    @property
    def pid(self) -> int:
        """The server's process id."""
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
        url = f"http://127.0.0.1:{self._child.start()}"
        try:
            self._endpoints = [
                create_bucket(replace(account, url=url)) for account in self._accounts
            ]
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._endpoints = []
        self._child.stop()
