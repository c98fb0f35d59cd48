"""The child process of `S3Server` and `R2Server`: `python -m cm_platform.testing.servers.serve_s3`.

The one argument is the dialect. The accounts come in the environment, where `ps` does not show
them, as a JSON object of access key id to secret.
"""

from __future__ import annotations

import json
import os
import sys

from cm_platform.testing.servers.dialect import DIALECTS
from cm_platform.testing.servers.process import announce, die_with_parent
from cm_platform.testing.servers.service import S3Service
from cm_platform.testing.servers.wire import HttpServer

ACCOUNTS = "CM_PLATFORM_TEST_SERVER_ACCOUNTS"


def main() -> None:
    """Serve until the parent is gone."""
    die_with_parent()
    secrets: dict[str, str] = json.loads(os.environ.pop(ACCOUNTS))
    with HttpServer(("127.0.0.1", 0), S3Service(secrets, DIALECTS[sys.argv[1]])) as server:
        announce(server.server_address[1])
        server.serve_forever()


if __name__ == "__main__":
    main()
