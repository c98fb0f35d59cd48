"""What a store, a tenant or another program may do to a migration, and what becomes of it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    InternalError,
    PlatformError,
    PreconditionFailedError,
)
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import (
    REVISION,
    SHA256,
    Attributes,
    BackendPage,
    ListedObject,
    ObjectInfo,
    Part,
)
from migration.doubles import ACT, QUARANTINE, SUBJECT, Process, Store, World

SECRET = "https://store.example/k?X-Amz-Signature=abc"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two local stores, a ledger in memory and a driven clock."""
    found = World(tmp_path)
    yield found
    found.close()


def write(process: Process, key: str, body: bytes) -> None:
    """As the service does: with a revision, and the digest of the bytes."""
    metadata = {REVISION: f"rev-{key}", SHA256: hashlib.sha256(body).hexdigest()}
    drive(process.storage.put(key, body, Attributes(metadata=metadata)))


def damage(store: Store, key: str, body: bytes) -> None:
    """Other bytes under all that was said of them, as a failing disk leaves them."""
    info = store.head_of(key)
    assert info is not None
    drive(store.inner.put(key, body, Attributes(info.content_type, metadata=info.metadata)))


# Verification -------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN])
def test_what_is_damaged_on_the_target_is_found_in_every_stage(world: World, stage: Stage) -> None:
    one = world.process()
    write(one, "k", b"good")
    one.to(stage)
    one.backfill()
    damage(world.target, "k", b"evil")
    found = one.verify()
    assert (found["clean"], [tuple(line) for line in found["differences"]]) == (
        False,
        [("k", "bytes")],
    )


def test_what_only_samples_have_passed_is_read_on_the_target_before_the_end(world: World) -> None:
    one = world.process()
    write(one, "k", b"good")
    one.to(Stage.SHADOW)
    damage(world.target, "k", b"evil")
    one.verify(sample=0.0)
    one.advance(Stage.LIVE)
    one.advance(Stage.RAMPDOWN)
    one.verify()
    with pytest.raises(PreconditionFailedError, match="not clean"):
        one.advance(Stage.COMPLETE)


class _Short:
    """A reply that ends early without saying so."""

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info

    async def read(self) -> bytes:
        return b""

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b""

    async def close(self) -> None:
        pass


def test_two_bodies_that_both_end_early_are_not_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world.process()
    world.source.write("theirs", b"no digest was recorded of this")
    one.to(Stage.SHADOW)

    for store in (world.source, world.target):
        info = store.head_of("theirs")
        assert info is not None

        async def short(*_: object, found: ObjectInfo = info, **__: object) -> _Short:
            return _Short(found)

        monkeypatch.setattr(store.inner, "get", short, raising=False)
    found = one.verify()
    assert not found["clean"]
    assert found["unread"] == 1


def test_metadata_that_is_carried_in_words_is_no_difference(world: World) -> None:
    one = world.process()
    world.source.write("theirs", b"x", note="caf\u00e9")
    one.to(Stage.LIVE)
    found = one.verify()
    assert (found["clean"], found["differences"]) == (True, [])
    one.advance(Stage.RAMPDOWN)
    one.advance(Stage.COMPLETE)


# Objects that nobody can keep a record of ---------------------------------------------------


@pytest.mark.parametrize("key", ["a\x00b", "a\ud800b"])
def test_a_key_that_no_ledger_can_keep_is_an_obstacle(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    one = world.process()
    info = ObjectInfo(key, 1, "etag")

    async def listed(*_: object, **__: object) -> BackendPage:
        return BackendPage([ListedObject(key, 1, "etag")])

    async def described(*_: object, **__: object) -> ObjectInfo:
        return info

    monkeypatch.setattr(world.source.inner, "list", listed, raising=False)
    monkeypatch.setattr(world.source.inner, "head", described, raising=False)
    with pytest.raises(PreconditionFailedError, match="obstacles"):
        one.start(accept_losses=True)


# Time that others take ----------------------------------------------------------------------


def _left(world: World) -> float:
    """Seconds until the first intent is due."""

    def first(db: sqlite3.Connection, now: float) -> float:
        [(due,)] = db.execute("SELECT min(due) FROM intents").fetchall()
        return float(due)

    due: float = world.ledger.inner._database.read(first)
    return due - world.clock.now


@pytest.mark.parametrize("stage", [Stage.DUALWRITE, Stage.LIVE])
def test_a_ledger_that_answers_too_late_gives_no_right_to_act(world: World, stage: Stage) -> None:
    one = world.process().to(stage)
    right, other = world.source, world.target
    if stage is Stage.LIVE:
        right, other = other, right
    left: list[float] = []
    right.after("put", lambda: world.clock.advance(ACT * 0.6))
    # It has counted from when it was asked; the answer comes when that time is over.
    world.ledger.after("extend", lambda: world.clock.advance(ACT))
    other.before("put", lambda: left.append(_left(world)), always=True)
    one.put("k", b"1")
    # Whatever is sent to the other side has the time that a request may live.
    assert left
    assert min(left) > QUARANTINE
    assert world.same()


def test_a_ledger_that_is_never_in_time_leaves_the_key_to_whoever_repairs(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    world.source.after("put", lambda: world.clock.advance(ACT * 0.6))
    world.ledger.after("extend", lambda: world.clock.advance(ACT), always=True)
    one.put("k", b"1")
    assert world.target.all() == {}
    assert world.keys_pending() == ["k"]
    world.ledger.calm()
    world.clock.advance(ACT + QUARANTINE)
    assert one.repair() == {}
    assert world.same()


@pytest.mark.parametrize("act", ["put", "delete", "copy", "complete"])
def test_a_look_at_an_etag_that_takes_too_long_ends_the_right_to_act(
    world: World, act: str
) -> None:
    one = world.process().to(Stage.SHADOW)
    etag = one.put("k", b"1")
    one.to(Stage.LIVE)
    world.target.calls.clear()
    upload = ""
    parts: list[Part] = []
    if act == "complete":
        upload = drive(one.storage.create_multipart("k", Attributes()))
        parts = [drive(one.storage.put_part("k", upload, 1, b"2"))]
    # The etag is the source's, so that both are looked at.
    world.source.after("head", lambda: world.clock.advance(ACT + QUARANTINE + 1))
    with pytest.raises(DeadlineExceededError) as caught:
        if act == "put":
            one.put("k", b"2", if_match=etag)
        elif act == "delete":
            one.delete("k", if_match=etag)
        elif act == "copy":
            drive(one.storage.copy("k", "copy", Attributes(), etag=etag))
        else:
            drive(one.storage.complete_multipart("k", upload, parts, if_match=etag))
    assert caught.value.not_sent
    assert not {"put", "delete", "copy", "complete_multipart"} & set(world.target.calls)
    assert world.target.all() == {"k": b"1"}


# What stores raise --------------------------------------------------------------------------


def _unknown() -> None:
    raise RuntimeError(SECRET)


def _told(error: BaseException | None) -> str:
    return "" if error is None else f"{error!s}{error!r}"


@pytest.mark.parametrize("method", ["head", "list", "put"])
def test_what_no_backend_can_explain_is_internal_and_tells_nothing(
    world: World, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = world.process()
    one.put("k", b"1")
    one.to(Stage.DUALWRITE)
    world.target.before(method, _unknown, always=True)
    with caplog.at_level("DEBUG"):
        try:
            body = one.backfill()
        except PlatformError as error:
            assert isinstance(error, InternalError)
            assert SECRET not in _told(error)
        else:
            assert body["skipped"] == 1
    skipped = drive(world.ledger.inner.skipped(SUBJECT, 10))
    assert SECRET not in str(skipped)
    assert SECRET not in caplog.text


def test_a_repair_goes_on_with_others_after_what_no_backend_can_explain(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    world.target.before("put", _unknown, always=True)
    one.put("a", b"1")
    one.put("b", b"2")
    one.runtime.drop()
    one.runtime.waiting.clear()
    world.target.calm()
    world.clock.advance(60.0)
    world.target.before("put", _unknown)
    assert list(one.repair()) == ["a"]
    assert world.target.all() == {"b": b"2"}


# Etags --------------------------------------------------------------------------------------


@pytest.mark.parametrize("etag", ["t-1", "s-1"])
def test_an_etag_that_looks_like_one_of_ours_comes_back_marked_whoever_tells_it(
    world: World, monkeypatch: pytest.MonkeyPatch, etag: str
) -> None:
    one = world.process().to(Stage.DUALWRITE)
    one.put("k", b"1")
    info = world.source.head_of("k")
    assert info is not None
    odd = ObjectInfo("k", 1, etag, metadata=info.metadata)

    async def get(*_: object, **__: object) -> _Short:
        return _Short(odd)

    async def head(*_: object, **__: object) -> ObjectInfo:
        return odd

    async def listed(*_: object, **__: object) -> BackendPage:
        return BackendPage([ListedObject("k", 1, etag)])

    for name, answer in (("get", get), ("head", head), ("list", listed)):
        monkeypatch.setattr(world.source.inner, name, answer, raising=False)
    told = one.head("k").etag
    assert told != etag
    assert drive(one.storage.get("k")).info.etag == told
    page = drive(one.storage.list("", delimiter=None, cursor=None, limit=10))
    assert [found.etag for found in page.objects] == [told]
