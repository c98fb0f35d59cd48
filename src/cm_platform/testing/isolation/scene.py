"""An attacker, victims whose names are close to the attacker's, and what must not get out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import pytest

from cm_platform.errors import PlatformError
from cm_platform.storage.backend import BackendPage, ListedObject, ObjectInfo
from cm_platform.tenant import Tenant
from cm_platform.testing.faces import FACES
from cm_platform.testing.storage.harness import StorageFace
from cm_platform.testing.storage.presigning import HttpReply

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

LAYOUTS = ("{tenant}/{key}", "{tenant}/{site}/{key}", "media/{tenant}/{key}")
SITE = "s1"
UNLIKE = 4
"""The victim whose id does not begin as the others do."""
HARMLESS = "harmless"
"""The outcome of an act that goes through, and stays in the attacker's own store."""


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


class Scene:
    """One test's view of the stage: attempts are judged, the damage is assessed at its end."""

    def __init__(self, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
        self.stage = stage
        self.face = stage.face
        self.attacker = stage.attacker
        self._caplog = caplog

    def attempt(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """Do it: an error code or `HARMLESS`, and the value. Nothing secret may be in either."""
        value: Any = None
        outcome = HARMLESS
        try:
            value = _consumed(act(*args, **kwargs))
        except PlatformError as error:
            outcome = error.code
            self._check_silence(_chain(error))
        self._check_silence(repr(value))
        self._check_silence(self._caplog.text)
        return outcome, value

    def refused(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """It must be an `invalid_argument` that never reached the store."""
        self.face.calls.clear()
        assert self.attempt(act, *args, **kwargs)[0] == "invalid_argument"
        assert not self.face.calls, f"reached the backend: {self.face.calls}"

    def expect(self, outcome: str, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It must end so; the value."""
        found, value = self.attempt(act, *args, **kwargs)
        assert found == outcome, f"{found}: {value!r}"
        return value

    def aimed(self, trick: Any) -> Any:
        """See `Stage.aimed`."""
        return self.stage.aimed(trick)

    def assess(self) -> None:
        """The victims' stores must be as they were, and what the attacker stored is removed."""
        others, own = look(self.stage)
        assert others == self.stage.listed, "a victim's store changed"
        self.attacker.delete_many(own)

    def _check_silence(self, text: str) -> None:
        found = [secret for secret in self.stage.secrets if secret in text]
        assert not found, "something of a victim came back"


def _consumed(value: Any) -> Any:
    """What a result has to tell, in full."""
    if hasattr(value, "chunks"):
        return value.info, value.read()
    if hasattr(value, "__next__"):
        return list(value)
    if isinstance(value, HttpReply):
        return value.status, dict(value.headers), value.body
    return value


def _chain(error: BaseException | None) -> str:
    told: list[str] = []
    while error is not None:
        told += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(told)


class IsolationHarness:
    """Subclass the suite in your tests, and say in `storage_backend` what is attacked.

    storage_backend: as for the conformance suite. The tenants have random names, and what they
        stored is removed in the end.
    layouts: of physical keys; each is attacked.
    """

    layouts: ClassVar[tuple[str, ...]] = LAYOUTS

    @pytest.fixture(scope="class", params=FACES)
    @classmethod
    def face_name(cls, request: pytest.FixtureRequest) -> str:
        """Which face is attacked."""
        return str(request.param)

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Called by pytest: each test, once per layout."""
        if "placed" in metafunc.fixturenames:
            metafunc.parametrize("placed", cls.layouts, scope="class")

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
        caplog.set_level(logging.INFO)
        caplog.set_level(logging.DEBUG, "cm_platform")
        for key in ("own/1", "own/2", "own/3"):
            stage.attacker.put(key, b"own")
        scene = Scene(stage, caplog)
        yield scene
        stage.face.backend.lie = None
        scene.assess()


__all__ = ["HARMLESS", "SITE", "IsolationHarness", "Scene", "Stage", "set_up"]
