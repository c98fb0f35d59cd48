"""`cm-platform gateway`: the Worker that we ship, written out for a user, and asked how it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import SecretStr, ValidationError

from cm_platform.cloudflare import worker
from cm_platform.errors import ConfigInvalidError, InvalidArgumentError, PlatformError
from cm_platform.redaction import redact

from .exits import ExitCode
from .invocation import invocation_of
from .output import Output, counted, new_table

if TYPE_CHECKING:
    from cm_platform.cloudflare.gateway import Health
    from cm_platform.cloudflare.settings import GatewaySettings
    from cm_platform.config import Config

app = typer.Typer(help="The Worker that stands before Cloudflare's bindings.")

KEY_ID_VARIABLE: Final = "CM_GATEWAY_KEY_ID"
SECRET_VARIABLE: Final = "CM_GATEWAY_SECRET"  # noqa: S105 - where the secret is, not what


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of asking one gateway.

    of: the backends behind it. version, protocol: None where it did not answer. problems: why it
    is not in order, if it is not. notes: what is worth knowing beside that.
    """

    url: str
    of: Sequence[str]
    version: str | None = None
    protocol: int | None = None
    bindings: Mapping[str, str] = field(default_factory=dict[str, str])
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A gateway to ask, and the bindings that backends count on, by the backend.

    wanted: the binding's name, and the product that it must be bound to; None: any.
    """

    settings: GatewaySettings
    wanted: dict[str, tuple[str | None, str | None]]


@app.command("init")
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    kv_id: Annotated[
        str,
        typer.Option(
            "--kv-id",
            metavar="ID",
            help="The KV namespace's, from `npx wrangler kv namespace create cm-gateway`.",
        ),
    ],
    name: Annotated[
        str, typer.Option("--name", help="What the Worker is called.")
    ] = worker.DEFAULT_NAME,
    binding: Annotated[
        list[str] | None,
        typer.Option(
            "--binding",
            metavar="OURS=YOURS",
            help=f"Another name for one of {', '.join(worker.BINDINGS)}; may be repeated.",
        ),
    ] = None,
) -> None:
    """Write the gateway Worker into a directory of its own, ready for `npx wrangler deploy`."""
    out = invocation_of(context).out
    names = worker.Names(kv_id=kv_id, name=name, bindings=_renamed(binding or []))
    files = worker.write(directory, names)
    if out.as_json:
        out.print_json(
            {
                "directory": str(directory),
                "version": worker.version(),
                "name": names.name,
                "bindings": names.all_bindings(),
                "files": [file.as_posix() for file in files],
            }
        )
        return
    out.line(f"{directory}: gateway {worker.version()}, {counted(len(files), 'file')}", "bold")
    out.line("Next, in that directory:")
    out.line("    npm ci")
    out.line("    npx wrangler deploy")
    out.line("    npx wrangler secret put GATEWAY_KEYS")
    out.line('        {"KEY_ID": "a secret of 32 characters or more"}')
    out.line("and then: cm-platform gateway check")


@app.command("check")
def check(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Of one gateway. Left out: those of the configuration."),
    ] = None,
    key_id: Annotated[
        str | None,
        typer.Option(
            "--key-id",
            envvar=KEY_ID_VARIABLE,
            help=f"Which key signs, with --url; its secret is read from {SECRET_VARIABLE}.",
        ),
    ] = None,
) -> None:
    """Ask gateways for their version and bindings. Exit code 6 when one is not in order.

    In order is one that answers, takes our signature, speaks our protocol and has the bindings
    that the configured backends name.
    """
    call = invocation_of(context)
    if find_spec("httpx") is None:
        raise ConfigInvalidError(
            "the gateway's client is not installed: pip install 'cm-platform[cloudflare]'"
        )
    asked = list(_configured(call.load())) if url is None else [_given(url, key_id)]
    if not asked:
        raise ConfigInvalidError("no configured backend goes through a gateway; --url asks one")
    found = [_check(one) for one in asked]
    failed = any(one.problems for one in found)
    if call.out.as_json:
        shipped = {"version": worker.version(), "protocol": worker.PROTOCOL}
        call.out.print_json(
            {"ok": not failed, "shipped": shipped, "gateways": [asdict(one) for one in found]}
        )
    else:
        _show(call.out, found)
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("version")
def version(context: typer.Context) -> None:
    """The version of the gateway that this package ships, and its protocol. Asks nobody."""
    out = invocation_of(context).out
    if out.as_json:
        out.print_json({"version": worker.version(), "protocol": worker.PROTOCOL})
    else:
        out.line(f"{worker.version()}, protocol {worker.PROTOCOL}")


def _renamed(options: list[str]) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for option in options:
        shipped, equals, name = option.partition("=")
        if not equals:
            raise InvalidArgumentError(
                "--binding says which binding has which name, such as --binding KV=MY_KV"
            )
        if shipped in renamed:
            raise InvalidArgumentError("--binding names one binding twice")
        renamed[shipped] = name
    return renamed


def _given(url: str, key_id: str | None) -> _Asked:
    from cm_platform.cloudflare.settings import GatewaySettings

    secret = os.environ.get(SECRET_VARIABLE)
    if key_id is None or secret is None:
        raise InvalidArgumentError(
            f"with --url give --key-id, and set {SECRET_VARIABLE} to that key's secret"
        )
    try:
        settings = GatewaySettings(url=url, key_id=key_id, secret=SecretStr(secret))
    except ValidationError as error:
        # Each with its field's name; what was given stands in none of them.
        wrong = "; ".join(f"{found['loc'][0]}: {found['msg']}" for found in error.errors())
        raise InvalidArgumentError(wrong) from None
    return _Asked(settings, {})


def _configured(config: Config) -> Iterator[_Asked]:
    """The gateways of all backends, each once."""
    from cm_platform.cloudflare.settings import GatewaySettings

    asked: dict[tuple[str, str], _Asked] = {}
    for kind, settings in config.kinds.items():
        for backend in settings.backends.values():
            own = backend.settings
            # Either the backend's settings are a gateway's, or one of its tables is.
            tables = [own, *(getattr(own, name) for name in type(own).model_fields)]
            for table in tables:
                if isinstance(table, GatewaySettings):
                    one = asked.setdefault((table.url, table.key_id), _Asked(table, {}))
                    binding: str | None = getattr(table, "binding", None)
                    product: str | None = getattr(table, "product", None)
                    one.wanted[f"{kind}.{backend.name}"] = (binding, product)
    yield from asked.values()


def _check(asked: _Asked) -> Checked:
    from cm_platform.cloudflare.gateway import Gateway
    from cm_platform.runtime import BlockingRuntime, drive

    url, of = asked.settings.url, sorted(asked.wanted)
    gateway = Gateway.open(asked.settings, BlockingRuntime())
    try:
        health = drive(gateway.health())
    except PlatformError as error:
        return Checked(url, of, problems=[redact(f"{error.code}: {error.message}")])
    finally:
        drive(gateway.close())
    return Checked(
        url,
        of,
        version=health.version,
        protocol=health.protocol,
        bindings=dict(health.bindings),
        problems=list(_problems(asked, health)),
        notes=list(_notes(health)),
    )


def _problems(asked: _Asked, health: Health) -> Iterator[str]:
    if health.protocol != worker.PROTOCOL:
        yield (
            f"it speaks protocol {health.protocol}, this package {worker.PROTOCOL}: deploy what "
            "`cm-platform gateway init` writes"
        )
    for backend, (binding, product) in asked.wanted.items():
        if binding is None:
            continue
        bound = health.bindings.get(binding)
        if bound is None:
            yield f"{backend} wants the binding {binding}, which is not there"
        elif product is not None and bound != product:
            yield f"{backend} wants the binding {binding} to be a {product}; it is a {bound}"


def _notes(health: Health) -> Iterator[str]:
    if health.version != worker.version():
        yield f"this package ships version {worker.version()}"


def _show(out: Output, found: list[Checked]) -> None:
    table = new_table("gateway", "", "version", "bindings", "found")
    for one in found:
        bindings = ", ".join(f"{name}: {kind}" for name, kind in one.bindings.items())
        said = "\n".join([*one.problems, *one.notes])
        state = "failed" if one.problems else "ok"
        table.add_row(one.url, state, one.version or "", bindings, said)
    out.table(table)


__all__ = ["KEY_ID_VARIABLE", "SECRET_VARIABLE", "Checked", "app"]
