"""How many attempts run at one time, and how waits grow."""

from sidecar.invoke.window import Backoff, Window


def test_refusals_of_one_round_halve_it_once() -> None:
    window = Window(16)
    begun_in = window.round

    for _ in range(16):
        window.refused(begun_in)

    assert window.size == 8


def test_it_never_falls_under_one() -> None:
    window = Window(4)

    for _ in range(10):
        window.refused(window.round)

    assert window.size == 1


def test_a_window_of_successes_adds_one() -> None:
    window = Window(8)
    window.refused(window.round)

    for _ in range(5):
        window.succeeded()

    assert window.size == 5


def test_it_never_grows_over_the_slots() -> None:
    window = Window(3)

    for _ in range(100):
        window.succeeded()

    assert window.size == 3


def test_waits_double_to_their_limit_and_begin_again() -> None:
    backoff = Backoff(50, 300)

    assert [backoff.take() for _ in range(5)] == [50, 100, 200, 300, 300]
    backoff.reset()
    assert backoff.take() == 50
