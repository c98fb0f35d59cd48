"""Spans and metrics through the OpenTelemetry API.

Only the API is used: an application that installs no SDK pays one comparison per call. The
tenant is no attribute unless the configuration asks for it: ids are personal data to many, and
a label with a million values ruins a metrics store.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from .errors import PlatformError
from .operation import Operation

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Tracer

SCOPE_NAME: Final = "cm_platform"

_BOUNDARIES: Final = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0]


def observing() -> bool:
    """Whether anybody would see a span or a metric.

    An application that records has imported the API and set a provider; without either there
    is nothing to ask, and nothing to import (36 ms).
    """
    trace = sys.modules.get("opentelemetry.trace")
    metrics = sys.modules.get("opentelemetry.metrics._internal")
    # The providers that applications set; the proxies that the API returns before that would
    # have to be called to be told apart from them, at 5 us a call.
    return (trace is not None and getattr(trace, "_TRACER_PROVIDER", trace) is not None) or (
        metrics is not None and getattr(metrics, "_METER_PROVIDER", metrics) is not None
    )


@contextmanager
def observed(
    operation: Operation, backend: str, labels: Mapping[str, str] | None, clock: Any
) -> Generator[dict[str, Any], None, None]:
    """A client span and a duration measurement around one operation.

    labels: of the tenant; put on the span, never on the metric.
    Yields a dictionary for what is only known later: "attempts", and whatever else is a
    scalar becomes a span attribute of the name `cm_platform.<name>`.
    """
    from opentelemetry.trace import SpanKind, Status, StatusCode

    attributes: dict[str, Any] = {
        "cm_platform.service": operation.service,
        "cm_platform.operation": operation.name,
        "cm_platform.backend": backend,
    }
    started = clock.monotonic()
    details: dict[str, Any] = {}
    with _tracer().start_as_current_span(
        operation.span_name,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        # Messages of SDK errors, which an exception event would carry, are not ours to publish.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        if labels:
            span.set_attributes(labels)
        try:
            yield details
        except BaseException as error:
            code = error.code if isinstance(error, PlatformError) else type(error).__name__
            attributes["error.type"] = code
            span.set_attribute("error.type", code)
            span.set_status(Status(StatusCode.ERROR, code))
            raise
        finally:
            for name, value in details.items():
                span.set_attribute(f"cm_platform.{name}", value)
            _duration().record(clock.monotonic() - started, attributes)


@cache
def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer(SCOPE_NAME)


@cache
def _duration() -> Histogram:
    from opentelemetry import metrics

    return metrics.get_meter(SCOPE_NAME).create_histogram(
        "cm_platform.client.operation.duration",
        unit="s",
        description="Duration of operations, retries included",
        # Those of OpenTelemetry's semantic conventions for client durations, and a minute.
        explicit_bucket_boundaries_advisory=_BOUNDARIES,
    )


__all__ = ["observed", "observing"]
