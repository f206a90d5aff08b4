import pytest

from coordinator.core.handler import Handler
from coordinator.core.task import CHANGES, Change, ImpossibleChange, Task
from protocol.messages import Priority, State
from tests.support.builders import task_id


def a_task(state: State = State.READY) -> Task:
    task = Task(task_id(), Handler(1, "email.send"), Priority.NORMAL, b"", 0)
    task.state = state
    return task


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("change", Change)
def test_task_changes_by_the_table_and_in_no_other_way(state: State, change: Change) -> None:
    task = a_task(state)
    expected = CHANGES.get(state, {}).get(change)
    if expected is None:
        with pytest.raises(ImpossibleChange, match=f"that is {state.name} cannot take"):
            task.change(change)
        assert task.state is state
    else:
        task.change(change)
        assert task.state is expected


def test_nothing_leads_out_of_a_terminal_state_but_a_requeue() -> None:
    found = {state: CHANGES[state] for state in State if state.terminal and CHANGES.get(state)}
    assert found == {State.DEAD: {Change.REQUEUE: State.READY}}


def test_every_state_that_waits_may_end_by_expiry() -> None:
    waiting = [state for state in CHANGES if not state.terminal]
    assert {CHANGES[state][Change.EXPIRE] for state in waiting} == {State.EXPIRED}


def test_every_state_that_has_not_ended_may_be_cancelled() -> None:
    going_on = [state for state in CHANGES if not state.terminal]
    assert {CHANGES[state][Change.CANCEL] for state in going_on} == {State.CANCELLED}


def test_option_of_the_task_wins() -> None:
    task = a_task()
    assert task.option("attempts_max", 5) == 5
    task.options = {"attempts_max": 2}
    assert (task.option("attempts_max", 5), task.option("timeout_ms", 7)) == (2, 7)


def test_payload_is_apart_when_it_exists_and_is_not_at_hand() -> None:
    assert not a_task().payload_apart
    apart = Task(task_id(), Handler(1, "email.send"), Priority.NORMAL, None, 5_000)
    assert apart.payload_apart
