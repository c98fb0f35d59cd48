"""An S3 server, an R2 server, a Postgres; processes; one of them dies, and another takes over."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from cm_platform import Platform, Tenant
from cm_platform.config import load
from cm_platform.testing.servers import Endpoint, FaultProxy, R2Server, S3Server
from cm_platform.testing.simulation import Operation, check

from .child import registry

ROOT = Path(__file__).parents[3]
WRITERS = 2
KEYS = 4
PER_KEY = 18
_DEADLINE = 120.0


class Scene:
    """One run. kill: a point and which time it is reached; operator: who is to die there."""

    def __init__(
        self, folder: Path, source: S3Server, target: R2Server, ledger: str, seed: int
    ) -> None:
        self._folder = folder
        self._dice = random.Random(seed)  # noqa: S311 - reproducible
        self._source, self._target = source.new_bucket(), target.new_bucket()
        self._ledger = ledger
        self._keys = [f"k/{number}" for number in range(KEYS)]
        self._stop = folder / "stop"
        self._stopping = threading.Event()

    def run(self, point: str, nth: int, *, operator: bool) -> bool:
        """Whether somebody died. Raises AssertionError where something is not as it must be."""
        with (
            FaultProxy.before(self._source) as before_source,
            FaultProxy.before(self._target) as before_target,
        ):
            self._config = _configuration(
                before_source.endpoint(self._source),
                before_target.endpoint(self._target),
                self._ledger,
            )
            with Platform(load(self._config, environ={}), registry=registry()) as platform:
                platform.migration("storage", Tenant("acme")).prepare()
            losing = threading.Thread(
                target=self._lose, args=([before_source, before_target],), daemon=True
            )
            losing.start()
            try:
                died = self._worked(point, nth, operator=operator)
            finally:
                self._stopping.set()
                losing.join()
            before_source.clear()
            before_target.clear()
            self._judge()
        return died

    def _lose(self, proxies: list[FaultProxy]) -> None:
        while not self._stopping.wait(0.1 + self._dice.random() * 0.4):
            proxy = self._dice.choice(proxies)
            if self._dice.random() < 0.7:
                proxy.lose_reply(method=self._dice.choice(["PUT", "DELETE", "GET"]))
            else:
                proxy.reset(method=self._dice.choice(["PUT", "HEAD"]))

    def _worked(self, point: str, nth: int, *, operator: bool) -> bool:
        kill = {"point": point, "nth": nth}
        writers = [
            self._child("writer", f"w{number}", kill if not operator and number == 0 else None)
            for number in range(WRITERS)
        ]
        mover = self._child("operator", "operator", kill if operator else None)
        victim = mover if operator else writers[0]
        died = False
        end = time.monotonic() + _DEADLINE
        try:
            while mover.poll() is None or (operator and not died and mover.returncode != 0):
                if not died and victim.poll() == -signal.SIGKILL:
                    died = True
                    if operator:
                        mover = self._child("operator", "operator", None)
                    else:
                        writers[0] = self._child("writer", "w9", None)
                assert time.monotonic() < end, "the operator did not come to an end"
                time.sleep(0.05)
            assert mover.returncode == 0, self._said("operator", mover)
            if not died and victim.poll() == -signal.SIGKILL:
                died = True
        finally:
            self._stop.touch()
            for child in [*writers, mover]:
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        for number, child in enumerate(writers):
            assert child.returncode in (0, -signal.SIGKILL), self._said(f"w{number}", child)
        return died

    def _child(self, role: str, name: str, kill: dict[str, Any] | None) -> subprocess.Popen[bytes]:
        told = {
            "role": role,
            "name": name,
            "config": self._config,
            "keys": self._keys,
            "log": str(self._folder / f"{name}.log"),
            "stop": str(self._stop),
            "progress": str(self._folder / "progress"),
            "kill": kill,
        }
        errors = (self._folder / f"{name}.err").open("ab")
        with errors:
            return subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "tests.migration.killing.child", json.dumps(told)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def _said(self, name: str, child: subprocess.Popen[bytes]) -> str:
        errors = (self._folder / f"{name}.err").read_text(errors="replace")
        return f"{name} ended with {child.returncode}: {errors[-2000:]}"

    def _judge(self) -> None:
        """No intent is left, both sides are the same, and each key has one story."""
        config = load(self._config, environ={})
        with Platform(config, registry=registry()) as platform:
            control = platform.migration("storage", Tenant("acme"))
            end = time.monotonic() + 30
            while control.evidence().pending.count:
                control.repair()
                assert time.monotonic() < end, "intents are left"
                time.sleep(0.1)
            found = control.verify()
            assert found["clean"], found["differences"]
            storage = platform.get_service("storage", Tenant("acme"))
            last = {
                listed.key: storage.get(listed.key).read().decode() for listed in storage.list()
            }
        histories = self._histories()
        for key in self._keys:
            now = time.monotonic()
            final = Operation("read", now, now, last.get(key), client="the end")
            verdict = check([*histories[key], final])
            assert verdict.is_linearizable, (key, histories[key], final)
        assert last.keys() <= set(self._keys)

    def _histories(self) -> dict[str, list[Operation]]:
        found: dict[str, list[Operation]] = defaultdict(list)
        for log in self._folder.glob("*.log"):
            began: dict[int, Any] = {}
            ended: dict[int, Any] = {}
            for line in log.read_text().splitlines():
                told = json.loads(line)
                (began if "start" in told else ended)[told["id"]] = told
            for number, told in began.items():
                after = ended.get(number, {"outcome": "ambiguous", "value": told["value"]})
                outcome = after["outcome"]
                found[told["key"]].append(
                    Operation(
                        told["kind"],
                        told["start"],
                        None if outcome == "ambiguous" else after["end"],
                        after["value"],
                        None,
                        outcome,
                        told["client"],
                    )
                )
        return found


def _configuration(source: Endpoint, target: Endpoint, ledger: str) -> dict[str, Any]:
    def backend(driver: str, endpoint: Endpoint, **more: Any) -> dict[str, Any]:
        return {
            "driver": driver,
            "bucket": endpoint.bucket,
            "endpoint": endpoint.url,
            "access_key_id": endpoint.access_key_id,
            "secret_access_key": endpoint.secret_access_key,
            "connect_timeout": 1,
            "read_timeout": 1.5,
            **more,
        }

    return {
        "storage": {
            "default": "s3",
            "timeout": 2,
            "breaker": {"failures": 10_000},
            "retry": {"attempts": 3, "initial": 0.02, "max": 0.1},
            "backends": {
                "s3": backend("s3", source, region=source.region),
                "r2": backend("r2", target, account_id="0123456789abcdef" * 2),
            },
            "migrations": {
                "to-r2": {
                    "source": "s3",
                    "target": "r2",
                    "lease": 0.2,
                    "upload_ttl": 1,
                    "soak": 0,
                    "shadow_sample": 0.1,
                }
            },
        },
        "ledger": {"driver": "postgres", "url": ledger},
    }


__all__ = ["Scene"]
