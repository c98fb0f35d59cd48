"""Start a server in a child process, wait until it is ready, and never leave it behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

READY = "READY "
_KEPT_LINES = 200
_POLL_SECONDS = 0.02


class ServerStartError(RuntimeError):
    """The server did not become ready; the message holds the end of its output."""


class ChildServer:
    """A Python module run as a server in a process group of its own.

    The child must call `die_with_parent()` first and `announce(...)` when it serves. It binds port
    0 itself and announces the port: a port that was chosen beforehand can be taken in between.

    `start_timeout` and `stop_grace` are seconds. Use it as a context manager, or call `start()`
    and `stop()`; `stop()` may be called twice.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 20.0,
        stop_grace: float = 1.0,
    ) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = dict(environment or {})
        self._start_timeout = start_timeout
        self._stop_grace = stop_grace
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._ready = threading.Event()
        self._announced = ""

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        if self._process is None:
            raise RuntimeError("the server is not running; call start() first")
        return self._process.pid

    @property
    def output(self) -> str:
        """The last lines that the server wrote to stdout and stderr."""
        return "\n".join(self._output)

    def start(self) -> str:
        """Start the child and return what it announced. Raises `ServerStartError`."""
        if self._process is not None:
            raise RuntimeError("the server is already running")
        self._ready.clear()
        self._process = process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_import_path(), **self._environment},
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        deadline = time.monotonic() + self._start_timeout
        while not self._ready.wait(_POLL_SECONDS):
            exited = process.poll()
            if exited is None and time.monotonic() < deadline:
                continue
            why = "was not ready in time" if exited is None else f"exited with status {exited}"
            self.stop()
            raise ServerStartError(f"{self._command[2]} {why}. Its output:\n{self.output}")
        return self._announced

    def stop(self) -> None:
        """Terminate the process group, and kill what is left of it after the grace."""
        process, self._process = self._process, None
        if process is None:
            return
        signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._stop_grace)
        # The leader may be gone while members of its group are not.
        signal_group(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        for reader in self._readers:
            reader.join(1.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _read(self, stream: IO[bytes]) -> None:
        # The reader closes what it reads: closing a pipe under a blocked reader would hang.
        with stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()
                if line.startswith(READY) and not self._ready.is_set():
                    self._announced = line.removeprefix(READY)
                    self._ready.set()
                else:
                    self._output.append(line)


def announce(message: object) -> None:
    """Called in the child: tell the parent that the server serves, and where."""
    sys.stdout.write(f"{READY}{message}\n")
    sys.stdout.flush()


def die_with_parent(before: Callable[[], None] | None = None) -> None:
    """Called in the child: kill its whole process group once the parent is gone.

    The parent holds the other end of stdin, so its death, even by SIGKILL, is seen as end of file.
    A process that the parent forked holds that pipe too, hence the parent's id is watched as well.
    (Linux's PR_SET_PDEATHSIG would fire when the *thread* that started the child ends.)

    `before` runs first, to remove what should not be left behind.
    """
    parent = os.getppid()

    def watch() -> None:
        stdin = sys.stdin.fileno()
        while os.getppid() == parent:
            if select.select([stdin], [], [], 0.5)[0] and not os.read(stdin, 1024):
                break
        if before is not None:
            with contextlib.suppress(OSError):
                before()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; a group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now. Another process may take it: be ready to try another."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(host: str, port: int, *, timeout: float) -> bool:
    """Whether something accepts connections there within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=0.5).close()
        except OSError:
            time.sleep(_POLL_SECONDS)
        else:
            return True
    return False


def _import_path() -> dict[str, str]:
    """The child's environment: it must import the very package that this process imported."""
    source = str(Path(__file__).resolve().parents[3])
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(part for part in (source, inherited) if part)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
