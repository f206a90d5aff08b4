from coordinator.core.handler import Handler
from coordinator.core.rates import SAMPLE_MS, WINDOW_MS, Rate, Rates
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
