"""Cloudflare R2's S3 face for tests: the S3 test server with R2's limits, headers and refusals.

What R2 refuses and S3 does not: CRC checksums and aws-chunked trailers on uploads, parts of unequal
size, conditional deletes, any region but `auto` and its alias `us-east-1`. What it has of its own:
`cf-copy-destination-if-*` on CopyObject, conditions on CreateMultipartUpload and on dates, and
8,192 bytes of user metadata.
"""

from __future__ import annotations

from typing import ClassVar

from cm_platform.testing.servers.dialect import R2, Dialect
from cm_platform.testing.servers.s3 import S3Server


class R2Server(S3Server):
    """Cloudflare R2 as far as a storage backend needs it. Use as a context manager."""

    dialect: ClassVar[Dialect] = R2
