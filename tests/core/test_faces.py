"""The sync face says what the async one says."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from cm_platform.storage.reading import AsyncStoredObject
from cm_platform.storage.service import AsyncStorage
from cm_platform.storage.sync import Storage, StoredObject

ROOT = Path(__file__).parents[2]
CONTEXT = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
PAIRS = [(AsyncStorage, Storage), (AsyncStoredObject, StoredObject)]

both = pytest.mark.parametrize(
    ("asynchronous", "synchronous"), PAIRS, ids=lambda face: face.__name__
)


def test_the_committed_face_is_the_generated_one() -> None:
    ended = subprocess.run(
        [sys.executable, "scripts/generate_faces.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def public(face: type) -> dict[str, object]:
    return {
        CONTEXT.get(name, name): member
        for name, member in vars(face).items()
        if name in CONTEXT or name in CONTEXT.values() or not name.startswith("_")
    }


@both
def test_both_faces_have_the_same_methods(asynchronous: type, synchronous: type) -> None:
    assert sorted(public(asynchronous)) == sorted(public(synchronous))


@both
def test_methods_have_the_same_parameters_and_defaults(
    asynchronous: type, synchronous: type
) -> None:
    ours = public(synchronous)
    for name, member in public(asynchronous).items():
        if inspect.isfunction(member):
            twin = ours[name]
            assert inspect.isfunction(twin), name
            assert [
                (p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()
            ] == [(p.name, p.kind, p.default) for p in inspect.signature(twin).parameters.values()]


@both
def test_nothing_in_the_sync_face_has_to_be_awaited(asynchronous: type, synchronous: type) -> None:
    for name, member in public(synchronous).items():
        assert not inspect.iscoroutinefunction(member), name
        assert not inspect.isasyncgenfunction(member), name
        text = inspect.getdoc(member) or ""
        assert "await" not in text, name
        assert "Async" not in text, name


@both
def test_everything_public_is_documented(asynchronous: type, synchronous: type) -> None:
    for face in (asynchronous, synchronous):
        for name, member in public(face).items():
            if inspect.isfunction(member) or isinstance(member, property):
                assert inspect.getdoc(member), f"{face.__name__}.{name}"
