"""What the network may do to a request, and what the caller is told, over both faces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cm_platform import (
    AlreadyExistsError,
    AmbiguousError,
    IntegrityError,
    InvalidArgumentError,
    PreconditionFailedError,
    Storage,
    Tenant,
    UnavailableError,
)
from cm_platform.errors import DeadlineExceededError, PlatformError
from cm_platform.runtime import drive
from cm_platform.testing.faces import FACES, Face
from cm_platform.testing.servers import Endpoint, FaultProxy, S3Server

from .s3_faces import opened, s3_config

pytestmark = pytest.mark.xdist_group("s3-faults")

MIB = 1024 * 1024
TENANT = Tenant("acme")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket(server: S3Server) -> Endpoint:
    return server.new_bucket()


@pytest.fixture
def proxy(bucket: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy.before(bucket) as proxy:
        yield proxy


def table(endpoint: Endpoint, **more: object) -> dict[str, object]:
    return {
        "driver": "s3",
        "bucket": endpoint.bucket,
        "endpoint": endpoint.url,
        "region": endpoint.region,
        "access_key_id": endpoint.access_key_id,
        "secret_access_key": endpoint.secret_access_key,
        **more,
    }


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, bucket: Endpoint, proxy: FaultProxy) -> Iterator[Face]:
    backend = table(proxy.endpoint(bucket), read_timeout=1.0)
    with Face(request.param, "storage", backend, layout="{tenant}/{key}") as face:
        yield face


@pytest.fixture
def storage(face: Face) -> Storage:
    found: Storage = face.get_service(TENANT)
    return found


@pytest.fixture
def witness(bucket: Endpoint) -> Iterator[Storage]:
    """The same bucket without the proxy: what really is there."""
    with Face("sync", "storage", table(bucket), layout="{tenant}/{key}") as face:
        yield face.get_service(TENANT)


def ends_with(name: str) -> object:
    return lambda path: path.endswith(name)


def test_a_create_whose_reply_was_lost_succeeds(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    proxy.lose_reply(method="PUT")
    info = storage.put("k", b"mine", if_none_match="*")
    assert witness.head("k").revision == info.revision
    assert witness.head("k").etag == info.etag
    # Not sent again: a look at the revision told whose object it was.
    assert proxy.forwarded(method="PUT") == 1


def test_a_replace_whose_reply_was_lost_is_no_false_conflict(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    first = witness.put("k", b"old")
    proxy.lose_reply(method="PUT")
    info = storage.put("k", b"new", if_match=first.etag)
    assert witness.get("k").read() == b"new"
    assert witness.head("k").revision == info.revision


def test_a_create_whose_reply_and_whose_look_were_lost_is_no_false_conflict(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    proxy.lose_reply(method="PUT")
    proxy.refuse(method="HEAD")
    info = storage.put("k", b"mine", if_none_match="*")
    assert witness.head("k").revision == info.revision
    # Sent twice: the second met the first's success, and the revision told whose it was.
    assert proxy.forwarded(method="PUT") == 2


def test_a_put_that_landed_is_not_sent_again_over_what_others_built_upon_it(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    proxy.lose_reply(method="PUT")
    info = storage.put("k", b"mine")
    assert proxy.forwarded(method="PUT") == 1
    witness.put("k", b"built upon it", if_match=info.etag)
    assert storage.get("k").read() == b"built upon it"


def test_a_delete_that_landed_is_not_sent_again_over_a_new_object(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    witness.put("k", b"old")
    proxy.lose_reply(method="DELETE")
    storage.delete("k")
    assert proxy.forwarded(method="DELETE") == 1
    assert not witness.exists("k")


def test_a_true_conflict_stays_a_conflict(storage: Storage, witness: Storage) -> None:
    witness.put("k", b"theirs")
    with pytest.raises(AlreadyExistsError):
        storage.put("k", b"mine", if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        storage.put("k", b"mine", if_match="0" * 32)
    assert witness.get("k").read() == b"theirs"


def test_a_lost_reply_followed_by_another_writer_is_ambiguous(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    first = witness.put("k", b"old")
    proxy.lose_reply(method="PUT")
    overwritten: list[str] = []

    def overwrite(path: str) -> bool:
        # Asked when we look what became of our write: meanwhile somebody else replaced it.
        overwritten.append(witness.put("k", b"theirs").etag)
        return False

    proxy.delay(0, method="HEAD", path=overwrite)
    with pytest.raises(AmbiguousError) as caught:
        storage.put("k", b"mine", if_match=first.etag)
    assert overwritten
    assert caught.value.code == "ambiguous"
    assert not caught.value.retryable
    assert witness.get("k").read() == b"theirs"


def test_a_write_that_timed_out_and_landed_is_a_success(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    stalled = proxy.stall(method="PUT", reached=True)
    info = storage.put("k", b"mine")
    stalled.release()
    assert witness.head("k").revision == info.revision
    assert proxy.forwarded(method="PUT") == 1  # never sent again: it was still under way


def test_a_write_that_timed_out_and_is_not_to_be_seen_is_ambiguous(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    stalled = proxy.stall(method="PUT")
    with pytest.raises(AmbiguousError):
        storage.put("k", b"mine")
    stalled.release()
    assert proxy.forwarded(method="PUT") <= 1


def test_a_conditional_delete_whose_reply_was_lost_is_ambiguous(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    info = witness.put("k", b"old")
    proxy.lose_reply(method="DELETE")
    with pytest.raises(AmbiguousError):
        storage.delete("k", if_match=info.etag)
    assert proxy.forwarded(method="DELETE") == 1


def test_a_plain_delete_whose_reply_was_lost_is_repeated(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    witness.put("k", b"old")
    proxy.lose_reply(method="DELETE")
    storage.delete("k")
    assert not witness.exists("k")


def test_a_refused_connection_is_retried_whatever_the_operation(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    info = witness.put("k", b"old")
    proxy.respond(503, {}, b"<Error><Code>SlowDown</Code></Error>", method="DELETE")
    storage.delete("k", if_match=info.etag)
    assert not witness.exists("k")


def test_an_outage_is_unavailable_and_not_retryable_any_more(
    storage: Storage, proxy: FaultProxy
) -> None:
    with proxy.down(), pytest.raises(UnavailableError) as caught:
        storage.get("k")
    assert not caught.value.retryable
    with proxy.down(), pytest.raises(UnavailableError):
        storage.put("k", b"")  # nothing was sent: there is no doubt


@pytest.mark.parametrize("size", [200_000, 3 * MIB, 20 * MIB])
@pytest.mark.parametrize("cut", [0, 70_000])
def test_a_download_cut_in_the_middle_is_resumed_and_whole(
    storage: Storage, witness: Storage, proxy: FaultProxy, size: int, cut: int
) -> None:
    body = os.urandom(size)
    witness.put("k", body, part_size=32 * MIB)
    proxy.lose_reply_after(cut, method="GET", times=2)
    assert storage.get("k").read() == body
    proxy.lose_reply_after(cut, method="GET", times=2)
    assert b"".join(storage.get("k").chunks()) == body


def test_a_range_cut_in_the_middle_is_resumed(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    body = os.urandom(MIB)
    witness.put("k", body)
    for start, length in ((1000, 500_000), (-500_000, None)):
        proxy.lose_reply_after(100_000, method="GET")
        expected = body[start:][:length]
        assert b"".join(storage.get("k", start=start, length=length).chunks()) == expected


def test_a_download_whose_object_was_replaced_meanwhile_is_never_mixed(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    witness.put("k", os.urandom(5 * MIB))
    proxy.lose_reply_after(200_000, method="GET")
    stored = storage.get("k")
    witness.put("k", os.urandom(5 * MIB))
    with pytest.raises(PreconditionFailedError):
        stored.read()


def test_a_failed_part_is_repeated_by_itself(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    body = os.urandom(20 * MIB)
    proxy.lose_reply(method="PUT", times=2)
    storage.put("k", body, part_size=5 * MIB)
    assert witness.get("k").read() == body
    assert proxy.forwarded(method="PUT") == 6  # four parts, two of them twice


def test_a_completion_whose_reply_was_lost_succeeds(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    body = os.urandom(11 * MIB)
    completions: list[str] = []

    def second_post(path: str) -> bool:
        completions.append(path)
        return len(completions) == 2  # the first begins the upload

    proxy.lose_reply(method="POST", path=second_post)
    info = storage.put("k", body, part_size=5 * MIB, if_none_match="*")
    assert witness.head("k").revision == info.revision
    assert witness.get("k").read() == body


def test_an_upload_that_fails_leaves_nothing_behind(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    proxy.respond(403, {}, b"<Error><Code>AccessDenied</Code></Error>", method="PUT", times=1)
    with pytest.raises(PlatformError) as caught:
        storage.put("k", os.urandom(11 * MIB), part_size=5 * MIB)
    assert caught.value.code == "permission_denied"
    assert not witness.exists("k")
    assert proxy.forwarded(method="DELETE") == 1  # the upload was aborted


def test_a_read_that_is_never_answered_ends_at_its_deadline(
    storage: Storage, proxy: FaultProxy
) -> None:
    stalled = proxy.stall(method="GET", times=10)
    with pytest.raises((DeadlineExceededError, UnavailableError)):
        storage.with_timeout(2.5).get("k")
    stalled.release()


def test_a_server_that_ignores_a_range_is_found_out(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    head = {"etag": '"e"', "last-modified": "Mon, 23 Nov 2026 00:00:00 GMT"}
    proxy.respond(200, head, b"", method="GET", times=2)
    with pytest.raises(InvalidArgumentError):
        storage.get_range("k", -3)
    proxy.respond(200, head, b"the whole object", method="GET", times=2)
    with pytest.raises(IntegrityError):
        storage.get_range("k", 2, 3)


def _second_post(then: Callable[[], None]) -> Callable[[str], bool]:
    """Of an upload's POSTs the first begins it, and the second is to complete it."""
    posts: list[str] = []

    def is_second(path: str) -> bool:
        posts.append(path)
        if len(posts) == 2:
            then()
        return len(posts) == 2

    return is_second


CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code></Error>"


def test_an_upload_that_was_completed_in_spite_of_a_conflict_is_a_success(
    storage: Storage, bucket: Endpoint, native: Any, witness: Storage, proxy: FaultProxy
) -> None:
    def complete() -> None:
        [upload] = native.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
        which = {"Bucket": bucket.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        parts = [
            {"PartNumber": part["PartNumber"], "ETag": part["ETag"]}
            for part in native.list_parts(**which)["Parts"]
        ]
        native.complete_multipart_upload(**which, MultipartUpload={"Parts": parts})

    proxy.respond(409, {}, CONFLICT, method="POST", path=_second_post(complete))
    body = os.urandom(11 * MIB)
    info = storage.put("k", body, part_size=5 * MIB)
    assert witness.head("k").revision == info.revision
    assert witness.get("k").read() == body


def test_an_upload_that_is_gone_after_a_conflict_is_ambiguous_and_no_missing_object(
    storage: Storage, bucket: Endpoint, native: Any, witness: Storage, proxy: FaultProxy
) -> None:
    def abort() -> None:
        [upload] = native.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
        native.abort_multipart_upload(
            Bucket=bucket.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )

    for key in ("k", "taken"):
        witness.put("taken", b"theirs")
        proxy.respond(409, {}, CONFLICT, method="POST", path=_second_post(abort))
        with pytest.raises(AmbiguousError):
            storage.put(key, os.urandom(11 * MIB), part_size=5 * MIB)
        proxy.clear()
    assert not witness.exists("k")
    assert witness.get("taken").read() == b"theirs"


@pytest.fixture
def native(bucket: Endpoint) -> Iterator[Any]:
    """boto3's own client of the bucket, past the proxy."""
    backend = opened(s3_config(bucket))
    yield backend.native()
    drive(backend.close())


def _foreign(etag: str, **headers: str) -> dict[str, str]:
    """A reply's head as a store sends it that keeps others' headers as the UTF-8 they are."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "etag": f'"{etag}"',
        "last-modified": "Mon, 23 Nov 2026 00:00:00 GMT",
        **{name: value.encode().decode("latin-1") for name, value in sent.items()},
    }


def test_a_copy_keeps_the_metadata_of_others_that_is_not_ascii(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    etag = witness.put("k", b"x").etag
    head = _foreign(etag, x_amz_meta_author="Zo\u00eb \u20ac", x_amz_meta_plain="a b")
    proxy.respond(200, head, times=2, path=lambda path: path.endswith("/k"))
    assert storage.copy("k", "copy").metadata == {"author": "Zo\u00eb \u20ac", "plain": "a b"}
    assert witness.head("copy").metadata == {"author": "Zo\u00eb \u20ac", "plain": "a b"}


def test_a_copy_refuses_a_header_that_it_could_not_carry_before_it_writes(
    storage: Storage, witness: Storage, proxy: FaultProxy
) -> None:
    etag = witness.put("k", b"x").etag
    head = _foreign(etag, content_disposition='inline; filename="\u00e9.pdf"')
    proxy.respond(200, head, times=2, path=lambda path: path.endswith("/k"))
    with pytest.raises(InvalidArgumentError, match="content_disposition"):
        storage.copy("k", "copy")
    assert proxy.forwarded(method="PUT") == 0
    assert not witness.exists("copy")


@pytest.mark.parametrize("key", ["plain", "not//plain"])
def test_an_answer_that_no_store_gave_is_no_success(
    storage: Storage, witness: Storage, proxy: FaultProxy, key: str
) -> None:
    # A login page on the way: 200, and no etag.
    proxy.respond(200, {}, b"", method="PUT")
    with pytest.raises(AmbiguousError):
        storage.put(key, b"mine")
    assert not witness.exists(key)
