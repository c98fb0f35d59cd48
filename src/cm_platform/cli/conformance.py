"""`cm-platform conformance`: whether a backend, as it is configured, keeps its promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from xml.etree import ElementTree

import typer

from cm_platform.config.namespaces import READ_YOUR_WRITES
from cm_platform.errors import ConfigInvalidError, InternalError, InvalidArgumentError
from cm_platform.redaction import redact
from cm_platform.registry import REGISTRY
from cm_platform.routing import did_you_mean

from .exits import ExitCode
from .hosts import hosts, is_loopback
from .invocation import Invocation, invocation_of
from .output import Output

if TYPE_CHECKING:
    from cm_platform.config.models import BackendConfig

app = typer.Typer(help="Hold a backend to its contract.")

SUITE: Final = Path(__file__).with_name("conformance_suite.py")

_NEEDED: Final = ("pytest", "hypothesis")

# What pytest ends with when tests ran: all passed, or some failed.
_RAN: Final = (0, 1)
_USAGE: Final = 4
_NO_TESTS: Final = 5


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run. failures: by test, the reason."""

    service: str
    backend: str
    passed: int
    skipped: int
    failures: dict[str, str]
    seconds: float


@app.callback()
def conformance() -> None:
    """Hold a backend to its contract."""


@app.command("run")
def run(
    context: typer.Context,
    service: Annotated[str, typer.Option("--service", help="The kind of service.")] = "storage",
    backend: Annotated[
        str | None, typer.Option("--backend", help="Its name. Left out: the default backend.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Allow a backend that is not on this machine.")
    ] = False,
    select: Annotated[
        str | None, typer.Option("-k", metavar="EXPRESSION", help="Only tests that match.")
    ] = None,
) -> None:
    """Run the public conformance suite on a configured backend, over both faces.

    Each test has a new tenant of its own, and what it stored is removed in the end. A store that
    bills requests bills these, some thousands of them. Exit code 6 when a test fails.
    """
    call = invocation_of(context)
    for name in _NEEDED:
        if find_spec(name) is None:
            raise ConfigInvalidError(
                f"the suite needs {name}, which is not installed: "
                "pip install 'cm-platform[testing]'"
            )
    tested = _backend(call, service, backend)
    if not live and not _is_local(tested):
        raise InvalidArgumentError(
            f"{service}.{tested.name} is not on this machine: --live runs the suite on it all the "
            "same, with new tenants and their objects, which are removed in the end"
        )
    if not select and _is_late(service, tested):
        raise InvalidArgumentError(
            f"{service}.{tested.name} shows a write elsewhere after a minute, and each read that "
            "follows a write would wait for it: choose some tests with -k"
        )
    report = _run(call, service, tested, select)
    if call.out.as_json:
        call.out.print_json({"ok": not report.failures, **asdict(report)})
    else:
        _show(call.out, report)
    if report.failures:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _backend(call: Invocation, service: str, name: str | None) -> BackendConfig:
    config = call.load()
    kind = config.kinds.get(service)
    if kind is None:
        known = ", ".join(config.kinds)
        raise InvalidArgumentError(
            f"this service is not configured{did_you_mean(service, config.kinds)}; "
            f"there are {known}"
        )
    found = kind.backends.get(name or kind.default)
    if found is None:
        known = ", ".join(kind.backends)
        raise InvalidArgumentError(
            f"no backend has this name{did_you_mean(name or '', kind.backends)}; there are {known}"
        )
    return found


def _is_local(backend: BackendConfig) -> bool:
    named = list(hosts(backend.settings))
    # Of other drivers nobody knows where they lead.
    return all(map(is_loopback, named)) if named else backend.driver == "local"


def _is_late(service: str, backend: BackendConfig) -> bool:
    """Whether it is a cache that is only eventually consistent."""
    if service != "cache" or backend.driver == "local":
        return False
    can = REGISTRY.get(service, backend.driver).promises(backend.settings)
    return READ_YOUR_WRITES not in can


def _run(call: Invocation, service: str, backend: BackendConfig, select: str | None) -> Report:
    from .conformance_suite import VARIABLE

    told = {
        "service": service,
        "config": None if call.embedded else str(call.source()),
        "embedded": call.embedded,
        "backend": backend.name,
    }
    with tempfile.TemporaryDirectory(prefix="cm-platform-conformance-") as folder:
        results = Path(folder) / "results.xml"
        command = [
            *(sys.executable, "-m", "pytest"),
            # Nothing of a project that happens to lie here: no settings, no conftest, no cache.
            *("-c", os.devnull, "--rootdir", folder, "--confcutdir", folder),
            *("-p", "no:cacheprovider", "--import-mode=importlib"),
            *("-q", "--tb=line", f"--junit-xml={results}"),
            *(("-k", select) if select else ()),
            str(SUITE),
        ]
        environ = {name: v for name, v in os.environ.items() if not name.startswith("PYTEST_")}
        code = _spoken(command, {**environ, VARIABLE: json.dumps(told)})
        if code == _NO_TESTS and select:
            raise InvalidArgumentError(
                "no test of the suite matches the expression given with -k; left out, all run"
            )
        if code == _USAGE and select:
            raise InvalidArgumentError(
                "the expression given with -k is not one that pytest reads, such as "
                "'presign and not wrong'"
            )
        if code not in _RAN or not results.is_file():
            raise InternalError(f"the suite did not run: pytest ended with exit code {code}")
        return _report(service, backend.name, results)


def _spoken(command: list[str], environ: dict[str, str]) -> int:
    """Run it, its words on stderr without what authorises."""
    with subprocess.Popen(  # noqa: S603 - our own command line
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        for line in process.stdout:
            sys.stderr.write(redact(line))
            sys.stderr.flush()
    return process.returncode


def _report(service: str, backend: str, results: Path) -> Report:
    # Written by our own child a moment ago.
    suite = ElementTree.parse(results).getroot().find("testsuite")  # noqa: S314
    assert suite is not None  # noqa: S101 - pytest always writes one
    failures: dict[str, str] = {}
    skipped = 0
    cases = suite.findall("testcase")
    for case in cases:
        bad = [*case.findall("failure"), *case.findall("error")]
        if bad:
            reason = redact(bad[0].get("message") or "").partition("\n")[0]
            failures[case.get("name") or "?"] = reason
        elif case.find("skipped") is not None:
            skipped += 1
    return Report(
        service,
        backend,
        passed=len(cases) - skipped - len(failures),
        skipped=skipped,
        failures=failures,
        seconds=float(suite.get("time") or 0.0),
    )


def _show(out: Output, report: Report) -> None:
    for name, reason in report.failures.items():
        out.line(f"failed  {name}: {reason}")
    out.line(
        f"{report.service}.{report.backend}: {report.passed} passed, "
        f"{len(report.failures)} failed, {report.skipped} skipped, {report.seconds:.1f} s",
        style="bold red" if report.failures else "bold",
    )


__all__ = ["Report", "app"]
