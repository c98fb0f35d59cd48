"""What of a described object a write can carry on."""

from __future__ import annotations

import pytest

from cm_platform.errors import InvalidArgumentError
from cm_platform.storage.attributes import attributes_of
from cm_platform.storage.backend import Attributes, ObjectInfo
from cm_platform.storage.keys import decode_metadata

HEADERS = {
    "content_type": "text/plain",
    "cache_control": "no-store",
    "content_disposition": "inline",
    "content_encoding": "gzip",
    "content_language": "fr",
}


def info(headers: dict[str, str], metadata: dict[str, str]) -> ObjectInfo:
    return ObjectInfo("key", 1, "etag", metadata=metadata, **headers)  # type: ignore[arg-type]


def test_headers_and_metadata_are_carried_with_the_revision() -> None:
    metadata = {"cm-rev": "0" * 32, "a": "b", "word": "=?UTF-8?B?w6k=?="}
    assert attributes_of(info(HEADERS, metadata)) == Attributes(**HEADERS, metadata=metadata)


def test_what_was_not_told_is_not_said() -> None:
    assert attributes_of(ObjectInfo("key", 1, "etag")) == Attributes()


def test_a_foreign_value_that_is_not_ascii_goes_as_a_word_that_reads_the_same() -> None:
    carried = attributes_of(info({}, {"title": "été", "foo_bar": "x"}))
    assert carried.metadata == {"title": "=?UTF-8?B?w6l0w6k=?=", "foo_bar": "x"}
    assert decode_metadata(carried.metadata)[0] == {"title": "été", "foo_bar": "x"}
    # What was carried once is carried on unchanged.
    assert attributes_of(info({}, dict(carried.metadata))) == carried


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_not_ascii_is_an_invalid_argument(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        attributes_of(info({**HEADERS, name: "été"}, {}))
    assert "été" not in str(caught.value)
