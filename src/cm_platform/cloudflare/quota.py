"""What Cloudflare's API says of the rate that is left: `Ratelimit`, `Ratelimit-Policy`.

Ratelimit-Policy: "default";q=1200;w=300
Ratelimit: "default";r=50;t=30
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import httpx


@dataclass(frozen=True, slots=True)
class Quota:
    """remaining: requests left. reset: seconds until there are more. window: seconds over which
    they are counted, if that was said."""

    remaining: int
    reset: float
    window: float | None


def quotas_of(headers: httpx.Headers) -> list[Quota]:
    """All that the answer says; what cannot be read is left out."""
    windows = {name: terms.get("w") for name, terms in _items(headers.get("ratelimit-policy", ""))}
    found: list[Quota] = []
    for name, terms in _items(headers.get("ratelimit", "")):
        remaining = terms.get("r")
        if remaining is not None:
            window = windows.get(name)
            found.append(
                Quota(
                    remaining=remaining,
                    reset=float(terms.get("t", 0)),
                    window=None if window is None else float(window),
                )
            )
    return found


# No quote, comma or semicolon is ever part of a name.
_ITEM: Final = re.compile(r'"?([\w.-]{1,64})"?((?:\s*;\s*\w{1,8}=-?\d{1,9})*)')
_TERM: Final = re.compile(r"(\w{1,8})=(\d{1,9})")


def _items(text: str) -> list[tuple[str, dict[str, int]]]:
    found: list[tuple[str, dict[str, int]]] = []
    for part in text[:1024].split(","):
        if (item := _ITEM.fullmatch(part.strip())) is not None:
            terms = {name: int(value) for name, value in _TERM.findall(item[2])}
            found.append((item[1], terms))
    return found


__all__ = ["Quota", "quotas_of"]
