"""The root command: global options, and how a command that fails ends."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperGroup

import cm_platform
from cm_platform.errors import InternalError, InvalidArgumentError, PlatformError
from cm_platform.redaction import RedactingFilter, redact

from . import config, conformance, demo, doctor, gateway, local, migrate, services, storage
from .exits import ExitCode, exit_code, explained
from .invocation import Invocation
from .output import Output

NAME: Final = "cm-platform"

# click's, from wherever this version of typer has it.
_UsageError: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])

_FLAGS: Final = ("--embedded", "--json", "--debug")

_EPILOG: Final = (
    "--config, --embedded, --json and --debug may stand before or after the command.\n\n"
    f"\b\nExit codes:\n{explained()}"
)


class Program(TyperGroup):
    """The commands; knows what an error looks like and which exit code it has."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command; ends the process, always with a code of the table."""
        front, rest = _hoisted(sys.argv[1:] if args is None else args)
        out = Output(as_json="--json" in front)
        code: int
        try:
            result = super().main(
                [*front, *rest],
                prog_name=prog_name or NAME,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            code = result if isinstance(result, int) else ExitCode.OK
        except Exception as error:  # noqa: BLE001 - a command ends with a code, not a traceback
            if "--debug" in front:
                # The SDK's words stand in it, too.
                sys.stderr.write(redact("".join(traceback.format_exception(error))))
            failure = _failure(error)
            out.error(failure)
            code = exit_code(failure)
        sys.exit(int(code))

    def invoke(self, ctx: Any) -> Any:
        """Run the command, to its last byte of output."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # At exit Python flushes again, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.NO_READER) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        return result


app = typer.Typer(
    name=NAME,
    cls=Program,
    epilog=_EPILOG,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{cm_platform.__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="PATH",
            help="The configuration. Left out: the file that CM_PLATFORM_CONFIG names, else "
            "./cm_platform.toml.",
        ),
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="A store under ./.cm_platform instead.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Results as JSON on stdout, errors as JSON on stderr.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Logs, and where an error came from, on stderr.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="The version, and nothing else.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Storage for multi-tenant platforms: look at it, use it, check it."""
    if debug:
        _log_to_stderr()
    context.obj = Invocation(config, embedded, debug, Output(as_json=as_json))


app.command("demo")(demo.demo)
app.command("services")(services.services)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(storage.app, name="storage")
app.add_typer(migrate.app, name="migrate")
app.add_typer(conformance.app, name="conformance")
app.add_typer(gateway.app, name="gateway")
app.add_typer(local.app, name="local")


def run() -> int:
    """Run the command of this process's arguments; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A key in a terminal that cannot show it is escaped, not a failure.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FAILED
    return ExitCode.OK


def _hoisted(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The global options, wherever they stand, and the rest; help, where nothing else is."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _FLAGS or word.startswith("--config="):
            front.append(word)
        elif word == "--config":
            front += [word, *islice(words, 1)]
        else:
            rest.append(word)
    if front[-1:] == ["--config"]:
        return front, []  # its path is missing: what follows must not be taken for it
    return front, rest or ["--help"]


def _failure(error: Exception) -> PlatformError:
    if isinstance(error, PlatformError):
        return error
    if isinstance(error, _UsageError):
        context: Any = getattr(error, "ctx", None)
        path = context.command_path if context is not None else NAME
        message: str = cast("Any", error).format_message()
        return InvalidArgumentError(f"{message.rstrip('.')}. See '{path} --help'")
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename is not None else ""
        return InternalError(f"{error.strerror or type(error).__name__}{where}")
    return InternalError(f"{type(error).__name__}, a defect; --debug shows where")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("cm_platform")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)


__all__ = ["NAME", "app", "run"]
