"""S3 and R2 on this machine, to rehearse a migration in front of.

    python examples/staging_servers.py rehearsal
    cm-platform --config rehearsal/cm_platform.toml migrate plan --tenant acme

It starts two servers, which are as strict as those that they stand for, writes a configuration
into the directory, puts a few files of the tenant `acme` on the first, and serves until Ctrl-C.
The objects are in memory: with the servers they are gone. It needs the extras `s3`, `r2`, `cli`
and `testing`.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from string import Template

from cm_platform import Platform, Tenant
from cm_platform.testing.servers import R2Server, S3Server

DATA = Path(__file__).parent / "data"

# Short times, so that a rehearsal takes minutes: a cloud's are longer, and so are the defaults.
CONFIGURATION = Template("""\
[ledger]
driver = "sqlite"
path = "ledger.sqlite"

[storage]
default = "s3"
timeout = 5

[storage.backends.s3]
driver = "s3"
endpoint = "$s3_url"
region = "$s3_region"
bucket = "$s3_bucket"
access_key_id = "$s3_id"
secret_access_key = "$s3_secret"
connect_timeout = 1
read_timeout = 2

[storage.backends.r2]
driver = "r2"
account_id = "0123456789abcdef0123456789abcdef"
endpoint = "$r2_url"
bucket = "$r2_bucket"
access_key_id = "$r2_id"
secret_access_key = "$r2_secret"
connect_timeout = 1
read_timeout = 2

[storage.migrations.to-r2]
source = "s3"
target = "r2"
lease = 1
upload_ttl = 5
soak = 30
shadow_sample = 1.0
""")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    # A ledger that is left over speaks of objects that were in the memory of other servers.
    (directory / "ledger.sqlite").unlink(missing_ok=True)
    path = directory / "cm_platform.toml"
    with S3Server() as s3, R2Server() as r2:
        values: dict[str, str] = {}
        for name, server in (("s3", s3), ("r2", r2)):
            bucket = server.new_bucket()
            values |= {
                f"{name}_url": bucket.url,
                f"{name}_region": bucket.region,
                f"{name}_bucket": bucket.bucket,
                f"{name}_id": bucket.access_key_id,
                f"{name}_secret": bucket.secret_access_key,
            }
        path.touch(mode=0o600)
        path.write_text(CONFIGURATION.substitute(values), encoding="utf-8")
        with Platform.from_config(path) as platform:
            storage = platform.get_service("storage", Tenant("acme"))
            for file in sorted(DATA.rglob("*")):
                if file.is_file():
                    storage.put(file.relative_to(DATA).as_posix(), file)
        print(f"serving; the configuration is {path}; Ctrl-C ends it", flush=True)
        # Also where a shell has started it in the background, with Ctrl-C of no effect.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("ended, and the objects with it")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where to write the configuration: staging_servers.py DIRECTORY")
    main(Path(sys.argv[1]))
