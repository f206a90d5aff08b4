"""Where tasks of a collection wait while a gate holds it: beside the queues of their handler.

A park has four queues like its handler's, and rows of its own. It is made when the first task is
put aside, and nothing in it is looked at while its gate stands. When that is lifted its queues are
served among those of the handler, in turn with the ones of the same priority, until they are empty:
lifting a gate over a million tasks moves none of them.

The record of a parked task says so (``Told.park``), since rows may be stale: that decides in which
queue it is.
"""

from coordinator.core.ready_queue import ReadyQueue
from protocol.messages import Priority


class Park:
    """The tasks of one collection of one handler that were put aside.

    Args:
        number: Its number; none that was used before is used again.
        handler: The number of its handler.
        collection: Whose tasks it holds.
    """

    __slots__ = ("collection", "ending", "handler", "number", "queues", "written")

    def __init__(self, number: int, handler: int, collection: str) -> None:
        self.number = number
        self.handler = handler
        self.collection = collection
        self.queues = tuple(ReadyQueue(handler, priority, number) for priority in Priority)
        self.written: list[int] | None = None
        """The counts that its row in the store has."""
        self.ending = 0
        """How often its rows were looked through since it was empty."""

    @property
    def count(self) -> int:
        """How many tasks it holds."""
        return sum(queue.count for queue in self.queues)

    @property
    def busy(self) -> bool:
        """Whether rows of it are being read, or are to be looked through."""
        return any(queue.loading or queue.sweeping or queue.littered for queue in self.queues)

    def counts(self) -> list[int]:
        """Return the counts that are stored."""
        return [queue.count for queue in self.queues]

    def restore(self, counts: list[int]) -> None:
        """Take the counts that were stored."""
        for queue, count in zip(self.queues, counts, strict=True):
            queue.count = count
