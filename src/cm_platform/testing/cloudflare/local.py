"""`LocalCloudflare`: one Node process with the shipped gateway, KV behind it, and REST."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from cm_platform import arguments
from cm_platform.errors import InvalidArgumentError, UnavailableError
from cm_platform.limits import limits
from cm_platform.testing.servers.process import ChildServer

from .clock import Controls, VirtualClock
from .configuration import LOCATIONS, ColdReads, Identity, RestCap, held, node_configuration
from .install import installed
from .node import find_node
from .supervise import TASK

_MODULE: Final = "cm_platform.testing.cloudflare.supervise"


class RestCounts(NamedTuple):
    """What the REST face was asked. capped: requests that the token's cap refused."""

    requests: int
    capped: int


class LocalCloudflare:
    """Cloudflare on this machine's loopback. Use it as a context manager.

    persist: a directory of its own, for data and credentials that another start finds again. Left
        out: nothing is kept.
    kv_staleness: seconds until a write to KV is seen elsewhere, and in listings; 0: at once. Left
        out: as documented (60).
    kv_cold_reads: "stale": a location's first read of a key is as old as its later ones may be.
        "fresh": it is current, and kept for `kv_staleness`; one key may be new and another old.
    rest_cap: of the API token. Left out: production's.
    gateway: a folder with a wrangler.jsonc, to run that Worker: the gateway as
        `cm-platform gateway init` wrote it out. Left out: the shipped one.
    gateway_port, rest_port: 0 for free ones.
    start_timeout: seconds, beyond a first installation (see `installed`).

    Raises `config_invalid` without Node, `unavailable` for a port or a directory that is taken,
    `ServerStartError` when it does not become ready.
    """

    def __init__(
        self,
        *,
        persist: Path | str | None = None,
        kv_staleness: float | None = None,
        kv_cold_reads: ColdReads = "stale",
        rest_cap: RestCap | None = None,
        gateway: Path | str | None = None,
        gateway_port: int = 0,
        rest_port: int = 0,
        start_timeout: float = 30.0,
    ) -> None:
        if kv_staleness is None:
            kv_staleness = float(limits("cloudflare", "kv")["staleness"])
        if kv_cold_reads not in ("stale", "fresh"):
            raise InvalidArgumentError("kv_cold_reads must be 'stale' or 'fresh'")
        self._persist = None if persist is None else Path(persist).resolve()
        self._gateway = None if gateway is None else Path(gateway).resolve()
        if self._gateway is not None and not self._gateway.joinpath("wrangler.jsonc").is_file():
            raise InvalidArgumentError(f"{self._gateway} has no wrangler.jsonc")
        self._start_timeout = start_timeout
        self._options: dict[str, Any] = {
            "gateway_port": arguments.whole(gateway_port, "gateway_port", 0, 65_535),
            "rest_port": arguments.whole(rest_port, "rest_port", 0, 65_535),
            "kv_staleness": _checked_staleness(kv_staleness),
            "kv_cold_reads": kv_cold_reads,
            "rest_cap": rest_cap or RestCap.of_production(),
        }
        self._identity = (
            Identity.new() if self._persist is None else Identity.kept_in(self._persist)
        )
        self._directory: Path | None = None
        self._child: ChildServer | None = None
        self._running: _Running | None = None
        self._held: int | None = None

    @property
    def gateway_url(self) -> str:
        """The gateway, without trailing slash; "near" among KV's locations."""
        return self._alive.gateway[LOCATIONS[0]]

    @property
    def gateway_url_far(self) -> str:
        """The same gateway, in another of KV's locations; Durable Objects are the same."""
        return self._alive.gateway[LOCATIONS[1]]

    @property
    def rest_url(self) -> str:
        """What the SDK calls `base_url`; ends with `/client/v4`. KV's third location."""
        return self._alive.rest_url

    @property
    def account_id(self) -> str:
        """32 hex digits."""
        return self._identity.account_id

    @property
    def api_token(self) -> str:
        """Reaches everything of the account."""
        return self._identity.api_token

    @property
    def kv_namespace_id(self) -> str:
        """Of the namespace that the gateway has bound as KV."""
        return self._identity.kv_namespace_id

    @property
    def gateway_key_id(self) -> str:
        """Of the one key that the gateway knows."""
        return self._identity.gateway_key_id

    @property
    def gateway_secret(self) -> str:
        """Of the one key that the gateway knows."""
        return self._identity.gateway_secret

    @property
    def clock(self) -> VirtualClock:
        """What KV and the REST cap go by."""
        return self._alive.clock

    @property
    def pid(self) -> int:
        """The process group that has Node and workerd."""
        _ = self._alive
        assert self._child is not None
        return self._child.pid

    @property
    def output(self) -> str:
        """The last lines that Node and workerd wrote."""
        return "" if self._child is None else self._child.output

    def rest_counts(self) -> RestCounts:
        """What the REST face was asked so far."""
        return RestCounts(**self._alive.controls.post("/rest", {}))

    def settings(self) -> dict[str, str]:
        """The environment of an application that uses it; the CLOUDFLARE_ ones are the SDK's."""
        return {
            "CLOUDFLARE_BASE_URL": self.rest_url,
            "CLOUDFLARE_ACCOUNT_ID": self.account_id,
            "CLOUDFLARE_API_TOKEN": self.api_token,
            "CLOUDFLARE_KV_NAMESPACE_ID": self.kv_namespace_id,
            "CM_GATEWAY_URL": self.gateway_url,
            "CM_GATEWAY_KEY_ID": self.gateway_key_id,
            "CM_GATEWAY_SECRET": self.gateway_secret,
        }

    def __enter__(self) -> Self:
        """Start it; everything answers when this returns."""
        if self._running is not None:
            raise RuntimeError("the local Cloudflare is already running")
        for name in ("gateway_port", "rest_port"):
            _check_free(self._options[name], name)
        node = find_node()
        root, modules = installed(node)
        secret = secrets.token_urlsafe(24)
        if self._persist is not None:
            self._held = held(self._persist)
        self._directory = Path(tempfile.mkdtemp(prefix="cm-platform-cloudflare-"))
        configuration = node_configuration(
            self._identity,
            root=self._gateway or root,
            modules=modules,
            secret=secret,
            persist=self._persist,
            **self._options,
        )
        task = {
            "node": str(node.executable),
            "directory": str(self._directory),
            "configuration": configuration,
        }
        self._child = ChildServer(
            _MODULE,
            environment={TASK: json.dumps(task)},
            start_timeout=self._start_timeout,
        )
        try:
            announced: dict[str, Any] = json.loads(self._child.start())
            self._running = _Running(announced, secret)
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
        """Stop it, and remove what is not to be kept."""
        self._stop()

    @property
    def _alive(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the local Cloudflare is not running; use it as a context manager")
        return self._running

    def _stop(self) -> None:
        self._running = None
        if self._child is not None:
            self._child.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        if self._held is not None:
            os.close(self._held)
            self._held = None


class _Running:
    """Where everything answers."""

    def __init__(self, announced: dict[str, Any], secret: str) -> None:
        self.gateway: dict[str, str] = announced["gateway"]
        self.rest_url = f"http://127.0.0.1:{announced['rest']}/client/v4"
        self.controls = Controls(announced["inner"], secret)
        self.clock = VirtualClock(self.controls)


def _checked_staleness(value: float) -> float:
    return 0.0 if value == 0 else arguments.seconds(value, "kv_staleness")


def _check_free(port: int, name: str) -> None:
    """Before Node is started, which would say it less well."""
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UnavailableError(
                f"port {port} is taken; give another {name}, or 0 for a free one"
            ) from error


__all__ = ["LocalCloudflare", "RestCounts"]
