"""What FaultProxy does to boto3 and obstore, seen from the client and from the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from cm_platform.testing.servers import Endpoint, FaultProxy

from .clients import code_of, obstore_client
from .conftest import Connect


@pytest.fixture
def proxy(s3: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy.before(s3) as proxy:
        yield proxy


def test_without_faults_nothing_is_changed(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client, store = connect(proxy.endpoint(s3)), obstore_client(proxy.endpoint(s3))
    big = bytes(range(256)) * 8192
    client.put_object(Bucket=s3.bucket, Key="a b", Body=big)
    assert client.get_object(Bucket=s3.bucket, Key="a b")["Body"].read() == big
    assert client.head_object(Bucket=s3.bucket, Key="a b")["ContentLength"] == len(big)
    assert bytes(obstore.get(store, "a b").bytes()) == big
    client.delete_object(Bucket=s3.bucket, Key="a b")
    methods = [seen.method for seen in proxy.requests]
    assert methods == ["PUT", "GET", "HEAD", "GET", "DELETE"]
    assert {seen.path for seen in proxy.requests} == {f"/{s3.bucket}/a%20b"}


def test_a_lost_reply_leaves_the_effect_and_a_retry_meets_it(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client = connect(proxy.endpoint(s3), retries={"total_max_attempts": 3, "mode": "standard"})
    proxy.lose_reply(method="PUT")
    refused = code_of(
        lambda: client.put_object(Bucket=s3.bucket, Key="a", Body=b"1", IfNoneMatch="*")
    )
    assert refused == (412, "PreconditionFailed")
    assert proxy.forwarded(method="PUT") == 2
    assert connect(s3).get_object(Bucket=s3.bucket, Key="a")["Body"].read() == b"1"


def test_obstore_sees_a_lost_reply_as_an_error(proxy: FaultProxy, s3: Endpoint) -> None:
    store = obstore_client(proxy.endpoint(s3))
    proxy.lose_reply(method="PUT", times=10)
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.put(store, "a", b"1")
    assert proxy.forwarded(method="PUT") >= 1
    assert bytes(obstore.get(obstore_client(s3), "a").bytes()) == b"1"


@pytest.mark.parametrize("fault", ["refuse", "reset"])
def test_a_closed_connection_never_reaches_the_server(
    proxy: FaultProxy, s3: Endpoint, connect: Connect, fault: str
) -> None:
    client = connect(proxy.endpoint(s3))
    getattr(proxy, fault)(method="PUT")
    with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
        client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
    assert [seen.forwarded for seen in proxy.requests] == [False]
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
    assert proxy.forwarded() == 1


def test_a_server_that_is_down_refuses_connections_and_comes_back(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client = connect(proxy.endpoint(s3))
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
    with proxy.down(), pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        client.head_object(Bucket=s3.bucket, Key="a")
    client.head_object(Bucket=s3.bucket, Key="a")
    assert proxy.forwarded() == 2


def test_a_body_that_is_cut_short_is_noticed(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client = connect(proxy.endpoint(s3))
    client.put_object(Bucket=s3.bucket, Key="a", Body=bytes(1000))
    proxy.lose_reply_after(100, method="GET")
    reply = client.get_object(Bucket=s3.bucket, Key="a")
    with pytest.raises(ResponseStreamingError):
        reply["Body"].read()


def test_a_stall_lasts_until_it_is_released(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client = connect(proxy.endpoint(s3))
    stall = proxy.stall(method="PUT")
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(client.put_object, Bucket=s3.bucket, Key="a", Body=b"1")
        assert stall.hit()
        assert not pending.done()
        assert [seen.forwarded for seen in proxy.requests] == [False]
        stall.release()
        pending.result(5)
    assert proxy.forwarded() == 1


def test_a_stalled_reply_times_out_although_the_write_took_effect(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client = connect(proxy.endpoint(s3), read_timeout=0.2)
    proxy.stall(method="PUT", reached=True)
    with pytest.raises(ReadTimeoutError):
        client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
    assert connect(s3).head_object(Bucket=s3.bucket, Key="a")["ContentLength"] == 1


def test_a_delay_delays(proxy: FaultProxy, s3: Endpoint, connect: Connect) -> None:
    client = connect(proxy.endpoint(s3))
    proxy.delay(0.2)
    started = time.monotonic()
    client.list_objects_v2(Bucket=s3.bucket)
    assert time.monotonic() - started >= 0.2


def test_an_answer_of_its_own_for_the_next_two_matching_requests(
    proxy: FaultProxy, s3: Endpoint, connect: Connect
) -> None:
    client = connect(proxy.endpoint(s3))
    body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    headers = {"content-type": "application/xml", "retry-after": "1"}
    proxy.respond(
        503, headers, body, method="PUT", path=lambda path: path.endswith("/slow"), times=2
    )
    client.put_object(Bucket=s3.bucket, Key="fast")
    for _ in range(2):
        refused = code_of(lambda: client.put_object(Bucket=s3.bucket, Key="slow"))
        assert refused == (503, "SlowDown")
    client.put_object(Bucket=s3.bucket, Key="slow")
    assert proxy.forwarded(path=lambda path: path.endswith("/slow")) == 1
    assert proxy.forwarded() == 2
