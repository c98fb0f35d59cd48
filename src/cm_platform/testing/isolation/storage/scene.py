"""An attacker, victims whose names are close to the attacker's, and what must not get out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import pytest

from cm_platform.storage.backend import BackendPage, ListedObject, ObjectInfo
from cm_platform.tenant import Tenant
from cm_platform.testing.isolation.judging import SITE, Judge, LayoutsHarness, listen
from cm_platform.testing.storage.harness import StorageFace
from cm_platform.testing.storage.presigning import HttpReply

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

LAYOUTS = ("{tenant}/{key}", "{tenant}/{site}/{key}", "media/{tenant}/{key}")
UNLIKE = 4
"""The victim whose id does not begin as the others do."""


@dataclass(frozen=True)
class Stage:
    """One store with a few tenants in it, seen through one face and one layout.

    attacker: the storage that is abused. victim: the one whose name a trick aims at; its
    tenant's id begins as the attacker's does. victims: it and the others.
    table: the backend's, to open the store once more.
    """

    face: StorageFace
    table: Mapping[str, Any]
    attacker: Storage
    victims: tuple[Storage, ...]
    listed: list[ListedObject]
    before: list[tuple[ObjectInfo, bytes]]
    secrets: tuple[str, ...]

    @property
    def victim(self) -> Storage:
        """The one that a trick aims at."""
        return self.victims[0]

    @property
    def base(self) -> str:
        """The attacker's tenant id."""
        return self.attacker.tenant.id

    def aimed(self, trick: Any) -> Any:
        """A trick with the victim's tenant id in its place. What is not text stays as it is."""
        if not isinstance(trick, str):
            return trick
        return trick.replace("<v>", self.victim.tenant.id)


def set_up(face: StorageFace, table: Mapping[str, Any]) -> Stage:
    """Fill a store."""
    base = f"t{token_hex(4)}"
    attacker = face.storage(Tenant(base, site_id=SITE))
    tenants = [Tenant(f"{base}{end}", site_id=SITE) for end in ("b", "-b", "_b", "1")]
    tenants.append(Tenant(str(uuid4()), site_id=SITE))
    if face.layout.needs_site:
        tenants.append(Tenant(base, site_id=f"{SITE}0"))
    victims = tuple(face.storage(tenant) for tenant in tenants)
    secrets: list[str] = []
    for victim in victims:
        for key in ("secret.txt", f"unknown-{token_hex(8)}"):
            body, note = token_hex(16), token_hex(16)
            info = victim.put(key, body.encode(), metadata={"note": note})
            secrets += [body, note, info.etag, info.revision or body]
            if key.startswith("unknown"):
                secrets.append(key)
    stage = Stage(face, table, attacker, victims, [], _photograph(victims), tuple(secrets))
    stage.listed.extend(look(stage)[0])
    return stage


def look(stage: Stage) -> tuple[list[ListedObject], list[str]]:
    """What the victims have, by their physical keys; and the attacker's keys. Past the service."""
    mine = stage.face.physical(stage.attacker, "")
    # The ids of all but one begin alike.
    beginnings = [mine[: mine.index(stage.base) + len(stage.base)]]
    beginnings.append(stage.face.physical(stage.victims[UNLIKE], ""))
    found = [listed for beginning in beginnings for listed in _physical(stage.face, beginning)]
    others = [listed for listed in found if not listed.key.startswith(mine)]
    own = [listed.key.removeprefix(mine) for listed in found if listed.key.startswith(mine)]
    return others, own


def _physical(face: StorageFace, prefix: str) -> Iterator[ListedObject]:
    cursor: str | None = None
    while True:
        page: BackendPage = face.run(
            face.backend.list(prefix, delimiter=None, cursor=cursor, limit=face.limits.max_page)
        )
        yield from page.objects
        if (cursor := page.cursor) is None:
            return


def _photograph(victims: tuple[Storage, ...]) -> list[tuple[ObjectInfo, bytes]]:
    taken: list[tuple[ObjectInfo, bytes]] = []
    for victim in victims:
        for listed in victim.list():
            with victim.get(listed.key) as stored:
                taken.append((stored.info, stored.read()))
    return taken


class Scene(Judge):
    """One test's view of the stage: attempts are judged, the damage is assessed at its end."""

    face: StorageFace

    def __init__(self, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
        super().__init__(stage.face, stage.secrets, caplog)
        self.stage = stage
        self.attacker = stage.attacker

    def aimed(self, trick: Any) -> Any:
        """See `Stage.aimed`."""
        return self.stage.aimed(trick)

    def assess(self) -> None:
        """The victims' stores must be as they were, and what the attacker stored is removed."""
        others, own = look(self.stage)
        assert others == self.stage.listed, "a victim's store changed"
        self.attacker.delete_many(own)

    def consumed(self, value: Any) -> Any:
        """See `Judge.consumed`."""
        if hasattr(value, "chunks"):
            return value.info, value.read()
        if hasattr(value, "__next__"):
            return list(value)
        if isinstance(value, HttpReply):
            return value.status, dict(value.headers), value.body
        return value


class IsolationHarness(LayoutsHarness):
    """Subclass the suite in your tests, and say in `storage_backend` what is attacked.

    storage_backend: as for the conformance suite. The tenants have random names, and what they
        stored is removed in the end.
    layouts: of physical keys; each is attacked.
    """

    layouts: ClassVar[tuple[str, ...]] = LAYOUTS

    @pytest.fixture(scope="class")
    @classmethod
    def stage(
        cls, face_name: str, placed: str, storage_backend: Mapping[str, Any]
    ) -> Iterator[Stage]:
        """The store, filled; shared by the class's tests."""
        with StorageFace(face_name, storage_backend, layout=placed) as face:
            stage = set_up(face, storage_backend)
            yield stage
            assert _photograph(stage.victims) == stage.before, "a victim's object changed"
            face.clear()

    @pytest.fixture
    def scene(self, stage: Stage, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
        """The stage, with the damage assessed at the end."""
        listen(caplog)
        for key in ("own/1", "own/2", "own/3"):
            stage.attacker.put(key, b"own")
        scene = Scene(stage, caplog)
        yield scene
        stage.face.backend.lie = None
        scene.assess()


__all__ = ["UNLIKE", "IsolationHarness", "Scene", "Stage", "set_up"]
