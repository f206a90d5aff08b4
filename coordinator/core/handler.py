"""A handler: its policy, its four queues and the sidecars that ask for its tasks."""

from collections import deque
from typing import TYPE_CHECKING

from coordinator.core.figures import Figures
from coordinator.core.payloads import name_crc
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.task import Task
from protocol.messages import Priority
from protocol.policy import Policy

if TYPE_CHECKING:
    from coordinator.core.sessions import Session

WEIGHTS = {Priority.CRITICAL: 8, Priority.HIGH: 4, Priority.NORMAL: 2, Priority.LOW: 1}
"""Tasks that each priority gets in one round when all of them wait: LOW always has one in 15."""
_STRIDES = tuple(8 // WEIGHTS[priority] for priority in Priority)


class Handler:
    """One handler.

    Priorities share by stride scheduling (C. Waldspurger, W. Weihl, 1995): each queue has a
    virtual time that grows by its stride with every task taken; the one that is furthest behind
    is served next. Nothing is shared with other handlers.
    """

    __slots__ = (
        "changed",
        "dead",
        "figures",
        "leased",
        "name",
        "name_crc",
        "number",
        "policy",
        "queues",
        "rotation",
        "scheduled",
        "sessions",
        "virtual_time",
    )

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.name_crc = name_crc(name)
        self.policy = Policy()
        self.queues = tuple(ReadyQueue(number, priority) for priority in Priority)
        self.figures = Figures()
        self.scheduled = 0
        self.leased = 0
        self.dead = 0
        """Dead letters kept at present."""
        self.changed = False
        """Whether the stored counts or the policy are behind."""
        self.sessions: set[Session] = set()
        """Those that serve the handler."""
        self.rotation: deque[Session] = deque()
        """Those that have demand for it, each once; the first is served next."""
        self.virtual_time = 0

    @property
    def ready(self) -> int:
        """Ready tasks, in memory or in the store."""
        return sum(queue.count for queue in self.queues)

    @property
    def live(self) -> int:
        """Ready tasks in memory."""
        return sum(queue.live for queue in self.queues)

    def free(self) -> int:
        """Return how many more leases the concurrency limit allows."""
        limit = self.policy.concurrency
        return limit - self.leased if limit else 1 << 60

    def take(self, count: int) -> list[Task]:
        """Remove and return up to ``count`` ready tasks, shared out among the priorities."""
        taken: list[Task] = []
        queues = [queue for queue in self.queues if queue.live]
        if len(queues) == 1:
            queue = queues[0]
            for _ in range(min(count, queue.live)):
                task = queue.take()
                assert task is not None, "live counts tasks in the window"
                taken.append(task)
            return taken
        for queue in queues:
            # A queue that was empty must not make up for the time it had nothing.
            queue.pass_ = max(queue.pass_, self.virtual_time)
        while queues and len(taken) < count:
            queue = min(queues, key=_pass)
            task = queue.take()
            assert task is not None, "live counts tasks in the window"
            taken.append(task)
            self.virtual_time = queue.pass_
            queue.pass_ += _STRIDES[queue.priority]
            if not queue.live:
                queues.remove(queue)
        return taken

    def counts(self) -> list[int]:
        """Return the counts that are stored: ready by priority, scheduled, dead."""
        return [*[queue.count for queue in self.queues], self.scheduled, self.dead]

    def restore(self, counts: list[int]) -> None:
        """Take the counts that were stored; everything counted is in the store only."""
        *ready, self.scheduled, self.dead = counts
        for queue, count in zip(self.queues, ready, strict=True):
            queue.count = count


def _pass(queue: ReadyQueue) -> int:
    return queue.pass_
