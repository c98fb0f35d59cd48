"""An attacker, victims whose names are close to the attacker's, and what must not get out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import scope_of
from cm_platform.errors import PlatformError
from cm_platform.runtime import Clock
from cm_platform.tenant import Tenant
from cm_platform.testing.cache.harness import OTHER, RAW, CacheFace
from cm_platform.testing.isolation.judging import HARMLESS, SITE, Judge, LayoutsHarness, listen

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

LAYOUTS = ("{tenant}/{key}", "cache:{tenant}:{site}:{key}")
UNLIKE = 4
"""The victim whose id does not begin as the others do."""
TAG = "tag"
NUMBER = 41

# What a victim has in the store, within its partition.
NAMES = (
    "~default!g",
    "~default!l:secret",
    "~default!t:tag",
    "~default:number",
    "~default:secret",
    "~sessions!g",
    "~sessions!t:tag",
    "~sessions:number",
    "~sessions:secret",
    "secret",
)


@dataclass
class Stage:
    """One store with a few tenants in it, seen through one face and one layout.

    attacker: the cache that is abused. victim: the one whose name a trick aims at; its tenant's
    id begins as the attacker's does. victims: it and the others.
    before: what each victim has, byte by byte.
    """

    face: CacheFace
    attacker: Cache
    victims: tuple[Cache, ...]
    secrets: tuple[str, ...]
    before: list[list[bytes | None]] = field(default_factory=list[list[bytes | None]])

    @property
    def victim(self) -> Cache:
        """The one that a trick aims at."""
        return self.victims[0]

    @property
    def base(self) -> str:
        """The attacker's tenant id."""
        return self.attacker.tenant.id

    def aimed(self, trick: Any) -> Any:
        """A trick with the victim's tenant id and partition in their places. What is not text
        stays as it is."""
        if not isinstance(trick, str):
            return trick
        partition = self.face.partition(self.victim)
        return trick.replace("<p>", partition).replace("<v>", self.victim.tenant.id)

    def look(self, victims: int | None = None) -> list[list[bytes | None]]:
        """What the victims have, past the service; of the first few, or all."""
        return [self.face.raw(victim, *NAMES) for victim in self.victims[:victims]]


def set_up(face: CacheFace) -> Stage:
    """Fill a store."""
    base = f"t{token_hex(4)}"
    attacker = face.cache(Tenant(base, site_id=SITE))
    tenants = [Tenant(f"{base}{end}", site_id=SITE) for end in ("b", "-b", "_b", "1")]
    tenants.append(Tenant(str(uuid4()), site_id=SITE))
    if face.layout.needs_site:
        tenants.append(Tenant(base, site_id=f"{SITE}0"))
    victims = tuple(face.cache(tenant) for tenant in tenants)
    secrets: list[str] = []
    for victim in victims:
        secrets += _fill(face, victim)
    stage = Stage(face, attacker, victims, tuple(secrets))
    stage.before.extend(stage.look())
    for found in stage.before:
        assert None not in found, f"a victim lacks {NAMES[found.index(None)]}"
    return stage


def _fill(face: CacheFace, victim: Cache) -> Iterator[str]:
    for space in (victim, victim.namespace(OTHER)):
        # Versions exist once they were raised.
        space.clear()
        space.invalidate_tag(TAG)
        secret = token_hex(16)
        space.set("secret", secret, ttl=None, tags=(TAG,))
        space.set("number", NUMBER, ttl=None)
        yield secret
    secret = token_hex(16)
    victim.namespace(RAW).set("secret", secret, ttl=None)
    yield secret
    secret = token_hex(16)
    face.plant(victim, "~default!l:secret", secret.encode())
    yield secret


class Scene(Judge):
    """One test's view of the stage: attempts are judged, the damage is assessed at its end."""

    face: CacheFace

    def __init__(self, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
        super().__init__(stage.face, stage.secrets, caplog)
        self.stage = stage
        self.attacker = stage.attacker
        self.partition = stage.face.partition(stage.attacker)

    def attempt(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """See `Judge.attempt`; nor may a name outside of the attacker's partition be told."""
        self.face.named.clear()
        found = super().attempt(act, *args, **kwargs)
        strays = {(where, key) for where, key in self.face.named if where != self.partition}
        assert not strays, f"outside of the attacker's partition: {strays}"
        return found

    def within(self, namespace: str) -> None:
        """The last attempt told the store names of this namespace alone."""
        ours = (f"~{namespace}:", f"~{namespace}!")
        strays = {key for _, key in self.face.named if not key.startswith(ours)}
        assert not strays, f"outside of the namespace: {strays}"

    def scope(self, namespace: str = "default") -> int:
        """What stands in the entries of the attacker's namespace."""
        return scope_of(self.partition, namespace)

    def aimed(self, trick: Any) -> Any:
        """See `Stage.aimed`."""
        return self.stage.aimed(trick)

    def can(self, *capabilities: CacheCapability) -> bool:
        """Whether the backend declares them."""
        return self.face.capabilities.issuperset(capabilities)

    def assess(self) -> None:
        """What the victim has must be as it was: values, versions, a lock.

        The others are looked at when all attacks are over.
        """
        assert self.stage.look(1) == self.stage.before[:1], "something of a victim changed"


class IsolationHarness(LayoutsHarness):
    """Subclass the suite in your tests, and say in `cache_backend` what is attacked.

    cache_backend: as for the conformance suite. The tenants have random names, and what they
        stored is removed in the end.
    layouts: of physical keys; each is attacked.
    examples: that Hypothesis tries per property.
    """

    layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    examples: ClassVar[int] = 40

    @classmethod
    def backend_clock(cls) -> Clock | None:
        """See `CacheHarness.backend_clock`."""
        return None

    @classmethod
    def settle(cls) -> None:
        """See `CacheHarness.settle`."""
        raise NotImplementedError("a store that shows its writes later needs settle()")

    @pytest.fixture(scope="class")
    @classmethod
    def stage(
        cls, face_name: str, placed: str, cache_backend: Mapping[str, Any]
    ) -> Iterator[Stage]:
        """The store, filled; shared by the class's tests."""
        with CacheFace(
            face_name, cache_backend, layout=placed, backend_clock=cls.backend_clock()
        ) as face:
            if CacheCapability.READ_YOUR_WRITES not in face.capabilities:
                face.settle = cls.settle
            stage = set_up(face)
            yield stage
            assert stage.look() == stage.before, "something of a victim changed"
            for victim in stage.victims:
                for space in (victim, victim.namespace(OTHER)):
                    found = space.get_many(["secret", "number"])
                    assert found.get("secret") in stage.secrets, "a victim's value is gone"
                    assert found.get("number") == NUMBER
            face.clear()

    @pytest.fixture
    def scene(self, stage: Stage, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
        """The stage, with the damage assessed at the end."""
        listen(caplog)
        for space in (stage.attacker, stage.attacker.namespace(OTHER)):
            space.set("own", "own", tags=(TAG,))
        scene = Scene(stage, caplog)
        yield scene
        stage.face.backend.lie = None
        scene.assess()
        self._tidy(stage)

    @staticmethod
    def _tidy(stage: Stage) -> None:
        """Remove what the attacker stored, so that attacks do not depend on each other."""
        partition = stage.face.partition(stage.attacker)
        names = sorted(stage.face.written.pop(partition, ()))
        with suppress(PlatformError):
            for start in range(0, len(names), stage.face.limits.max_batch):
                some = names[start : start + stage.face.limits.max_batch]
                stage.face.run(stage.face.backend.backend.delete_many(partition, some))


__all__ = [
    "HARMLESS",
    "NAMES",
    "NUMBER",
    "TAG",
    "UNLIKE",
    "IsolationHarness",
    "Scene",
    "Stage",
    "set_up",
]
