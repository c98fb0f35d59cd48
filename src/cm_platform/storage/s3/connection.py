"""How an S3 service is reached: the settings that its two paths, obstore and boto3, share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from cm_platform.errors import ConfigInvalidError

CreateOnlyCopy = Literal["if-none-match", "cf-copy-destination-if-none-match"]


@dataclass(frozen=True, slots=True)
class Connection:
    """One bucket of one service, as one identity.

    endpoint: of the service, without the bucket: scheme, host and port.
    virtual: the bucket is part of the host name; else the first segment of the path.
    access_key_id, secret_access_key, session_token: None for boto3's chain (environment,
        profile, container, instance role).
    connect_timeout, read_timeout: seconds; the second for each wait on an open connection.
    pool_size: connections kept open. ca_file: PEM file of the authority that signed the
        endpoint's certificate.
    proxy: URL; None means no proxy, whatever the environment says.
    create_only_copy: the header that keeps CopyObject from replacing its target.
    """

    bucket: str
    region: str
    endpoint: str
    virtual: bool
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    connect_timeout: float = 3.0
    read_timeout: float = 20.0
    pool_size: int = 50
    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)
    create_only_copy: CreateOnlyCopy = "if-none-match"

    @property
    def bucket_endpoint(self) -> str:
        """The endpoint as obstore wants it: with the bucket's name where that is in the host."""
        if not self.virtual:
            return self.endpoint
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

    @property
    def host(self) -> str:
        """The host that requests go to, without port and brackets."""
        return urlsplit(self.bucket_endpoint).hostname or ""

    def read_ca_file(self) -> bytes | None:
        """The authorities in `ca_file`; `config_invalid` when it cannot be read."""
        if self.ca_file is None:
            return None
        try:
            with open(self.ca_file, "rb") as file:  # noqa: PTH123 - a path of the configuration
                return file.read()
        except OSError as error:
            raise ConfigInvalidError(
                f"ca_file cannot be read ({error.strerror}): it must be a PEM file"
            ) from None


__all__ = ["Connection", "CreateOnlyCopy"]
