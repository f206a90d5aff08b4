"""Tasks are shared fully, within everybody's room, idle slots first."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import GrantedTask
from sidecar.core.lane import Lane
from sidecar.core.sharing import share
from tests.support.builders import a_granted_task

LANES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 12), st.integers(0, 8)), max_size=5)


def lanes_of(shapes: list[tuple[int, int, int]]) -> list[Lane]:
    """Return lanes with these slots, demand and tasks handed over before."""
    lanes = []
    for connection, (slots, total, before) in enumerate(shapes):
        lane = Lane(connection, "email.send", slots)
        tasks = [a_granted_task(1_000 * connection + n) for n in range(before)]
        lane.hand(0, tasks, [task[:2] for task in tasks])
        lane.total = total
        lanes.append(lane)
    return lanes


@given(LANES.filter(bool), st.integers(1, 40))
def test_as_much_as_there_is_room_for_is_shared_in_order(
    shapes: list[tuple[int, int, int]], count: int
) -> None:
    lanes = lanes_of(shapes)
    tasks: list[GrantedTask] = [a_granted_task(n) for n in range(count)]

    shares = share(tasks, lanes)

    shared = [task for _, part in shares for task in part]
    assert shared == tasks[: min(count, sum(lane.room for lane in lanes))]
    assert all(0 < len(part) <= lane.room for lane, part in shares)
    idle = sum(lane.idle for lane in lanes)
    begin = sum(min(len(part), lane.idle) for lane, part in shares)
    assert begin == min(idle, len(shared))


def test_single_task_goes_to_the_most_idle() -> None:
    lanes = lanes_of([(2, 2, 1), (4, 4, 1), (2, 2, 0)])

    [(lane, _)] = share([a_granted_task(1)], lanes)

    assert lane is lanes[1]
