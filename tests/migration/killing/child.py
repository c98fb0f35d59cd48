"""A process that works on a tenant, or moves it, and may die at a named point.

    python -m tests.migration.killing.child '<JSON>'

What it does is written to its log as it happens, a line before and a line after each operation,
so that a death leaves what is known.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cm_platform import Platform, Tenant
from cm_platform.config import Config, load
from cm_platform.errors import (
    AlreadyExistsError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
)
from cm_platform.migration import points
from cm_platform.migration.sync import Migration
from cm_platform.registry import REGISTRY, Registry
from cm_platform.routing import Stage
from cm_platform.storage.sync import Storage

# The servers are on this machine and answer in milliseconds: what takes longer is dead.
LIFETIME = 0.5
WALK = (
    Stage.DUALWRITE,
    Stage.SHADOW,
    Stage.LIVE,
    Stage.SHADOW,
    Stage.LIVE,
    Stage.RAMPDOWN,
)


def registry() -> Registry:
    """S3 and R2, whose requests are known to be over soon."""
    made = Registry()
    for driver in ("s3", "r2"):
        descriptor = REGISTRY.get("storage", driver)

        async def opened(config: Any, runtime: Any, descriptor: Any = descriptor) -> Any:
            backend = await descriptor.open(config, runtime)
            backend.max_request_lifetime = LIFETIME
            return backend

        made.register(replace(descriptor, open=opened))
    return made


def armed(point: str, nth: int) -> None:
    """Die when that point is reached for the nth time."""
    left = nth

    async def hook(reached: points.Point) -> None:
        nonlocal left
        if reached == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    points.hook = hook


class Log:
    """Lines that are there whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, **line: Any) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")


def work(storage: Storage, log: Log, name: str, keys: list[str], stop: Path) -> None:
    """Write, read and delete until somebody says stop."""
    dice = random.Random(name)  # noqa: S311 - reproducible
    number = 0
    while not stop.exists():
        number += 1
        key = dice.choice(keys)
        value = f"{name}:{number}"
        rolled = dice.random()
        if rolled < 0.4:
            _done(log, name, number, key, "put", value, partial(_put, storage, key, value))
        elif rolled < 0.55:
            _done(
                log,
                name,
                number,
                key,
                "put_if_absent",
                value,
                partial(_put, storage, key, value, if_none_match="*"),
            )
        elif rolled < 0.7:
            _done(log, name, number, key, "delete", None, partial(storage.delete, key))
        else:
            _done(log, name, number, key, "read", None, partial(_read, storage, key))
        time.sleep(dice.random() * 0.05)


def _put(storage: Storage, key: str, value: str, **conditions: Any) -> None:
    storage.put(key, value.encode(), **conditions)


def _read(storage: Storage, key: str) -> str | None:
    try:
        return storage.get(key).read().decode()
    except NotFoundError:
        return None


def _done(
    log: Log,
    name: str,
    number: int,
    key: str,
    kind: str,
    value: str | None,
    call: Callable[[], str | None],
) -> None:
    log.write(id=number, client=name, key=key, kind=kind, value=value, start=time.monotonic())
    outcome, seen = "ambiguous", value
    try:
        found = call()
        outcome, seen = "done", found if kind == "read" else value
    except (AlreadyExistsError, PreconditionFailedError):
        outcome = "conflict"
    except PlatformError as error:
        if error.not_sent or kind == "read":
            outcome = "refused"
    log.write(id=number, client=name, end=time.monotonic(), outcome=outcome, value=seen)


def walk(control: Migration, progress: Path) -> None:
    """All stages, there, back once, and there again; goes on where another one died."""
    _again(partial(control.start, no_other_writers=True))
    done = int(progress.read_text()) if progress.exists() else 0
    for number, stage in enumerate(WALK[done:], done + 1):
        _again(partial(_step, control, stage))
        progress.write_text(str(number))
        if stage is Stage.DUALWRITE:
            _again(control.backfill)
        if number == 2:
            _verified(control)


def _step(control: Migration, stage: Stage) -> None:
    now = control.state().stage
    if now is stage:
        return
    if list(Stage).index(stage) < list(Stage).index(now):
        control.rollback(stage)
    else:
        # Evidence has tests of its own; here it would only hide what a kill leaves behind.
        control.advance(stage, override="a test of what remains after a kill")


def _verified(control: Migration) -> None:
    for _ in range(20):
        found: Any = _again(control.verify)
        if found["divergent"]:
            raise AssertionError(f"the sides differ: {found['differences']}")
        if found["clean"]:
            return
    raise AssertionError("no verification could read everything")


def _again(act: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while True:
        try:
            return act()
        except PreconditionFailedError as error:
            if "under way" in error.message:
                return None
            raise
        except PlatformError as error:
            if not (error.retryable or isinstance(error, ConnectionError | TimeoutError)):
                raise
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def _asking_once(config: Config) -> Config:
    # An unconditional write whose reply was lost may be sent again by the executor, over what
    # others wrote meanwhile (docs/errors.md): true of every store, and no story that the oracle
    # could tell from one that a migration has torn apart.
    storage = config.kinds["storage"]
    retry = storage.retry.model_copy(update={"attempts": 1})
    kinds = {**config.kinds, "storage": storage.model_copy(update={"retry": retry})}
    return config.model_copy(update={"kinds": kinds})


def main() -> None:
    """As the JSON says."""
    told = json.loads(sys.argv[1])
    if told.get("kill"):
        armed(told["kill"]["point"], told["kill"]["nth"])
    tenant = Tenant("acme")
    config = load(told["config"], environ={})
    if told["role"] != "operator":
        config = _asking_once(config)
    with Platform(config, registry=registry()) as platform:
        if told["role"] == "operator":
            walk(platform.migration("storage", tenant), Path(told["progress"]))
        else:
            storage = platform.get_service("storage", tenant)
            log = Log(Path(told["log"]))
            work(storage, log, told["name"], told["keys"], Path(told["stop"]))


if __name__ == "__main__":
    main()
