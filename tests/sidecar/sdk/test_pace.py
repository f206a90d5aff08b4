from sidecar.sdk.pace import AHEAD_MAX, Pace


def test_new_handler_takes_nothing_ahead() -> None:
    assert Pace().ahead == 0


def test_fast_handler_takes_what_it_ended_in_the_last_milliseconds() -> None:
    pace = Pace()
    for i in range(100):
        pace.ended(10 + i * 0.001, count=20, run_us=20 * 50)

    assert 80 <= pace.ahead <= 120


def test_slow_handler_takes_nothing_ahead_however_many_end_at_once() -> None:
    pace = Pace()
    pace.ended(10.0, count=1000, run_us=1000 * 100_000)

    assert pace.ahead == 0


def test_what_is_taken_ahead_is_bounded() -> None:
    pace = Pace()
    pace.ended(10.0, count=100_000, run_us=100_000)

    assert pace.ahead == AHEAD_MAX


def test_handler_that_becomes_slow_takes_nothing_ahead_any_more() -> None:
    pace = Pace()
    pace.ended(10.0, count=200, run_us=200 * 10)
    assert pace.ahead > 0

    pace.ended(10.1, count=16, run_us=16 * 1_000_000)
    assert pace.ahead == 0


def test_lone_tasks_take_nothing_ahead() -> None:
    pace = Pace()
    for i in range(100):
        pace.ended(10 + i, count=1, run_us=10)

    assert pace.ahead == 0
