import pytest

from tests.support.clock import ManualClock


def test_clock_moves_only_when_told() -> None:
    clock = ManualClock(5)
    assert clock() == clock() == 5
    assert clock.advance(10) == clock() == 15
    clock.jump(3)
    assert clock() == 3


def test_clock_does_not_advance_backwards() -> None:
    with pytest.raises(AssertionError, match="jump"):
        ManualClock().advance(-1)
