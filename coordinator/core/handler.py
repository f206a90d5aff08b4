"""A handler: its policy, its four queues and the sidecars that ask for its tasks."""

from collections import deque
from typing import TYPE_CHECKING

from coordinator.core.figures import Figures
from coordinator.core.gates import Gate, gate_on
from coordinator.core.overrides import Override, in_effect
from coordinator.core.parks import Park
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
        "all_queues",
        "changed",
        "dead",
        "declared",
        "figures",
        "gates",
        "leased",
        "name",
        "name_crc",
        "number",
        "open_queues",
        "overrides",
        "parks",
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
        """The one in effect."""
        self.declared = Policy()
        """What its owner has declared."""
        self.overrides: dict[str, Override] = {}
        """What operators have changed of it, by field."""
        self.queues = tuple(ReadyQueue(number, priority) for priority in Priority)
        self.gates: dict[str, Gate] = {}
        """Gates on its collections, and under the empty name one on all of it."""
        self.parks: dict[int, Park] = {}
        self.all_queues: list[ReadyQueue] = list(self.queues)
        """Its own and those of its parks."""
        self.open_queues: list[ReadyQueue] = list(self.queues)
        """Those from which tasks may be taken."""
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
        """Ready tasks, in memory or in the store, held or not."""
        return sum(queue.count for queue in self.all_queues)

    @property
    def live(self) -> int:
        """Ready tasks in memory that may be taken."""
        return sum(queue.live for queue in self.open_queues)

    @property
    def held(self) -> int:
        """Ready tasks that are kept by a gate, as far as they have been looked at."""
        if "" in self.gates:
            return self.ready
        return sum(park.count for park in self.parks.values() if park.collection in self.gates)

    def gate_on(self, collection: str | None) -> Gate | None:
        """Return the gate that decides over tasks of a collection."""
        return gate_on(self.gates, collection) if self.gates else None

    def queue_of(self, task: Task) -> ReadyQueue:
        """Return the queue of a ready task."""
        if task.told is not None and task.told.park in self.parks:
            return self.parks[task.told.park].queues[task.priority]
        return self.queues[task.priority]

    def park_of(self, collection: str) -> Park | None:
        """Return where tasks of a collection are put aside, if there is such a place."""
        for park in self.parks.values():
            if park.collection == collection:
                return park
        return None

    def reopen(self) -> None:
        """Find out anew which queues there are, and from which tasks may be taken."""
        parks = self.parks.values()
        self.all_queues = [*self.queues, *[queue for park in parks for queue in park.queues]]
        if "" in self.gates:
            self.open_queues = []
        else:
            lifted = [park for park in parks if park.collection not in self.gates]
            self.open_queues = [*self.queues, *[queue for park in lifted for queue in park.queues]]

    def declare(self, policy: Policy) -> None:
        """Take the policy that its owner declares; an operator's changes of it stay."""
        self.declared = policy
        self.policy = in_effect(policy, self.overrides)

    def free(self) -> int:
        """Return how many more leases the concurrency limit allows."""
        limit = self.policy.concurrency
        return limit - self.leased if limit else 1 << 60

    def take(self, count: int) -> list[Task]:
        """Remove and return up to ``count`` ready tasks, shared out among the priorities."""
        taken: list[Task] = []
        queues = [queue for queue in self.open_queues if queue.live]
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
