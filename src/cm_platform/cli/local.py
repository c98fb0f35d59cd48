"""`cm-platform local up`: a Cloudflare on this machine, for a developer's own application."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from cm_platform.errors import UnavailableError

from .invocation import invocation_of
from .output import Output, new_table

if TYPE_CHECKING:
    from cm_platform.testing.cloudflare import LocalCloudflare

app = typer.Typer(help="Run what an application needs on this machine.", no_args_is_help=True)

_LOOK: Final = 1.0


@app.callback()
def _local() -> None:
    """Keeps `up` a command of its own, though it is the only one."""


@app.command()
def up(
    context: typer.Context,
    persist: Annotated[
        Path | None,
        typer.Option(
            "--persist",
            metavar="DIR",
            file_okay=False,
            help="Keep data and credentials there. Left out: nothing is kept.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Of the gateway; 0 for a free one.")
    ] = 8787,
    rest_port: Annotated[
        int,
        typer.Option("--rest-port", min=0, max=65_535, help="Of the REST API; 0 for a free one."),
    ] = 8788,
    staleness: Annotated[
        float | None,
        typer.Option(
            "--kv-staleness",
            min=0,
            max=86_400,
            help="Seconds until a write to KV is seen elsewhere. Left out: as in production.",
        ),
    ] = None,
    gateway: Annotated[
        Path | None,
        typer.Option(
            "--gateway",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Your own copy of the gateway, as `gateway init` wrote it.",
        ),
    ] = None,
) -> None:
    """Serve the gateway and Cloudflare's REST API until Ctrl-C, and print what to export.

    With --json, one line of JSON: {"gateway", "gateway_far", "rest", "settings"}. The first run
    installs Node packages.
    """
    from cm_platform.testing.cloudflare import LocalCloudflare
    from cm_platform.testing.servers import ServerStartError

    out = invocation_of(context).out
    cloudflare = LocalCloudflare(
        persist=persist,
        kv_staleness=staleness,
        gateway=gateway,
        gateway_port=port,
        rest_port=rest_port,
    )
    try:
        with cloudflare, _until_told() as told:
            _tell(out, cloudflare, persist)
            while not told.wait(_LOOK):
                cloudflare.clock.now()  # raises when it is gone
    except ServerStartError as error:
        raise UnavailableError(str(error)) from error


@contextmanager
def _until_told() -> Generator[threading.Event]:
    """Ctrl-C and SIGTERM end a server in good order: they are no failure."""
    told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        told.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(out: Output, cloudflare: LocalCloudflare, persist: Path | None) -> None:
    settings = cloudflare.settings()
    if out.as_json:
        document = {
            "gateway": cloudflare.gateway_url,
            "gateway_far": cloudflare.gateway_url_far,
            "rest": cloudflare.rest_url,
            "settings": settings,
        }
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()
        return
    table = new_table("", "where")
    table.add_row("gateway", cloudflare.gateway_url)
    table.add_row("gateway, another location", cloudflare.gateway_url_far)
    table.add_row("REST API", cloudflare.rest_url)
    table.add_row("data", Text(str(persist)) if persist is not None else "gone at the end")
    out.table(table)
    out.line()
    for name, value in settings.items():
        out.line(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    out.note("Ctrl-C ends it.")


__all__ = ["app"]
