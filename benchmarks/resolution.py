"""From a name and a tenant to a service, and from a tenant to its route."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median

with warnings.catch_warnings():
    # svcs imports the test client of Starlette, which warns about its own future.
    warnings.simplefilter("ignore")
    import svcs

import cm_platform
from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding, Goal
from cm_platform.routing import Route, Rule, Rules


class Sought:
    """What svcs is asked for."""


def get_service(rounds: int) -> Finding:
    """A hit of `get_service` against svcs' cached get."""
    with tempfile.TemporaryDirectory() as directory:
        local = {"driver": "local", "path": directory}
        cm_platform.configure({"storage": {"default": "local", "backends": {"local": local}}})
        tenant = cm_platform.Tenant("acme")
        registry = svcs.Registry()
        registry.register_factory(Sought, Sought)
        container = svcs.Container(registry)

        def ours(count: int) -> None:
            for _ in range(count):
                cm_platform.get_service("storage", tenant)

        def theirs(count: int) -> None:
            for _ in range(count):
                container.get(Sought)

        samples = interleave(
            [Contender("get_service hit", ours), Contender("svcs cached get", theirs)],
            operations=100_000,
            rounds=rounds,
        )
        cm_platform.close()
    finding = Finding.of("Resolution", samples)
    hit, other = samples["get_service hit"].wall_us, samples["svcs cached get"].wall_us
    finding.at_most("get_service hit", hit, 1.0, "us")
    finding.at_most("get_service hit / svcs cached get", hit / other, 1.5)
    return finding


def routes(rounds: int) -> Finding:
    """Evaluating a tenant's route with few and many rules, few and many tenants."""
    few = _rules(10)
    many = _rules(10_000)
    sizes = {
        "10 rules, 10 tenants": (few, 10, 9),
        "10,000 rules, 1,000,000 tenants": (many, 10**6, 9_999),
    }
    contenders = []
    for name, (rules, tenants, named) in sizes.items():
        # Who a rule names costs a look-up; who none names, a hash as well. The same share of
        # both on either side: else the mix is what would be compared.
        names = [
            f"t{n * 7919 % (named if n % 2 else tenants) + (0 if n % 2 else named)}"
            for n in range(20_000)
        ]

        def evaluate(count: int, rules: Rules = rules, names: list[str] = names) -> None:
            for n in range(count):
                rules.evaluate(names[n])

        contenders.append(Contender(name, evaluate))
    samples = interleave(contenders, operations=20_000, rounds=rounds)
    finding = Finding.of("Route evaluation (a miss of the route table)", samples)
    small, large = (samples[name].wall_us for name in sizes)
    finding.at_most("10,000 rules and 1,000,000 tenants / 10 and 10", large / small, 2.0)
    return finding


def _rules(count: int) -> Rules:
    routes = [Route.parse("a"), Route.parse("b")]
    rules = [
        Rule(tenants=(f"t{n}", f"u{n}"), percent=None, route=routes[n % 2])
        for n in range(count - 1)
    ]
    return Rules("storage", [*rules, Rule(tenants=None, percent=10.0, route=routes[1])], routes[0])


_BARE = "import dataclasses, enum, typing, logging"
_OURS = f"{_BARE}; import cm_platform"


def imports(rounds: int) -> Finding:
    """`import cm_platform` in a fresh interpreter, over what it is allowed to build on."""
    times: dict[str, list[float]] = {_BARE: [], _OURS: []}
    for _ in range(max(rounds, 7)):
        for statement, found in times.items():
            found.append(_import_ms(statement))
    bare, ours = median(times[_BARE]), median(times[_OURS])
    finding = Finding("Import (wall time)", [(_BARE, bare * 1e3, 0.0), (_OURS, ours * 1e3, 0.0)])
    finding.at_most(
        "import cm_platform over dataclasses, enum, typing, logging", ours - bare, 10, "ms"
    )
    forbidden = ("pydantic", "asyncio", "tenacity", "opentelemetry", "boto3", "obstore")
    check = f"import sys, cm_platform; print([m for m in {forbidden!r} if m in sys.modules])"
    loaded = _python(check).strip()
    finding.goals.append(Goal(f"heavy modules loaded: {loaded}", 0.0, "", "none", loaded == "[]"))
    return finding


def _import_ms(statement: str) -> float:
    code = (
        "import time; t = time.perf_counter(); "
        f"{statement}; print((time.perf_counter() - t) * 1000)"
    )
    return float(_python(code))


def _python(code: str) -> str:
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    ).stdout
