from typing import Any

import pytest

from coordinator.core import rates as module
from coordinator.core.figures import percentile_ms
from coordinator.core.handler import Handler
from coordinator.core.rates import RUNS_MIN, SAMPLE_MS, WINDOW_MS, Pace, Rate, Rates
from protocol.messages import State

NOTHING = Rate(0.0, 0.0, 0.0)


def a_handler(submitted: int = 0, succeeded: int = 0, dead: int = 0) -> Handler:
    handler = Handler(1, "email.send")
    handler.figures.submitted = submitted
    handler.figures.finished[State.SUCCEEDED] = succeeded
    handler.figures.finished[State.DEAD] = dead
    return handler


def test_rate_is_told_over_the_time_since_the_first_sample() -> None:
    handler = a_handler()
    rates = Rates()
    rates.sample(0, [handler])

    handler.figures.submitted = 100
    handler.figures.finished[State.SUCCEEDED] = 30
    handler.figures.finished[State.DEAD] = 10

    assert rates.of(10_000, handler) == Rate(10.0, 4.0, 1.0)
    assert rates.overall(10_000, [handler]) == Rate(10.0, 4.0, 1.0)


def test_rate_forgets_what_is_older_than_its_window() -> None:
    handler = a_handler()
    rates = Rates()
    rates.sample(0, [handler])
    handler.figures.submitted = 1_000
    rates.sample(SAMPLE_MS, [handler])

    assert rates.of(SAMPLE_MS + WINDOW_MS, handler) == NOTHING


def test_rate_is_nothing_once_all_has_stood_still_for_a_window() -> None:
    handler = a_handler()
    rates = Rates()
    rates.sample(0, [handler])
    handler.figures.submitted = 1_000
    rates.sample(SAMPLE_MS - 1, [handler])  # No sample yet, and nothing happens any more.

    assert rates.of(SAMPLE_MS, handler).submitted > 0
    assert rates.of(10 * WINDOW_MS, handler) == NOTHING
    assert rates.overall(10 * WINDOW_MS, [handler]) == NOTHING


def test_handlers_beyond_those_that_are_sampled_have_no_rate(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "HANDLERS_MAX", 1)
    first, second = a_handler(), Handler(2, "email.other")
    second.figures.submitted = 1_000_000
    rates = Rates()
    rates.sample(0, [first, second])
    rates.sample(SAMPLE_MS, [first, second])

    assert rates.of(SAMPLE_MS, second) == NOTHING
    assert rates.pace(SAMPLE_MS, second) == Pace(0.0, None)


def test_percentiles_forget_what_is_older_than_the_window() -> None:
    handler = a_handler()
    rates = Rates()
    rates.sample(0, [handler])
    handler.figures.wait[10] = handler.figures.run[12] = 1_000
    assert percentile_ms(rates.spread(1_000, handler).run, 99) == 1 << 12
    rates.sample(WINDOW_MS, [handler])

    handler.figures.wait[1] = handler.figures.run[2] = 1
    rates.sample(WINDOW_MS + SAMPLE_MS, [handler])
    spread = rates.spread(2 * WINDOW_MS, handler)

    assert percentile_ms(spread.wait, 99) == 1 << 1
    assert percentile_ms(spread.run, 99) == 1 << 2
    assert percentile_ms(rates.spread(4 * WINDOW_MS, handler).run, 99) is None


class TestPace:
    def test_what_was_granted_and_what_waits_more_has_come(self) -> None:
        handler = a_handler()
        rates = Rates()
        rates.sample(0, [handler])
        handler.figures.wait[0] = 30
        handler.queues[0].count = 70

        assert rates.pace(20_000, handler).arrivals_per_second == 5.0

    def test_working_off_a_backlog_is_no_arrival(self) -> None:
        handler = a_handler()
        handler.queues[0].count = 70
        rates = Rates()
        rates.sample(0, [handler])
        handler.figures.wait[0] = 30
        handler.queues[0].count = 40

        assert rates.pace(20_000, handler).arrivals_per_second == 0.0

    def test_what_ended_unbegun_makes_no_negative_arrivals(self) -> None:
        handler = a_handler()
        handler.queues[0].count = 70
        rates = Rates()
        rates.sample(0, [handler])
        handler.queues[0].count = 0

        assert rates.pace(20_000, handler).arrivals_per_second == 0.0

    def test_burst_right_after_the_start_is_no_pace(self) -> None:
        handler = a_handler()
        rates = Rates()
        rates.sample(0, [handler])
        handler.figures.wait[0] = 100

        assert rates.pace(1, handler).arrivals_per_second == 10.0

    def test_slot_is_taken_as_long_as_lately_if_enough_has_ended_lately(self) -> None:
        handler = a_handler()
        handler.figures.run[3], handler.figures.lease_ms = 100, 100_000
        rates = Rates()
        rates.sample(0, [handler])
        assert rates.pace(1_000, handler).lease_ms == 1_000

        handler.figures.run[3] += RUNS_MIN - 1
        assert rates.pace(1_000, handler).lease_ms == pytest.approx(100_000 / (99 + RUNS_MIN))
        handler.figures.run[3] += 1
        handler.figures.lease_ms += RUNS_MIN * 20
        assert rates.pace(1_000, handler).lease_ms == 20

    def test_nothing_is_known_before_anything_ended(self) -> None:
        assert Rates().pace(0, a_handler()) == Pace(0.0, None)


def test_handler_made_after_the_sample_counts_from_nothing() -> None:
    rates = Rates()
    rates.sample(0, [])
    assert rates.of(2_000, a_handler(submitted=8)).submitted == 4.0


def test_without_a_sample_nothing_is_told() -> None:
    assert Rates().of(0, a_handler(5)) == NOTHING
    assert Rates().overall(0, []) == NOTHING


def test_samples_are_taken_now_and_then_and_kept_for_a_window() -> None:
    rates = Rates()
    for now_ms in range(0, 10 * WINDOW_MS, 1_000):
        rates.sample(now_ms, [a_handler()])
    assert len(rates._samples) <= WINDOW_MS // SAMPLE_MS + 1
