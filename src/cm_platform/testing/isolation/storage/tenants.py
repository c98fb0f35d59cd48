"""Attacks by tenant ids: no two tenants share a place, and no tenant becomes another."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.tenant import Tenant
from cm_platform.testing.isolation.ids import Forged, IdIsolation
from cm_platform.testing.isolation.judging import HARMLESS, SITE

from .scene import UNLIKE, IsolationHarness, Scene


class TenantIsolation(IdIsolation, IsolationHarness):
    """Ids are matched whole, and layouts keep them apart."""

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
