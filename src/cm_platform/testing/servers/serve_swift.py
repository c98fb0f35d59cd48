"""The child process of `SwiftServer`: writes Swift's configuration and holds its four servers.

Arguments: the directory, and `--remove` if it may be deleted when the parent is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from configparser import RawConfigParser
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from cm_platform.testing.servers.process import (
    announce,
    die_with_parent,
    free_port,
    wait_for_port,
)

ACCOUNTS = "CM_PLATFORM_TEST_SERVER_ACCOUNTS"
PORT_TAKEN = "Could not bind"
_HOST = "127.0.0.1"
_BACKENDS = ("account", "container", "object")
_PART_POWER = 2
_START_SECONDS = 20.0

# slo before versioned_writes before symlink: the other way round a versioned GET is empty.
_PIPELINE = (
    *("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk"),
    *("s3api", "tempauth", "copy", "slo", "versioned_writes", "symlink", "proxy-logging"),
    "proxy-server",
)
_PACKAGES = {"object": "obj"}
_FILTERS = {"proxy-logging": "proxy_logging", "cache": "memcache"}


def main() -> None:
    """Serve until the parent is gone."""
    home = Path(sys.argv[1])
    remove = "--remove" in sys.argv[2:]
    accounts: dict[str, str] = json.loads(os.environ.pop(ACCOUNTS))
    for name in [name for name in os.environ if "SWIFT" in name]:
        # Variables of the outside would change what is served.
        del os.environ[name]
    ports = {name: free_port(_HOST) for name in (*_BACKENDS, "proxy")}
    write_configuration(home, ports, accounts)
    for name in ports:
        _module(name)
    servers = [_launch(home, name) for name in ports]
    # Only now: a process with threads should not fork.
    die_with_parent(before=(lambda: shutil.rmtree(home, ignore_errors=True)) if remove else None)
    signal.signal(signal.SIGTERM, _end)
    for name, port in ports.items():
        deadline = time.monotonic() + _START_SECONDS
        while not wait_for_port(_HOST, port, timeout=0.2):
            if _stopped(servers) or time.monotonic() > deadline:
                sys.exit(f"swift's {name} server does not listen on {port}")
    announce(ports["proxy"])
    while not _stopped(servers):
        time.sleep(0.2)
    sys.exit("a swift server stopped")


def write_configuration(home: Path, ports: dict[str, int], accounts: dict[str, str]) -> None:
    """Write swift.conf, the four server configurations and the rings below `home`."""
    (home / "srv" / "device").mkdir(parents=True, exist_ok=True)
    _write(
        home / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_prefix": "cm", "swift_hash_path_suffix": "platform"},
            "storage-policy:0": {"name": "one", "default": "yes", "policy_type": "replication"},
        },
    )
    common = {
        "bind_ip": _HOST,
        "bind_timeout": "1",
        "swift_dir": str(home),
        "devices": str(home / "srv"),
        "mount_check": "false",
        # One process serves: no second one to be left behind.
        "workers": "0",
        "log_level": "WARNING",
        "user": _user(),
        "recon_cache_path": str(home),
    }
    for name in _BACKENDS:
        _write(
            home / f"{name}-server.conf",
            {
                "DEFAULT": {**common, "bind_port": str(ports[name])},
                "pipeline:main": {"pipeline": f"{name}-server"},
                f"app:{name}-server": {"use": f"egg:swift#{name}", **_quick(name)},
            },
        )
        _ring(home, name, ports[name])
    users = {
        # tempauth: user_<account>_<user> = <key> <groups>
        f"user_{key.replace(':', '_')}": f"{secret} .admin"
        for key, secret in accounts.items()
    }
    settings = {
        "tempauth": users,
        "s3api": {
            "location": "us-east-1",
            "auth_pipeline_check": "false",
            "min_segment_size": str(5 << 20),
            "allow_multipart_uploads": "true",
            "s3_acl": "false",
            "dns_compliant_bucket_names": "true",
        },
        "versioned_writes": {"allow_object_versioning": "true"},
        "cache": {"memcache_servers": f"{_HOST}:1"},
    }
    sections: dict[str, dict[str, str]] = {
        "DEFAULT": {**common, "bind_port": str(ports["proxy"])},
        "pipeline:main": {"pipeline": " ".join(_PIPELINE)},
        "app:proxy-server": {
            "use": "egg:swift#proxy",
            "account_autocreate": "true",
            "allow_account_management": "true",
        },
    }
    for name in _PIPELINE[:-1]:
        egg = _FILTERS.get(name, name)
        sections[f"filter:{name}"] = {"use": f"egg:swift#{egg}", **settings.get(name, {})}
    _write(home / "proxy-server.conf", sections)


def _ring(home: Path, name: str, port: int) -> None:
    ring = import_module("swift.common.ring")

    builder = ring.RingBuilder(_PART_POWER, 1, 1)
    where = {"ip": _HOST, "port": port, "replication_ip": _HOST, "replication_port": port}
    builder.add_dev(
        {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "device", "meta": "", **where}
    )
    builder.rebalance()
    builder.get_ring().save(str(home / f"{name}.ring.gz"))


def _quick(name: str) -> dict[str, str]:
    """A test's data need not survive a power cut."""
    return {"splice": "no", "mb_per_sync": "0"} if name == "object" else {}


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _launch(home: Path, name: str) -> int:
    """Fork one of Swift's servers off, so that they share what importing Swift costs."""
    pid = os.fork()
    if pid:
        return pid
    # Swift would make itself the leader of a session of its own, where the signal that ends
    # our process group does not reach it.
    os.setsid = lambda: None
    sys.argv = [f"swift-{name}-server", str(home / f"{name}-server.conf"), "verbose"]
    status = 1
    try:
        status = _module(name).main() or 0
    except Exception:  # noqa: BLE001 - it is told, and the parent sees the exit
        traceback.print_exc()
    finally:
        # The fork must not run on in what its parent was about to do.
        sys.stderr.flush()
        os._exit(status)


def _module(name: str) -> Any:
    return import_module(f"swift.{_PACKAGES.get(name, name)}.server")


def _stopped(servers: list[int]) -> bool:
    return any(os.waitpid(pid, os.WNOHANG)[0] for pid in servers)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _write(path: Path, sections: dict[str, dict[str, str]]) -> None:
    parser = RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_dict(sections)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


if __name__ == "__main__":
    main()
