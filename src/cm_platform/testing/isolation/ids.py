"""Attacks by tenant ids, on services of any kind: no two tenants share a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cm_platform.errors import ConfigInvalidError, InvalidArgumentError
from cm_platform.tenant import Layout, Tenant

from .judging import SITE

IDS: dict[str, Callable[[str], Any]] = {
    "a trailing newline": lambda base: f"{base}\n",
    "a leading newline": lambda base: f"\n{base}",
    "a trailing NUL": lambda base: f"{base}\x00",
    "a trailing space": lambda base: f"{base} ",
    "in capitals": lambda base: base.upper(),
    "up": lambda base: f"{base}/../{base}b",
    "only up": lambda base: "..",
    "a slash": lambda base: f"{base}/",
    "a site": lambda base: f"{base}/{SITE}",
    "an encoded slash": lambda base: f"{base}%2f",
    "a wildcard": lambda base: f"{base}*",
    "full-width": lambda base: f"{base}\uff42",
    "a combining accent": lambda base: f"{base}\u0301",
    "nothing": lambda base: "",
    "a leading dash": lambda base: f"-{base}",
    "too long": lambda base: base * 8,
    "bytes": lambda base: base.encode(),
    "a number": lambda base: 5,
    "None": lambda base: None,
    "a list": lambda base: [base],
    "a UUID in braces": lambda base: "{0b9e1d7e-0000-4000-8000-000000000000}",
    "a UUID as a URN": lambda base: "urn:uuid:0b9e1d7e-0000-4000-8000-000000000000",
    "a UUID and a newline": lambda base: "0b9e1d7e-0000-4000-8000-000000000000\n",
    "a UUID in capitals and a newline": lambda base: "0B9E1D7E-0000-4000-8000-000000000000\n",
}

LAYOUTS = {
    "tenants that run into keys": "{tenant}{key}",
    "a dash, which ids may have": "{tenant}-{key}",
    "an underscore": "{tenant}_{key}",
    "a letter": "{tenant}x/{key}",
    "tenants that run into sites": "{tenant}{site}/{key}",
    "sites that run into keys": "{tenant}/{site}{key}",
    "a dash between ids": "{tenant}-{site}/{key}",
    "no tenant": "media/{key}",
    "only a site": "{site}/{key}",
    "two tenants": "{tenant}/{tenant}/{key}",
    "a key before the tenant": "{key}/{tenant}",
    "no key": "{tenant}/",
    "up": "{tenant}/../{key}",
    "absolute": "/{tenant}/{key}",
    "an empty segment": "{tenant}//{key}",
    "a newline": "{tenant}\n{key}",
    "another placeholder": "{tenant}/{user}/{key}",
    "an attribute": "{tenant.id}/{key}",
}


@dataclass(frozen=True)
class Forged:
    """What has a tenant's attributes and is none."""

    id: str
    site_id: str
    user_id: str | None = None


class IdIsolation:
    """Ids are matched whole, and layouts keep them apart."""

    @pytest.mark.parametrize("made", list(IDS.values()), ids=list(IDS))
    def test_what_is_no_id_makes_no_tenant(self, made: Callable[[str], Any]) -> None:
        forged = made("t0a1b2c3d")
        with pytest.raises(InvalidArgumentError):
            Tenant(forged)
        for label in ("site_id", "user_id"):
            with pytest.raises(InvalidArgumentError):
                Tenant("t0a1b2c3d", **{label: "" if forged is None else forged})

    @pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
    def test_a_layout_that_lets_tenants_meet_is_refused(self, layout: str) -> None:
        with pytest.raises(ConfigInvalidError):
            Layout(layout)


__all__ = ["IDS", "LAYOUTS", "Forged", "IdIsolation"]
