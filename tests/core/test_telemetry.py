"""Spans and metrics where somebody looks, nothing elsewhere, and logs that keep secrets."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cm_platform import telemetry
from cm_platform.errors import NotFoundError, UnsupportedError
from cm_platform.executor import Executor
from cm_platform.redaction import RedactingFilter, redact
from cm_platform.telemetry import observing

from .doubles import READ, WRITE, Caller, Face, ForbiddenError, LostError

CANARY = "CANARY7f3a9"


class Seen:
    """What an application's SDK has recorded."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    @property
    def points(self) -> list[Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    # The API lets providers be set once per process: here they are put in place and taken away.
    recorded = Seen()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.tracers)
    monkeypatch.setattr(metrics_internal, "_METER_PROVIDER", recorded.meters)
    telemetry._tracer.cache_clear()
    telemetry._duration.cache_clear()
    yield recorded
    recorded.tracers.shutdown()
    recorded.meters.shutdown()
    telemetry._tracer.cache_clear()
    telemetry._duration.cache_clear()


ASKED = {
    "cm_platform.service": "storage",
    "cm_platform.operation": "get",
    "cm_platform.backend": "scripted",
}


def test_without_an_sdk_nobody_is_observing(face: Face) -> None:
    assert trace is not None
    assert metrics is not None
    assert not observing()
    assert Caller(face, "answer").run() == "answer"


QUIET = """
import sys
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import Operation
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.runtime import BlockingRuntime, drive

class Backend:
    capabilities = frozenset()
    def translate(self, error): return None
    async def get(self): return "answer"

class Fixed:
    def current(self): return endpoint

runtime = BlockingRuntime()
endpoint = Endpoint("b", Backend(), runtime, policy=RetryPolicy(), timeout=1.0,
                    breaker=CircuitBreaker(runtime.clock))
call = Executor("storage", Fixed()).run(Operation("storage", "get", "read"), lambda b: b.get())
heavy = ("opentelemetry", "tenacity", "asyncio")
print(drive(call), *(name for name in heavy if name in sys.modules))
"""


def test_without_an_sdk_nothing_is_imported() -> None:
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout == "answer\n"


def test_a_call_is_a_client_span(face: Face, seen: Seen) -> None:
    assert Caller(face, "answer").run() == "answer"
    assert seen.span.name == "storage.get"
    assert seen.span.kind is SpanKind.CLIENT
    assert seen.span.attributes == ASKED
    assert seen.span.status.status_code is StatusCode.UNSET


def test_a_call_is_measured_on_the_runtimes_clock(face: Face, seen: Seen) -> None:
    caller = Caller(face, "answer")
    caller.backend.steps = [lambda: caller.clock.sleep(2.5)]
    caller.run()
    (point,) = seen.points
    assert dict(point.attributes) == ASKED
    assert (point.count, point.sum) == (1, 2.5)


def test_a_failure_is_on_the_span_by_its_code_alone(face: Face, seen: Seen) -> None:
    with pytest.raises(NotFoundError):
        Caller(face, NotFoundError(CANARY)).run()
    assert seen.span.attributes == {**ASKED, "error.type": "not_found", "cm_platform.attempts": 1}
    assert seen.span.status.status_code is StatusCode.ERROR
    assert seen.span.status.description == "not_found"
    assert seen.span.events == ()
    assert CANARY not in seen.span.to_json()
    (point,) = seen.points
    assert dict(point.attributes) == {**ASKED, "error.type": "not_found"}


def test_a_foreign_failure_leaves_no_text(face: Face, seen: Seen) -> None:
    caller = Caller(face, ForbiddenError(f"https://h/?X-Amz-Signature={CANARY}"))
    with pytest.raises(PermissionError):
        caller.run(WRITE)
    assert CANARY not in seen.span.to_json()


def test_what_is_unsupported_is_seen_too(face: Face, seen: Seen) -> None:
    with pytest.raises(UnsupportedError):
        Caller(face, "answer").run(READ, requires="flying")
    assert seen.span.attributes == {**ASKED, "error.type": "unsupported"}


def test_attempts_are_counted_in_one_span(face: Face, seen: Seen) -> None:
    Caller(face, LostError(), LostError(), "answer").run()
    assert seen.span.attributes == {**ASKED, "cm_platform.attempts": 3}
    assert [point.count for point in seen.points] == [1]


def test_a_cancellation_is_named(seen: Seen) -> None:
    caller = Caller(Face(True), asyncio.CancelledError())

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await caller.executor.run(READ, lambda backend: backend.call())

    asyncio.run(run())
    assert seen.span.attributes is not None
    assert seen.span.attributes["error.type"] == "CancelledError"


def test_the_tenant_is_on_the_span_when_it_is_configured_and_never_on_the_metric(
    face: Face, seen: Seen
) -> None:
    caller = Caller(face, "answer")
    caller.executor = Executor("storage", caller.route, labels={"cm_platform.tenant.id": "acme"})
    caller.run()
    caller.executor = caller.executor.with_timeout(3.0)
    caller.run()
    assert [span.attributes for span in seen.spans] == [
        {**ASKED, "cm_platform.tenant.id": "acme"}
    ] * 2
    assert [dict(point.attributes) for point in seen.points] == [ASKED]


def test_a_span_of_the_application_is_the_parent(face: Face, seen: Seen) -> None:
    with seen.tracers.get_tracer("app").start_as_current_span("request") as parent:
        Caller(face, "answer").run()
    call = next(span for span in seen.spans if span.name == "storage.get")
    assert call.parent is not None
    assert call.parent.span_id == parent.get_span_context().span_id


# Redaction --------------------------------------------------------------------------------

LEAKY = [
    "Authorization: Bearer {}",
    "authorization: AWS4-HMAC-SHA256 Credential=AKIA/2026, SignedHeaders=host, Signature={}",
    "AWS4-HMAC-SHA256 Credential=AKIA/2026, SignedHeaders=host, Signature={}",
    'Authorization: Digest username="u", realm="r", response="{}"',
    "Proxy-Authorization: Basic {}",
    "headers={{'Authorization': 'Bearer {}', 'Host': 'h'}}",
    'headers={{"authorization":"{}"}}',
    '"{{\\"Authorization\\": \\"{}\\"}}"',
    "[(b'Authorization', b'{}'), (b'Host', b'h')]",
    "[(b'Set-Cookie', b'sid={}; Path=/')]",
    'Cookie: a="b"; session={}',
    "X-Amz-Security-Token: {}",
    "X-Auth-Token: {}",
    "X-Auth-Key: {}",
    "x-api-key: {}",
    "CF-Access-Client-Secret: {}",
    "GET https://b.s3/k?X-Amz-Algorithm=A&X-Amz-Signature={}",
    "GET https://b.s3/k?X-Amz-Signature={}&X-Amz-Expires=60 200",
    "GET https://b.s3/k?X-Amz-Credential={}%2F2026&x=y",
    "GET https://b.s3/k?x=y&X-Amz-Security-Token={}",
    "GET https://b/k?AWSAccessKeyId=A&Signature={}&Expires=1",
    "GET https://b/k?X-Goog-Signature={}",
    "GET https://b/k?sv=1&sig={}",
    "GET https://b/k?token={}",
    "https://user:{}@host/path",
    "redis://:{}@host:6379/0",
    "postgresql://u:{}@host/db?sslmode=require",
    "could not connect: host=h password={} dbname=d",
    "password='{}' host=h",
    "aws_secret_access_key = {}",
    '{{"secret_access_key": "{}"}}',
    "{{'client_secret': '{}'}}",
    "api_token={}",
    "got bearer {} from cache",
]


@pytest.mark.parametrize("line", LEAKY)
def test_a_line_that_tells_a_secret_loses_it(line: str) -> None:
    clean = redact(line.format(CANARY))
    assert CANARY not in clean
    assert "[redacted]" in clean


@pytest.mark.parametrize("line", LEAKY)
@settings(max_examples=20)
@given(st.text(st.sampled_from("abcXYZ019+/=_-.~%"), min_size=1, max_size=30))
def test_no_secret_survives_in_a_known_place(line: str, text: str) -> None:
    assert CANARY not in redact(line.format(CANARY + text))


@pytest.mark.parametrize("line", [line for line in LEAKY if '"{}' in line or "'{}" in line])
def test_a_quote_within_a_quoted_secret_does_not_end_it(line: str) -> None:
    assert CANARY not in redact(line.format(f"x\\'y\\\"{CANARY}"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "storage.get on s3: there is no object of this key",
        "storage.backends.s3.secret_access_key: is missing",
        "GET https://b.s3/k?list-type=2&prefix=a%2F HTTP/1.1 200",
        "https://host:8443/path",
        "12:30:01 signing.keys.k1: is shorter than 32 characters",
        "the token was refused; the signature differs",
    ],
)
def test_a_line_without_a_secret_stays_as_it_is(line: str) -> None:
    assert redact(line) == line


def test_redaction_keeps_what_is_around() -> None:
    line = (
        f"GET https://b/k?x=1&X-Amz-Signature={CANARY}&y=2 took 5 ms\nAuthorization: {CANARY}\nend"
    )
    assert redact(line) == (
        "GET https://b/k?x=1&X-Amz-Signature=[redacted]&y=2 took 5 ms\n"
        "Authorization: [redacted]\nend"
    )


@given(st.text(max_size=200))
def test_redaction_takes_any_text_and_is_done_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "hostile",
    [
        *("a", "a.", "token", "://", "a://", "http://u:", "http://u:p<", "a:@", "authorization:'"),
        *("authorization ", "token='", "token=\\", 'secret_key\\"', "\\", "bearer "),
    ],
)
def test_redaction_of_a_long_line_is_quick(hostile: str) -> None:
    line = hostile * (200_000 // len(hostile))
    began = time.process_time()
    redact(line)
    # Less than a second; minutes, where each place in the line looks at all that follows.
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("http://u:p@ss/w@h/", "http://u:[redacted]@h/"),
        ("see http://h:80/ or <a://u:p@h>", "see http://h:80/ or <a://u:[redacted]@h>"),
        ("a://b://<u:p@h", "a://b://<u:[redacted]@h"),
        ("a://u:p@h b://v:q@i", "a://u:[redacted]@h b://v:[redacted]@i"),
        ("a://u:@h", "a://u:@h"),
        ("a://h:1/x,b://u:p@h", "a://h:[redacted]@h"),
    ],
)
def test_redaction_finds_passwords_in_urls(line: str, clean: str) -> None:
    assert redact(line) == clean


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("tests.leaky")
    redacting = RedactingFilter()
    made.addFilter(redacting)
    made.setLevel(logging.DEBUG)
    yield made
    made.removeFilter(redacting)


def test_the_filter_redacts_before_a_handler_sees_it(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.info("GET %s", f"https://h/?X-Amz-Signature={CANARY}")
    logger.info("plain %d", 7)
    assert [record.getMessage() for record in caplog.records] == [
        "GET https://h/?X-Amz-Signature=[redacted]",
        "plain 7",
    ]
    assert caplog.records[1].args == (7,)


def test_the_filter_redacts_exceptions(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise OSError(f"https://u:{CANARY}@h/")
    except OSError:
        logger.exception("failed")
    (record,) = caplog.records
    assert "OSError: https://u:[redacted]@h/" in caplog.text
    assert CANARY not in caplog.text
    assert record.exc_info is None


def test_the_filter_leaves_harmless_exceptions_to_the_handlers(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise OSError("plain")
    except OSError:
        logger.exception("failed")
    assert caplog.records[0].exc_info is not None


def test_a_wrong_call_to_the_logger_does_not_fail_its_caller(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.info("%d of %d", f"password={CANARY}")
    assert [record.getMessage() for record in caplog.records] == [
        "a log message could not be formatted"
    ]
