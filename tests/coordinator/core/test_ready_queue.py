from coordinator.core import ready_queue
from coordinator.core.handler import Handler
from coordinator.core.layout import ROW_ENTRIES_MAX
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.task import Row, Task
from protocol.messages import Priority, State
from tests.support.builders import task_id

HANDLER = Handler(1, "email.send")


def a_task(number: int) -> Task:
    return Task(task_id(number), HANDLER, Priority.NORMAL, b"", 0)


def a_queue(*tasks: Task) -> ReadyQueue:
    queue = ReadyQueue(1, Priority.NORMAL)
    for task in tasks:
        assert queue.put(task, room=True)
    return queue


def test_tasks_leave_in_the_order_in_which_they_came() -> None:
    tasks = [a_task(n) for n in range(5)]
    queue = a_queue(*tasks)
    assert [queue.take() for _ in range(6)] == [*tasks, None]
    assert (queue.count, queue.live) == (0, 0)


def test_returned_tasks_leave_first_in_their_own_order() -> None:
    waiting, first, second = a_task(1), a_task(2), a_task(3)
    queue = a_queue(waiting)
    queue.put_back(first)
    queue.put_back(second)
    assert [queue.take() for _ in range(3)] == [first, second, waiting]


def test_task_that_has_left_by_another_way_is_passed_over() -> None:
    gone, here = a_task(1), a_task(2)
    queue = a_queue(gone, here)
    gone.state = State.EXPIRED
    queue.left()
    assert (queue.count, queue.live) == (1, 1)
    assert queue.take() is here


def test_what_ends_while_nobody_takes_anything_does_not_fill_the_window() -> None:
    """Found by the simulator: a handler that nobody serves, whose tasks expire."""
    last = a_task(0)
    queue = a_queue(last)

    for number in range(1, 5 * ready_queue.SLACK):
        task = a_task(number)
        queue.put(task, room=True)
        queue.left()
        task.state = State.EXPIRED

    assert len(queue.window) <= 2 * ready_queue.SLACK
    assert (queue.live, queue.count) == (1, 1)
    assert queue.take() is last
    assert queue.take() is None


def test_without_room_a_task_is_left_to_the_store_and_so_are_all_behind_it() -> None:
    queue = a_queue(a_task(1))
    assert not queue.put(a_task(2), room=False)
    assert not queue.put(a_task(3), room=True)
    assert (queue.count, queue.live, queue.stored) == (3, 1, 2)


def test_tasks_that_were_granted_before_the_flush_need_no_row() -> None:
    tasks = [a_task(n) for n in range(3)]
    queue = a_queue(*tasks)
    taken = queue.take()
    assert taken is not None
    taken.state = State.LEASED
    tasks[1].row = Row(b"r", 1)
    assert list(queue.rows_to_write()) == [([tasks[2]], True)]
    assert list(queue.rows_to_write()) == []


def test_rows_are_of_bounded_size_and_those_of_the_window_come_first() -> None:
    queue = a_queue(*[a_task(n) for n in range(ROW_ENTRIES_MAX + 1)])
    for n in range(ROW_ENTRIES_MAX + 2):
        queue.put(a_task(n), room=False)
    written = [(len(tasks), stays) for tasks, stays in queue.rows_to_write()]
    assert written == [(ROW_ENTRIES_MAX, True), (1, True), (ROW_ENTRIES_MAX, False), (2, False)]


def test_rows_are_wanted_while_the_store_holds_some_and_the_window_runs_low() -> None:
    queue = a_queue(a_task(1))
    assert not queue.wants_rows()
    queue.put(a_task(2), room=False)
    assert not queue.wants_rows()  # It is not written yet.
    list(queue.rows_to_write())
    assert queue.wants_rows()
    queue.loading = True
    assert not queue.wants_rows()
    queue.loading = False
    queue.put_loaded(a_task(2))
    assert not queue.wants_rows()
