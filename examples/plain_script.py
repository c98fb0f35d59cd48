"""A plain script: upload a folder, list it, and prove that every byte is there.

    python examples/plain_script.py

It needs no account and no server: `embedded=True` keeps the objects under ./.cm_platform. With
`cm_platform.configure("cm_platform.toml")` the same lines work on S3 and R2.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cm_platform
from cm_platform import Tenant

DATA = Path(__file__).parent / "data"


def main() -> None:
    cm_platform.configure(embedded=True)
    storage = cm_platform.get_service("storage", Tenant("magazine"))

    for path in sorted(DATA.rglob("*")):
        if path.is_file():
            storage.put(f"plain/{path.relative_to(DATA).as_posix()}", path)

    total = 0
    for listed in storage.list("plain/"):
        original = (DATA / listed.key.removeprefix("plain/")).read_bytes()
        # `verify` reads the object to its end; `.sha256` is what its bytes have.
        assert storage.verify(listed.key).sha256 == hashlib.sha256(original).hexdigest()
        print(f"{listed.size:>8}  {listed.key}")
        total += listed.size
    print(f"{total:>8}  bytes, all verified")

    # A download in pieces, for objects that memory should not hold.
    with storage.get("plain/catalogue.csv") as stored:
        lines = b"".join(stored.chunks()).decode().splitlines()
    print(f"the catalogue has {len(lines) - 1} products")

    # Another tenant has its own keys: these are not among them.
    shop = cm_platform.get_service("storage", Tenant("shop"))
    assert not shop.exists("plain/catalogue.csv")

    cm_platform.close()


if __name__ == "__main__":
    main()
