"""Attacks by tenant ids: no two tenants share a place, and no tenant becomes another."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.tenant import Tenant
from cm_platform.testing.cache.harness import OTHER, RAW
from cm_platform.testing.isolation.ids import Forged, IdIsolation
from cm_platform.testing.isolation.judging import HARMLESS, SITE

from .scene import UNLIKE, IsolationHarness, Scene


class TenantIsolation(IdIsolation, IsolationHarness):
    """Ids are matched whole, and layouts keep them apart."""

    def test_a_uuid_is_one_tenant_in_any_case(self, scene: Scene) -> None:
        victim = scene.stage.victims[UNLIKE]
        same = Tenant(victim.tenant.id.upper(), site_id=SITE)
        assert same == victim.tenant
        assert scene.face.layout.prefix(same) == scene.face.partition(victim)

    def test_a_uuid_without_dashes_is_another_tenant(self, scene: Scene) -> None:
        victim = scene.stage.victims[UNLIKE]
        other = scene.face.cache(Tenant(victim.tenant.id.replace("-", ""), site_id=SITE))
        assert other.get("secret") is None
        assert other.namespace(RAW).get("secret") is None

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
        cache = scene.face.cache(Tenant(scene.stage.base, site_id=SITE, user_id=victim.id))
        assert scene.expect(HARMLESS, cache.get_many, ["own", "secret"]) == {"own": "own"}

    def test_a_site_with_the_victims_name_is_empty(self, scene: Scene) -> None:
        if not scene.face.layout.needs_site:
            pytest.skip("the layout has no site")
        victim = scene.stage.victim.tenant
        cache = scene.face.cache(Tenant(scene.stage.base, site_id=victim.id))
        assert cache.get_many(["own", "secret"]) == {}
        scene.refused(scene.face.get_service, Tenant(scene.stage.base))

    def test_the_site_of_a_tenant_is_part_of_its_place(self, scene: Scene) -> None:
        cache = scene.face.cache(Tenant(scene.stage.base, site_id=f"{SITE}-2"))
        expected = None if scene.face.layout.needs_site else "own"
        assert cache.get("own") == expected
        if scene.face.limits.generation_age and expected is not None:
            pytest.skip("another handle goes on with the generation that it knows")
        cache.namespace(OTHER).clear()
        found = scene.attacker.namespace(OTHER).get("own")
        assert found == ("own" if scene.face.layout.needs_site else None)

    def test_what_looks_like_a_tenant_is_none(self, scene: Scene) -> None:
        victim = scene.stage.victim.tenant
        forged: Any
        for forged in (Forged(victim.id, SITE), victim.id, victim.id.encode(), None):
            scene.refused(scene.face.get_service, forged)

    def test_a_handle_leads_to_no_client(self, scene: Scene) -> None:
        for name in ("native", "client", "backend", "scope", "executor", "entries"):
            assert not hasattr(scene.attacker, name)
        assert repr(scene.attacker).count("Tenant(") == 1

    def test_a_handle_cannot_be_turned(self, scene: Scene) -> None:
        cache: Any = getattr(scene.attacker, "target", scene.attacker)
        with pytest.raises(AttributeError):
            cache.tenant = scene.stage.victim.tenant
        with pytest.raises(AttributeError):
            cache.tenant.id = scene.stage.victim.tenant.id


__all__ = ["TenantIsolation"]
