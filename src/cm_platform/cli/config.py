"""`cm-platform config`: what is in force, where it came from, and whether it is in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cm_platform.errors import InvalidArgumentError

from .invocation import invocation_of
from .output import counted, new_table

if TYPE_CHECKING:
    from cm_platform.config import Config

app = typer.Typer(help="Look at the configuration.")


@app.command("explain")
def explain(
    context: typer.Context,
    prefix: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Only what is below, such as storage.backends.")
    ] = "",
    defaults: Annotated[
        bool, typer.Option("--defaults", help="What holds where nothing is said. Reads no file.")
    ] = False,
) -> None:
    """Show every setting and where it came from. Secrets read ********."""
    from cm_platform.config import defaults as all_defaults

    call = invocation_of(context)
    everything = all_defaults() if defaults else call.load().explain()
    found = [setting for setting in everything if _is_below(setting.path, prefix)]
    if not found:
        tops = sorted({setting.path.partition(".")[0] for setting in everything})
        raise InvalidArgumentError(f"no setting is below this path; paths start with {tops}")
    if call.out.as_json:
        call.out.print_json(
            {
                "settings": [
                    {"path": setting.path, "value": setting.data, "source": setting.source}
                    for setting in found
                ]
            }
        )
        return
    table = new_table("setting", "value", "from")
    for setting in found:
        is_default = setting.source == "default"
        table.add_row(
            setting.path, setting.value, setting.source, style="dim" if is_default else ""
        )
    call.out.table(table)


@app.command("check")
def check(context: typer.Context) -> None:
    """Check the configuration, without a connection. Exit code 3 when it is not in order."""
    call = invocation_of(context)
    # A platform refuses more than the file's form: what this version cannot carry out.
    with call.platform() as platform:
        summary = _summary(platform.config)
    source = "the embedded configuration" if call.embedded else str(call.source())
    if call.out.as_json:
        call.out.print_json({"ok": True, "source": source, "services": summary})
        return
    call.out.stdout.print(Text.assemble(("ok", "bold green"), f"  {source}"), soft_wrap=True)
    for kind, found in summary.items():
        call.out.line(
            f"    {kind}: {', '.join(found['backends'])}; default {found['default']}, "
            f"{counted(found['rules'], 'rule')}, {counted(found['tenants'], 'tenant')} with "
            "settings of their own"
        )


def _is_below(path: str, prefix: str) -> bool:
    prefix = prefix.rstrip(".")
    return not prefix or path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))


def _summary(config: Config) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "backends": sorted(kind.backends),
            "default": kind.default,
            "rules": len(kind.rules),
            "tenants": len(kind.tenants),
        }
        for name, kind in config.kinds.items()
    }


__all__ = ["app"]
