"""The limiter of a token: no window of its period ever holds more requests than it may."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_platform.cloudflare.limiter import Limiter
from cm_platform.cloudflare.record import LocalRecord, Record
from cm_platform.errors import ConfigInvalidError, RateLimitedError
from cm_platform.runtime import BlockingRuntime, drive

from .doubles import Face, FakeClock, SharedClock


def limiter(face: Face, clock: FakeClock, record: Record | None = None, **how: Any) -> Limiter:
    figures = {"max_requests": 3, "period": 10.0, **how}
    return Limiter(record or LocalRecord(), face.runtime(clock), **figures)


def request(
    face: Face,
    limited: Limiter,
    patience: float = 0.0,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    ticket = face.run(limited.admit(patience))
    face.run(limited.ended(ticket, status, httpx.Headers(headers or {})))


def refused(face: Face, limited: Limiter, patience: float = 0.0) -> RateLimitedError:
    with pytest.raises(RateLimitedError) as caught:
        face.run(limited.admit(patience))
    error = caught.value
    assert (error.retryable, error.not_sent) == (True, True)
    return error


def most_in_a_window(arrivals: list[float], period: float) -> int:
    """The most that any window [t, t + period) holds."""
    ordered = sorted(arrivals)
    most = first = 0
    for last, arrival in enumerate(ordered):
        while ordered[first] <= arrival - period:
            first += 1
        most = max(most, last - first + 1)
    return most


@settings(deadline=None, max_examples=60)
@given(
    cap=st.integers(1, 8),
    period=st.sampled_from([0.5, 10.0, 300.0]),
    plans=st.lists(
        st.lists(
            # The share of the period between two requests, that one takes, and of its time on
            # the way that has passed when it is counted.
            st.tuples(st.floats(0, 0.5), st.floats(0, 1.5), st.floats(0, 1)),
            max_size=12,
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_no_window_ever_holds_more_than_the_cap(
    cap: int, period: float, plans: list[list[tuple[float, float, float]]]
) -> None:
    clock = SharedClock(len(plans))
    limited = Limiter(
        LocalRecord(),
        BlockingRuntime(clock=clock),
        max_requests=cap,
        period=period,
        in_flight=7200,
    )
    arrivals: list[float] = []
    failures: list[Exception] = []

    def work(plan: list[tuple[float, float, float]]) -> None:
        try:
            for pause, takes, counted in plan:
                clock.sleep(pause * period)
                ticket = drive(limited.admit(1e9))
                clock.sleep(takes * period * counted)
                arrivals.append(clock.monotonic())
                clock.sleep(takes * period * (1 - counted))
                drive(limited.ended(ticket))
        except Exception as error:  # noqa: BLE001 - shown by the test
            failures.append(error)
        finally:
            clock.leave()

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(arrivals) == sum(map(len, plans))
    assert most_in_a_window(arrivals, period) <= cap


def test_the_whole_cap_may_be_used_at_once_and_again_after_the_period(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    for _ in range(3):
        for _ in range(3):
            request(face, limited)
        assert refused(face, limited).retry_after == pytest.approx(10.0, rel=0.01)
        clock.move(10.02)


def test_the_boundary_of_a_window_lets_no_double_amount_through(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    request(face, limited)
    clock.move(9.9)
    request(face, limited)
    request(face, limited)
    clock.move(0.2)
    request(face, limited)
    assert refused(face, limited).retry_after == pytest.approx(9.81, abs=0.02)


def test_a_request_counts_from_when_it_ended(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock, max_requests=1)
    ticket = face.run(limited.admit(0))
    clock.move(8)
    face.run(limited.ended(ticket))
    clock.move(9)
    refused(face, limited)


def test_a_request_that_never_ends_counts_as_one_whose_process_died(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock, max_requests=1, in_flight=30.0)
    face.run(limited.admit(0))
    clock.move(29)
    assert refused(face, limited).retry_after == pytest.approx(10.01)
    clock.move(11)
    assert refused(face, limited).retry_after == pytest.approx(0.01)
    clock.move(0.02)
    request(face, limited)


def test_a_turn_within_patience_is_waited_for(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock, max_requests=1)
    request(face, limited)
    request(face, limited, patience=11.0)
    assert sum(clock.slept) == pytest.approx(10.01)


def test_a_turn_beyond_patience_is_refused_at_once(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock, max_requests=1)
    request(face, limited)
    error = refused(face, limited, patience=9.0)
    assert error.retry_after == pytest.approx(10.01)
    assert not clock.slept


def test_after_a_429_all_stand_still_until_retry_after(face: Face) -> None:
    clock = FakeClock()
    record = LocalRecord()
    limited, other = limiter(face, clock, record), limiter(face, clock, record)
    request(face, limited, status=429, headers={"retry-after": "300"})
    for each in (limited, other):
        assert refused(face, each, patience=299.0).retry_after == pytest.approx(300)
    clock.move(300.1)
    request(face, other)


def test_a_429_without_a_time_stops_all_for_a_moment(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    request(face, limited, status=429)
    assert refused(face, limited).retry_after == pytest.approx(1.0)


def test_a_later_answer_does_not_shorten_the_stand_still(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    first, second = face.run(limited.admit(0)), face.run(limited.admit(0))
    face.run(limited.ended(first, 429, httpx.Headers({"retry-after": "300"})))
    face.run(limited.ended(second, 429, httpx.Headers({"retry-after": "2"})))
    assert refused(face, limited).retry_after == pytest.approx(300)


def test_an_absurd_retry_after_is_bounded(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    request(face, limited, status=429, headers={"retry-after": "9" * 30})
    assert refused(face, limited).retry_after == pytest.approx(86_400)


POLICY = '"burst";q=50;w=1, "default";q=3;w=10'


def test_a_rate_that_is_used_up_is_not_asked_for(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    request(face, limited, headers={"ratelimit": '"default";r=0;t=42'})
    assert refused(face, limited).retry_after == pytest.approx(42)


def test_what_others_used_of_the_rate_is_counted(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    said = {"ratelimit-policy": POLICY, "ratelimit": '"default";r=1;t=5, "burst";r=3;t=1'}
    request(face, limited, headers=said)
    request(face, limited)
    refused(face, limited)
    clock.move(10.1)
    for _ in range(3):
        request(face, limited)


def test_another_policys_rate_is_not_taken_for_the_tokens(face: Face) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    request(face, limited, headers={"ratelimit-policy": POLICY, "ratelimit": '"burst";r=1;t=1'})
    request(face, limited)
    request(face, limited)


@pytest.mark.parametrize("nonsense", ["", ";;;", '"default"', "r=1;t=1", '"default";r=x;t=y', ","])
def test_a_header_that_cannot_be_read_changes_nothing(face: Face, nonsense: str) -> None:
    clock = FakeClock()
    limited = limiter(face, clock)
    for _ in range(3):
        request(face, limited, headers={"ratelimit-policy": nonsense, "ratelimit": nonsense})


@pytest.mark.parametrize("figures", [(0, 1.0), (5000, 1.0), (1, 0.0)])
def test_figures_that_cannot_be_kept_are_refused(figures: tuple[int, float]) -> None:
    with pytest.raises(ConfigInvalidError):
        Limiter(LocalRecord(), BlockingRuntime(), max_requests=figures[0], period=figures[1])
