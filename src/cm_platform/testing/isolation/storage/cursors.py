"""Attacks by cursors: a listing is continued only by whom, and as, it was begun."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from cm_platform.tenant import Tenant
from cm_platform.testing.isolation.judging import HARMLESS, SITE
from cm_platform.testing.storage.harness import StorageFace

from .scene import UNLIKE, IsolationHarness, Scene


def begun(storage: Any, prefix: str = "", delimiter: Any = None) -> str:
    """The cursor of a listing that has more."""
    cursor = storage.list_page(prefix, limit=1, delimiter=delimiter).cursor
    assert isinstance(cursor, str)
    return cursor


def parts_of(cursor: str) -> tuple[str, str, str]:
    """The key's id, the payload and the signature, as text."""
    key_id, payload, mac = cursor.split(".")
    return key_id, payload, mac


def text64(text: str) -> str:
    """As a cursor writes it."""
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def elsewhere(scene: Scene, **options: Any) -> str:
    """The attacker's own cursor, of the same store configured in another way."""
    stage = scene.stage
    table, layout = stage.table, stage.face.layout.template
    with StorageFace(stage.face.name, table, layout=layout, **options) as face:
        return begun(face.get_service(stage.attacker.tenant))


def of_a_site(scene: Scene) -> str:
    """A cursor of the attacker's own tenant, at another site."""
    if not scene.face.layout.needs_site:
        pytest.skip("the layout has no site")
    assert scene.stage.victims[-1].tenant.id == scene.stage.base
    return begun(scene.stage.victims[-1])


def repeated_key(scene: Scene) -> str:
    """What another key signed under the name of ours."""
    return elsewhere(scene, signing={"keys": {"suite": "another key, which has the same name"}})


CURSORS: dict[str, Callable[[Scene], Any]] = {
    "a victim's": lambda scene: begun(scene.stage.victim),
    "of another victim": lambda scene: begun(scene.stage.victims[UNLIKE]),
    "of another site": of_a_site,
    "of another prefix": lambda scene: begun(scene.attacker, "own/"),
    "of another delimiter": lambda scene: begun(scene.stage.victim, "", "/"),
    "of another backend": lambda scene: elsewhere(scene, backend_name="other"),
    "of a key with another id": lambda scene: elsewhere(
        scene, signing={"keys": {"other": "the-key-of-a-conformance-suite-0"}}
    ),
    "of another key with our id": repeated_key,
    "the store's own": lambda scene: "own/1",
    "a victim's key": lambda scene: scene.face.physical(scene.stage.victim, "secret.txt"),
    "forged": lambda scene: f"suite.{text64(scene.aimed('<v>/secret.txt'))}.{'A' * 43}",
    "unsigned": lambda scene: begun(scene.attacker).rpartition(".")[0] + ".",
    "with another payload": lambda scene: ".".join(
        (parts_of(begun(scene.attacker))[0], text64("x"), parts_of(begun(scene.attacker))[2])
    ),
    "with a victim's payload": lambda scene: ".".join(
        (
            parts_of(begun(scene.attacker))[0],
            parts_of(begun(scene.stage.victim))[1],
            parts_of(begun(scene.attacker))[2],
        )
    ),
    "with a victim's signature": lambda scene: ".".join(
        (*parts_of(begun(scene.attacker))[:2], parts_of(begun(scene.stage.victim))[2])
    ),
    "with no key's id": lambda scene: "." + begun(scene.attacker).partition(".")[2],
    "truncated": lambda scene: begun(scene.attacker)[:-1],
    "truncated to a half": lambda scene: begun(scene.attacker)[: len(begun(scene.attacker)) // 2],
    "with more": lambda scene: begun(scene.attacker) + "A",
    "with a newline": lambda scene: begun(scene.attacker) + "\n",
    "with padding": lambda scene: begun(scene.attacker) + "=",
    "in capitals": lambda scene: begun(scene.attacker).upper(),
    "empty": lambda scene: "",
    "dots": lambda scene: "..",
    "not ASCII": lambda scene: "é.é.é",
    "a number": lambda scene: 5,
    "bytes": lambda scene: begun(scene.attacker).encode(),
}


class CursorIsolation(IsolationHarness):
    """One message for whatever is wrong with a cursor."""

    @pytest.mark.parametrize("made", list(CURSORS.values()), ids=list(CURSORS))
    def test_a_cursor_from_elsewhere_is_refused(
        self, scene: Scene, made: Callable[[Scene], Any]
    ) -> None:
        cursor = made(scene)
        scene.refused(scene.attacker.list_page, limit=1, cursor=cursor)
        scene.refused(scene.attacker.list_page, scene.aimed("<v>/"), cursor=cursor)

    def test_ones_own_cursor_is_good(self, scene: Scene) -> None:
        page = scene.expect(HARMLESS, scene.attacker.list_page, cursor=begun(scene.attacker))
        assert [listed.key for listed in page.objects] == ["own/2", "own/3"]

    def test_a_cursor_shows_nothing_of_the_layout_in_its_representation(self, scene: Scene) -> None:
        page = scene.attacker.list_page(limit=1)
        assert page.cursor is not None
        assert page.cursor not in repr(page)

    def test_the_site_of_a_tenant_is_part_of_its_place(self, scene: Scene) -> None:
        other = scene.face.storage(Tenant(scene.stage.base, site_id=f"{SITE}-2"))
        seen = [listed.key for listed in other.list()]
        assert bool(seen) != scene.face.layout.needs_site


__all__ = ["CursorIsolation"]
