"""Attacks by tenant ids: no two tenants share a place, and no tenant becomes another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cm_platform.errors import ConfigInvalidError, InvalidArgumentError
from cm_platform.tenant import Layout, Tenant

from .scene import HARMLESS, SITE, UNLIKE, IsolationHarness, Scene

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


class TenantIsolation(IsolationHarness):
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

    def test_a_uuid_is_one_tenant_in_any_case(self, scene: Scene) -> None:
        victim = scene.stage.victims[UNLIKE]
        same = Tenant(victim.tenant.id.upper(), site_id=SITE)
        assert same == victim.tenant
        assert scene.face.physical(scene.face.storage(same), "x") == scene.face.physical(
            victim, "x"
        )

    def test_a_uuid_without_dashes_is_another_tenant(self, scene: Scene) -> None:
        victim = scene.stage.victims[UNLIKE]
        other = scene.face.storage(Tenant(victim.tenant.id.replace("-", ""), site_id=SITE))
        assert scene.expect(HARMLESS, other.list) == []
        scene.expect("not_found", other.get, "secret.txt")

    @pytest.mark.parametrize("ending", ["", "b", "-b", "_b", "1", "bb", "-", "b-"])
    def test_an_id_that_begins_as_anothers_is_somewhere_else(
        self, scene: Scene, ending: str
    ) -> None:
        taken = {victim.tenant for victim in scene.stage.victims}
        tenant = Tenant(f"{scene.stage.base}{ending}", site_id=SITE)
        places = {scene.face.layout.prefix(other) for other in taken - {tenant}}
        mine = scene.face.layout.prefix(tenant)
        assert not any(mine.startswith(place) or place.startswith(mine) for place in places)

    def test_a_user_changes_nothing(self, scene: Scene) -> None:
        victim = scene.stage.victim.tenant
        tenant = Tenant(scene.stage.base, site_id=SITE, user_id=victim.id)
        storage = scene.face.get_service(tenant)
        keys = [listed.key for listed in scene.expect(HARMLESS, storage.list)]
        assert keys == ["own/1", "own/2", "own/3"]

    def test_a_site_with_the_victims_name_is_empty(self, scene: Scene) -> None:
        if not scene.face.layout.needs_site:
            pytest.skip("the layout has no site")
        victim = scene.stage.victim.tenant
        storage = scene.face.storage(Tenant(scene.stage.base, site_id=victim.id))
        assert scene.expect(HARMLESS, storage.list) == []
        bare = scene.face.get_service
        scene.refused(bare, Tenant(scene.stage.base))

    def test_what_looks_like_a_tenant_is_none(self, scene: Scene) -> None:
        victim = scene.stage.victim.tenant
        forged: Any = Forged(victim.id, SITE)
        scene.refused(scene.face.get_service, forged)
        text: Any = victim.id
        scene.refused(scene.face.get_service, text)

    def test_a_tenant_cannot_be_changed(self, scene: Scene) -> None:
        tenant: Any = Tenant(scene.stage.base, site_id=SITE)
        with pytest.raises(AttributeError):
            tenant.id = scene.stage.victim.tenant.id
        with pytest.raises(AttributeError):
            del tenant.site_id

    def test_a_handle_leads_to_no_client(self, scene: Scene) -> None:
        for name in ("native", "client", "backend", "bucket", "scope", "executor"):
            assert not hasattr(scene.attacker, name)
        assert repr(scene.attacker).count("Tenant(") == 1


__all__ = ["TenantIsolation"]
