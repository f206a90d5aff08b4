import pytest

from protocol.messages import Priority, State


@pytest.mark.parametrize("state", State)
def test_task_has_ended_in_exactly_five_states(state: State) -> None:
    ended = {State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED, State.DROPPED}
    assert state.terminal == (state in ended)


def test_critical_sorts_before_low() -> None:
    assert list(Priority) == sorted(Priority)
    assert Priority.CRITICAL < Priority.LOW
