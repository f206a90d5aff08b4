from coordinator.core import ready_queue
from coordinator.core.handler import Handler
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.task import Task
from protocol.messages import Priority, State
from tests.support.builders import task_id


def a_ready_task(number: int) -> Task:
    return Task(task_id(number), Handler(1, "email.send"), Priority.NORMAL, b"", 0)


def test_what_ends_while_nobody_takes_anything_does_not_fill_the_window() -> None:
    """Found by the simulator: a handler that nobody serves, whose tasks expire."""
    queue = ReadyQueue(1, Priority.NORMAL)
    last = a_ready_task(0)
    queue.put(last, room=True)

    for number in range(1, 5 * ready_queue.SLACK):
        task = a_ready_task(number)
        queue.put(task, room=True)
        queue.left()
        task.state = State.EXPIRED

    assert len(queue.window) <= 2 * ready_queue.SLACK
    assert (queue.live, queue.count) == (1, 1)
    assert queue.take() is last
    assert queue.take() is None
