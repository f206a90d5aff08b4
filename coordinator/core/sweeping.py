"""Remove rows of ready tasks that nobody needs any more: their tasks ended without being granted.

A queue's rows beyond its window are read, and cleared, when somebody asks for its tasks. Where
nobody does, tasks that expire would leave their rows for ever; and so do those that were the last
in the store, since new tasks join the window then, beyond the rows left behind. So rows are looked
through as tasks leave the store's part of a queue: each that leaves pays for a few looks, from
where the last look ended, round and round; and all of them once none of the tasks there is ready
any more. What is read is not kept.
"""

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Scan
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.reindexing import Reindexing
from protocol.messages import State

GONE_MIN = 1024
"""Tasks that must have left before the next look: so many may leave their rows for good."""
ROWS = 16
"""Rows of one look."""
LOOKS = 4
"""Looks that a task pays for when it leaves: faster than rows are added, so that the end is reached
and the looks begin anew with what was needed the last time."""


class Sweeping:
    """Looks through the rows of queues whose tasks leave by another way than a grant."""

    def __init__(self, ledger: Ledger, reindexing: Reindexing) -> None:
        self._ledger = ledger
        self._reindexing = reindexing

    def sweep(self) -> None:
        """Look at the next rows where enough tasks have left."""
        for handler in self._ledger.stirred:
            for queue in handler.all_queues:
                if queue.loading:
                    continue
                if queue.littered and not queue.stored and not queue.sweeping:
                    queue.sweeping, queue.littered = True, False
                    queue.swept_row = 0
                if queue.sweeping or queue.gone >= GONE_MIN:
                    self._look(handler, queue)

    def _look(self, handler: Handler, queue: ReadyQueue) -> None:
        queue.loading = True  # Rows must not be loaded meanwhile.
        first = queue.swept_row
        start, end = queue.range_after(first)

        def then(_: Now, rows: list[tuple[bytes, bytes]], __: object) -> None:
            if rows:
                self._look_at(handler, queue, rows)
                return
            queue.loading = queue.sweeping = False
            queue.swept_row = 0
            if not first:
                queue.gone = 0  # There are no rows at all.
            self._ledger.touch(handler)

        self._ledger.ask(Scan(start, end, ROWS), then, watch=False)

    def _look_at(
        self, handler: Handler, queue: ReadyQueue, rows: list[tuple[bytes, bytes]]
    ) -> None:
        split = [(key, self._reindexing.ids(key, value)) for key, value in rows]

        def then(_: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            queue.loading = False
            for key, ids in split:
                if not any(self._needed(queue, key, task_id, found, saved) for task_id in ids):
                    self._ledger.effects.writes[key] = None
            queue.swept_row = layout.ready_row(split[-1][0])
            looks = sum(len(ids) for _, ids in split)
            if not queue.sweeping:
                queue.gone = max(0, queue.gone - max(1, looks // LOOKS))
            self._ledger.touch(handler)

        waiting = self._ledger.waiting
        keys = [layout.task_key(i) for _, ids in split for i in ids if i not in waiting]
        self._ledger.ask(GetMany(keys), then, watch=True)

    def _needed(
        self,
        queue: ReadyQueue,
        key: bytes,
        task_id: bytes,
        found: dict[bytes, bytes],
        saved: set[bytes],
    ) -> bool:
        """Tell whether a task may still be ready by its entry in a row."""
        ledger = self._ledger
        present = ledger.waiting.get(task_id)
        if present is not None:
            return present.row is not None and present.row.key == key
        if task_id in saved:
            # What it has become is not looked at here, but once more: this may be the last look.
            queue.littered = True
            return True
        record = found.get(layout.task_key(task_id))
        if record is None or task_id in ledger.leased:
            return False
        task = ledger.read_record(task_id, record)
        if task is None or task.state is not State.READY:
            return False
        return task.handler.queue_of(task) is queue
