"""The command line, `cm-platform`. It needs the extra `cli`, and says so when that is missing."""

from __future__ import annotations

import json
import sys
from typing import Final

from cm_platform.errors import ConfigInvalidError

_NEEDED: Final = ("typer", "rich")


def main() -> int:
    """Run the command that the arguments name; the exit code."""
    try:
        from .app import run
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        return _refuse(missing)
    return run()


def _refuse(missing: str) -> int:
    error = ConfigInvalidError(
        f"the command line needs {missing}, which is not installed: pip install 'cm-platform[cli]'"
    )
    told = json.dumps({"error": error.to_dict()}) if "--json" in sys.argv else f"error: {error}"
    sys.stderr.write(f"{told}\n")
    return 3  # as .exits.ExitCode.CONFIGURATION, which this must not need


__all__ = ["main"]
