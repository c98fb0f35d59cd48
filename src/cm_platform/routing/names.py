"""Names that people type: their form, and the one they probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

NAME_RULE: Final = "a name is [a-z0-9][a-z0-9-]*, at most 63 characters"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def is_name(text: str) -> bool:
    """Whether a backend or a migration may be called so."""
    return _NAME.fullmatch(text) is not None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to add to a message: ` (did you mean 'bucket'?)`, or nothing if none is near."""
    # Half alike will do: names are short, and `s4` was meant to be `s3`.
    near = get_close_matches(name.lower(), sorted(str(one) for one in known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(name: str) -> str:
    """A mistaken name as a message may show it.

    What does not look like a name may be anything, a misplaced secret too: it is not repeated.
    """
    return repr(name) if is_name(name) else "this"


__all__ = ["NAME_RULE", "did_you_mean", "is_name", "shown"]
