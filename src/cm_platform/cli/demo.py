"""`cm-platform demo`: the library at work on real files, without an account or a server."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

import cm_platform
from cm_platform.errors import InvalidArgumentError, NotFoundError

from .invocation import invocation_of
from .migrate_progress import Watch
from .output import Output, new_table, size_text
from .transfer import Bar

if TYPE_CHECKING:
    from .demo_acts import Step
    from .demo_migration import StageRow

_EXAMPLES: Final = Path("examples/data")


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Files to work on. Left out: examples/data."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the stores and the configuration, to look at.")
    ] = False,
) -> None:
    """Two tenants, two stores, real files; one moves to the other store while it works; a cache.

    Every line tells what was done and read back; what does not hold ends it with exit code 7.
    """
    from .demo_acts import originals, perform
    from .demo_cache import perform_cache

    call = invocation_of(context)
    folder = _data(data)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(files) < 2:
        raise InvalidArgumentError(f"{folder} has {len(files)} files; give two or more to share")
    started = time.monotonic()
    with _workspace(keep) as workspace:
        steps, stages = perform(
            folder, files, workspace, Bar(call.out.stderr, "uploading"), Watch(call.out)
        )
        steps += perform_cache(workspace, originals(folder, files))
        seconds = time.monotonic() - started
    if call.out.as_json:
        call.out.print_json(_document(folder, steps, stages, seconds, workspace if keep else None))
        return
    _show(call.out, folder, steps)
    _show_stages(call.out, stages)
    reads = sum(step.verified for step in steps)
    call.out.paragraph(
        f"{len(files)} files, {reads} reads compared with them by SHA-256, {seconds:.2f} s. "
        "Two directories stand for two clouds: with a bucket in the configuration the same "
        "code runs on S3 and R2."
    )
    if keep:
        call.out.paragraph(f"Kept: {workspace} (cm_platform.toml is the configuration)")


def _data(given: Path | None) -> Path:
    if given is not None:
        if not given.is_dir():
            raise InvalidArgumentError(f"there is no folder {given}")
        return given
    # src/cm_platform/__init__.py in a checkout.
    checkout = Path(cm_platform.__file__).parents[2]
    for root in (checkout, Path.cwd()):
        if (root / _EXAMPLES).is_dir():
            return root / _EXAMPLES
    raise NotFoundError(
        f"the example files come with the repository, not with the package: run this in a "
        f"checkout (it has {_EXAMPLES}), or give --data DIR with files of your own"
    )


@contextmanager
def _workspace(keep: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cm-platform-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


def _show(out: Output, folder: Path, steps: list[Step]) -> None:
    out.paragraph(f"cm-platform demo: {folder}", style="bold")
    out.line()
    table = new_table(
        "", "what happened", "where", ("objects", "right"), ("bytes", "right"), ("ms", "right")
    )
    for number, step in enumerate(steps, 1):
        table.add_row(
            str(number),
            Text.assemble((step.title, "bold"), "\n", step.detail),
            step.where.replace(", ", "\n").replace(" to ", "\nto "),
            str(step.objects),
            size_text(step.size) if step.size else "-",
            f"{step.seconds * 1000:.1f}",
        )
    out.table(table)
    out.line()


def _show_stages(out: Output, stages: list[StageRow]) -> None:
    out.paragraph("How the magazine moved, while three clients worked on its files:", style="bold")
    out.line()
    table = new_table(
        "stage",
        "right is the",
        "what was done there",
        ("writes", "right"),
        ("pause, ms", "right"),
        ("s", "right"),
    )
    for row in stages:
        table.add_row(
            Text(row.stage, "bold"),
            row.authority,
            row.did,
            str(row.writes),
            f"{row.paused:.1f}" if row.paused else "-",
            f"{row.seconds:.2f}",
        )
    out.table(table)
    out.line()


def _document(
    folder: Path,
    steps: list[Step],
    stages: list[StageRow],
    seconds: float,
    workspace: Path | None,
) -> dict[str, Any]:
    return {
        "data": str(folder),
        "steps": [step.to_dict() for step in steps],
        "stages": [row.to_dict() for row in stages],
        "verified": sum(step.verified for step in steps),
        "seconds": round(seconds, 6),
        "kept": None if workspace is None else str(workspace),
    }


__all__ = ["demo"]
