"""One class per code, and errors that survive the trips that exceptions make."""

from __future__ import annotations

import copy
import json
import pickle
from typing import get_args

import pytest

from cm_platform import errors
from cm_platform.errors import ConfigInvalidError, ErrorCode, NotFoundError, PlatformError

CLASSES = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, PlatformError) and found is not PlatformError
]
PARENTS: dict[str, type[Exception]] = {
    "invalid_argument": ValueError,
    "not_found": LookupError,
    "already_exists": FileExistsError,
    "permission_denied": PermissionError,
    "unauthenticated": PermissionError,
    "unavailable": ConnectionError,
    "deadline_exceeded": TimeoutError,
    "unsupported": NotImplementedError,
    "config_invalid": ValueError,
    "internal": RuntimeError,
}

every = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.code)


def full(kind: type[PlatformError]) -> PlatformError:
    return kind(
        "the remedy",
        service="storage",
        backend="s3",
        operation="put",
        retryable=True,
        retry_after=2.5,
        not_sent=True,
    )


def test_every_code_has_exactly_one_class() -> None:
    assert sorted(kind.code for kind in CLASSES) == sorted(get_args(ErrorCode))


def test_every_class_is_exported_by_the_package() -> None:
    import cm_platform

    assert {kind.__name__ for kind in CLASSES} <= set(cm_platform.__all__)


@every
def test_an_error_is_the_builtin_that_a_python_programmer_would_catch(
    kind: type[PlatformError],
) -> None:
    parent = PARENTS.get(kind.code)
    if parent is not None:
        with pytest.raises(parent):
            raise full(kind)
    else:
        assert kind.__bases__ == (PlatformError,)


@every
def test_text_says_where_and_what(kind: type[PlatformError]) -> None:
    error = full(kind)
    assert str(error) == "storage.put on s3: the remedy"
    assert repr(error) == f"{kind.__name__}('storage.put on s3: the remedy')"
    assert str(kind("alone")) == "alone"
    assert str(kind("m", backend="s3")) == "s3: m"
    assert str(kind("m", service="storage")) == "storage: m"


@every
def test_to_dict_is_json_ready(kind: type[PlatformError]) -> None:
    told = full(kind).to_dict()
    assert json.loads(json.dumps(told)) == told
    problems = {"problems": ["the remedy"]} if kind is ConfigInvalidError else {}
    assert told == problems | {
        "code": kind.code,
        "message": "the remedy",
        "service": "storage",
        "backend": "s3",
        "operation": "put",
        "retryable": True,
        "retry_after": 2.5,
    }


@every
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[PlatformError], protocol: int) -> None:
    error = full(kind)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - made on the line itself
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert (str(again), again.args) == (str(error), error.args)


@every
def test_an_error_survives_copying(kind: type[PlatformError]) -> None:
    error = full(kind)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert vars(again) == vars(error)


@every
def test_defaults_promise_nothing(kind: type[PlatformError]) -> None:
    error = kind("m")
    assert (error.retryable, error.retry_after, error.not_sent) == (False, None, False)
    assert (error.service, error.backend, error.operation) == (None, None, None)


def test_text_carries_nothing_of_the_cause() -> None:
    cause = ValueError("https://u:CANARY@h/?X-Amz-Signature=CANARY")
    error = NotFoundError("gone", service="storage")
    error.__cause__ = cause
    assert "CANARY" not in f"{error} {error!r} {error.to_dict()} {error.args}"


def test_nothing_but_the_documented_can_be_put_into_an_error() -> None:
    with pytest.raises(TypeError):
        NotFoundError("m", url="https://h/?signature=x")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        NotFoundError("m", "storage")  # type: ignore[call-arg]
