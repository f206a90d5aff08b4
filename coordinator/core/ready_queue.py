"""The ready tasks of one handler and priority: a window in memory, the rest in the store.

Tasks are taken in the order in which they became ready; those whose lease came back go first.
While the window has room, new tasks join it. Once it is full they are written to the store only,
in rows numbered beyond ``loaded_row``, and come back in order when the window runs low. A queue
of millions therefore costs the memory of its window.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain

from coordinator.core.layout import ROW_ENTRIES_MAX, parked_key, ready_key
from coordinator.core.task import Task
from protocol.messages import State

WINDOW_MAX = 8192
"""Tasks of one queue kept in memory: a tenth of a second of work at full pace, some 10 MB."""
WINDOW_LOW = 2048
"""Below this many the next rows are read."""
SLACK = 1024
"""Tasks that have left the window by another way than a grant, and may lie in it still."""


class ReadyQueue:
    """One queue.

    Invariant: ``live <= count``; ``count - live`` tasks are in the store only, all of them in
    rows beyond ``loaded_row``.
    """

    __slots__ = (
        "count",
        "gone",
        "handler",
        "littered",
        "live",
        "loaded_row",
        "loading",
        "overflow",
        "park",
        "pass_",
        "priority",
        "returned",
        "sweeping",
        "swept_row",
        "unwritten",
        "window",
    )

    def __init__(self, handler: int, priority: int, park: int = 0) -> None:
        self.handler = handler
        self.priority = priority
        self.park = park
        """The number of the park it belongs to; 0: it is the handler's own."""
        self.window: deque[Task] = deque()
        """Tasks to take next; some may have left by another way and are skipped."""
        self.returned: list[Task] = []
        """Tasks whose lease has ended since the last take; they go first, in their own order."""
        self.live = 0
        """Tasks in the window that are really ready."""
        self.count = 0
        """Ready tasks in all, in the window or in the store."""
        self.unwritten: list[Task] = []
        """In the window since the last flush; they need a row unless they are granted by then."""
        self.overflow: list[Task] = []
        """To be written to the store only."""
        self.loaded_row = 0
        self.loading = False
        """Whether rows are being read; only once at a time."""
        self.gone = 0
        """Tasks in the store only that ended, less the looks for their rows."""
        self.littered = False
        """Whether any has ended since all rows were last looked through."""
        self.sweeping = False
        """Whether all rows are being looked through for such tasks."""
        self.swept_row = 0
        """The last row that was looked at for such tasks."""
        self.pass_ = 0
        """Virtual time of the queue among those of its handler."""

    def row_key(self, row: int) -> bytes:
        """Return the key of one of its rows."""
        if self.park:
            return parked_key(self.park, self.priority, row)
        return ready_key(self.handler, self.priority, row)

    def range_after(self, row: int) -> tuple[bytes, bytes]:
        """Return the range of its rows behind one."""
        return self.row_key(row + 1), self.row_key((1 << 64) - 1)

    @property
    def stored(self) -> int:
        """How many ready tasks are in the store only."""
        return self.count - self.live

    def put(self, task: Task, *, room: bool) -> bool:
        """Take a task that has become ready, at the end.

        Args:
            task: The task.
            room: Whether the shard as a whole can hold one more in memory.

        Returns:
            Whether the task is in memory now.
        """
        self.count += 1
        if not room or self.live >= WINDOW_MAX or self.count - 1 > self.live:
            self.overflow.append(task)
            return False
        self.window.append(task)
        self.unwritten.append(task)
        self.live += 1
        return True

    def put_back(self, task: Task) -> None:
        """Take a task whose lease has ended, at the front."""
        self.returned.append(task)
        self.unwritten.append(task)
        self.live += 1
        self.count += 1

    def put_loaded(self, task: Task) -> None:
        """Take a task read from the store; it is counted already."""
        self.window.append(task)
        self.live += 1

    def take(self) -> Task | None:
        """Remove and return the next ready task in memory."""
        window = self.window
        if self.returned:
            window.extendleft(reversed(self.returned))
            self.returned.clear()
        while window:
            task = window.popleft()
            if task.state is State.READY:
                self.live -= 1
                self.count -= 1
                return task
        return None

    def head(self) -> Task | None:
        """Return the task in memory that is taken next, and leave it there."""
        for task in chain(self.returned, self.window):
            if task.state is State.READY:
                return task
        return None

    def left(self) -> None:
        """Note that a task in the window stops being ready by another way than ``take``.

        Where nothing is taken, tasks that expire would fill the memory.
        """
        self.live -= 1
        self.count -= 1
        if len(self.window) > 2 * self.live + SLACK:
            self.window = deque(task for task in self.window if task.state is State.READY)

    def left_store(self) -> None:
        """Note that a task in the store only has stopped being ready."""
        self.count -= 1
        self.gone += 1
        self.littered = True

    def wants_rows(self) -> bool:
        """Whether the next rows should be read from the store now."""
        return self.live < WINDOW_LOW and not self.loading and self.stored > len(self.overflow)

    def rows_to_write(self) -> Iterator[tuple[list[Task], bool]]:
        """Yield groups of tasks that need a row, and whether the group stays in the window.

        Groups that stay come first, so that their rows have the lower numbers.
        """
        if self.unwritten:
            # A gate may have put one aside since, in another queue.
            waiting = [
                t
                for t in self.unwritten
                if t.state is State.READY
                and t.row is None
                and (t.told is None or t.told.park == self.park)
            ]
            self.unwritten = []
            for i in range(0, len(waiting), ROW_ENTRIES_MAX):
                yield waiting[i : i + ROW_ENTRIES_MAX], True
        if self.overflow:
            overflow, self.overflow = self.overflow, []
            for i in range(0, len(overflow), ROW_ENTRIES_MAX):
                yield overflow[i : i + ROW_ENTRIES_MAX], False
