"""End the tasks that were ready when a gate that drops was set, a few rows at a time.

What becomes ready later is dropped then and there (``Ledger.make_ready``); so each row that was
there is looked through once, and no more. A start begins anew with the gates it finds: what was
done is done, and its rows have gone.
"""

from collections import deque

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Scan
from coordinator.core.gates import Gate
from coordinator.core.ledger import Ledger
from coordinator.core.operations import By
from coordinator.core.queries import Queries
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.reindexing import Reindexing
from coordinator.core.task import Task
from protocol.messages import State

ROWS = 4
"""Rows looked through at once: at most this many times ``layout.ROW_ENTRIES_MAX`` tasks."""


class Dropping:
    """Looks through the queues that gates want empty, one gate after the other."""

    def __init__(self, ledger: Ledger, queries: Queries, reindexing: Reindexing) -> None:
        self._ledger = ledger
        self._queries = queries
        self._reindexing = reindexing
        self._gates: deque[Gate] = deque()
        self._queues: deque[ReadyQueue] = deque()
        """Those that are left of the first gate."""
        self._row = 0
        """The last row that was looked at, of the first queue."""
        self._last_row = 0
        """The last row that there was when the first gate began."""
        self._begun = False
        self._reading = False

    def begin(self, gate: Gate) -> None:
        """Look through what a gate holds, from now on."""
        gate.sweeping = True
        self._gates.append(gate)

    def sweep(self, now: Now) -> None:
        """Look at the next rows; called with each flush, when its rows are written."""
        if self._reading:
            return
        while self._gates:
            gate = self._gates[0]
            if not self._begun:
                self._begun = True
                self._queues.extend(self._queues_of(gate))
                self._last_row = self._ledger.latest_row
                self._row = 0
            if self._queues and self._stands(gate):
                self._look(gate)
                return
            self._end(now, gate)

    def _stands(self, gate: Gate) -> bool:
        return self._ledger.gates.by_scope.get(gate.scope) is gate

    def _queues_of(self, gate: Gate) -> list[ReadyQueue]:
        handler, collection = gate.scope
        handlers = self._ledger.handlers
        found = [handlers[handler]] if handler in handlers else []
        if not handler:
            found = list(handlers.values())
        queues: list[ReadyQueue] = []
        for each in found:
            park = each.park_of(collection) if collection else None
            if collection:
                queues += [*each.queues, *(park.queues if park is not None else ())]
            else:
                queues += each.all_queues
        return [queue for queue in queues if queue.count]

    def _end(self, now: Now, gate: Gate) -> None:
        self._gates.popleft()
        self._queues.clear()
        self._begun = gate.sweeping = False
        if not gate.swept:
            return
        ledger = self._ledger
        details = {"dropped": gate.dropped, "looked_at": gate.swept}
        by = By(gate.owner, gate.reason)
        ledger.record(now, by, "gate.swept", str(gate.scope), details)
        ledger.note("gate_swept", scope=str(gate.scope), **details)

    def _look(self, gate: Gate) -> None:
        queue = self._queues[0]
        start, end = queue.range_after(self._row)

        def then(_: Now, rows: list[tuple[bytes, bytes]], __: object) -> None:
            rows = [row for row in rows if layout.ready_row(row[0]) <= self._last_row]
            if not rows:
                self._reading = False
                self._queues.popleft()
                self._row = 0
                return
            self._row = layout.ready_row(rows[-1][0])
            ids = [i for key, value in rows for i in self._reindexing.ids(key, value)]
            gate.swept += len(ids)
            self._look_at(gate, queue, ids)

        self._reading = True
        self._ledger.ask(Scan(start, end, ROWS), then, watch=False)

    def _look_at(self, gate: Gate, queue: ReadyQueue, ids: list[bytes]) -> None:
        """Drop those of some tasks that are still ready in a queue and that the gate means."""

        def then(now: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            again: list[bytes] = []
            for task_id in ids if self._stands(gate) else ():
                task = self._ledger.waiting.get(task_id)
                if task is None and task_id in saved:
                    again.append(task_id)  # The record that was read is out of date.
                    continue
                record = found.get(layout.task_key(task_id))
                if task is None and record is not None and task_id not in self._ledger.leased:
                    task = self._ledger.read_record(task_id, record)
                if task is not None and task.state is State.READY:
                    self._drop(now, gate, queue, task)
            if again:
                self._look_at(gate, queue, again)
            else:
                self._reading = False

        self._ledger.ask(GetMany([layout.task_key(i) for i in ids]), then, watch=True)

    def _drop(self, now: Now, gate: Gate, queue: ReadyQueue, task: Task) -> None:
        if task.handler.queue_of(task) is not queue:
            return  # Its entry is stale.
        if gate.scope.collection and task.collection != gate.scope.collection:
            return
        self._ledger.leave_queue(task)
        self._ledger.drop(now, task, gate)
        self._queries.ended(now, task)
