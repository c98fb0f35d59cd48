"""What every suite of storage needs: one fixture of yours, and a store of its own per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import pytest

from cm_platform.errors import InvalidArgumentError, PlatformError
from cm_platform.storage.backend import StorageCapability, StorageLimits
from cm_platform.tenant import DEFAULT_LAYOUT, Layout, Scope, Tenant
from cm_platform.testing.faces import FACES, Face

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

# More than one part is worth testing without moving much.
_SMALL_PART = 64 * 1024


class StorageFace(Face):
    """A storage backend behind one face of a platform; remembers the tenants that it served."""

    def __init__(
        self, name: str, backend_table: Mapping[str, Any], *, layout: str, **options: Any
    ) -> None:
        super().__init__(name, "storage", backend_table, layout=layout, **options)
        self.layout = Layout(layout)
        self.tenants: set[Tenant] = set()

    def storage(self, tenant: Tenant | None = None) -> Storage:
        """The tenant's storage; a new tenant's, which is empty, by default."""
        tenant = tenant or Tenant(str(uuid4()), site_id="site")
        self.tenants.add(tenant)
        found: Storage = self.get_service(tenant)
        return found

    def physical(self, storage: Storage, key: str) -> str:
        """The key as the store knows it."""
        return Scope(storage.tenant, self.layout).key(key)

    @property
    def limits(self) -> StorageLimits:
        """The backend's."""
        found: StorageLimits = self.backend.limits
        return found

    @property
    def part_size(self) -> int:
        """Bytes: small, and allowed by the backend."""
        return max(self.limits.min_part, _SMALL_PART)

    def clear(self) -> None:
        """Remove what the tenants that it served have stored."""
        while self.tenants:
            storage = self.get_service(self.tenants.pop())
            storage.delete_many([listed.key for listed in storage.list()])


class StorageHarness:
    """Subclass a suite in your tests, and say in the fixture `storage_backend` what is tested.

        @pytest.fixture(scope="module")
        def storage_backend() -> Mapping[str, Any]:
            return {"driver": "mine", "path": ...}

        class TestMine(StorageConformance): ...

    storage_backend: the backend's table, as in `[storage.backends.<name>]`; "driver" may be the
        descriptor itself of a backend that has no entry point. Its scope is "class" or wider.
        The store need not be empty: each test has a tenant of its own, and what it stored is
        removed in the end.
    layout: of physical keys.
    examples: that Hypothesis tries per property; fewer for a store that is slow.
    many_keys: that one `delete_many` is given: more than a batch; fewer for a store that is slow.
    disposable: the store is thrown away after the tests, so nothing is removed.
    """

    layout: ClassVar[str] = DEFAULT_LAYOUT
    examples: ClassVar[int] = 40
    many_keys: ClassVar[int] = 1010
    disposable: ClassVar[bool] = False

    @pytest.fixture(scope="class", params=FACES)
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, storage_backend: Mapping[str, Any]
    ) -> Iterator[StorageFace]:
        """The backend behind the sync and the async face; shared by the class's tests."""
        with StorageFace(request.param, storage_backend, layout=cls.layout) as face:
            yield face
            if not cls.disposable:
                face.clear()

    @pytest.fixture
    def storage(self, face: StorageFace) -> Storage:
        """The empty storage of a new tenant."""
        return face.storage()


def need(storage: Storage, capability: StorageCapability) -> None:
    """Skip the test on a backend that does not declare the capability."""
    if capability not in storage.capabilities():
        pytest.skip(f"the backend does not declare {capability}")


def refused(face: StorageFace, act: Callable[..., Any], *args: Any, **kwargs: Any) -> PlatformError:
    """Make a call that must be an `invalid_argument` and never reach the backend."""
    face.calls.clear()
    with pytest.raises(InvalidArgumentError) as caught:
        act(*args, **kwargs)
    assert not face.calls, f"reached the backend: {face.calls}"
    return caught.value


class Seen(list[tuple[int, "int | None"]]):
    """A progress callback that keeps what it was told."""

    def __call__(self, done: int, total: int | None) -> None:
        self.append((done, total))

    def check(self, size: int) -> None:
        """It rose, and came to the end."""
        done = [bytes_done for bytes_done, _ in self]
        assert done == sorted(set(done))
        assert done[-1] == size


def pattern(size: int) -> bytes:
    """Bytes that are nowhere alike, so that parts in the wrong order show."""
    words = (number.to_bytes(4, "big") for number in range(-(-size // 4)))
    return b"".join(words)[:size]


__all__ = ["Seen", "StorageFace", "StorageHarness", "need", "pattern", "refused"]
