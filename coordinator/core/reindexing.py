"""Find the rows of tasks again after one was damaged, from the tasks' own records.

Index rows are derived, and a row more than needed does no harm, since records and leases decide.
So a damaged row is removed, and all records are walked, page by page: each task that may have been
in such a row gets a place in a new one. A key in the store says that this is under way; a start
that finds it begins anew.

Two kinds of row are more than an index: a grant says who holds what, and a handler's row has
counts. They are read at the start only. If one is damaged, the walk comes before anything else
there (``recount``): the store stands still, so that everything is counted exactly.
"""

from collections.abc import Callable

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Scan
from coordinator.core.ledger import Ledger
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.task import Task
from protocol.messages import State

PAGE = 256
"""Records read at once: 64 MiB if each has the largest result."""
PROGRESS_TASKS = 100_000
"""How often to tell operators how far it is."""
_KINDS = {
    **{b"r": "ready", b"w": "parked", b"s": "timers", b"x": "ended", b"g": "leases"},
    b"d": "dead letters",
}


class Reindexing:
    """Damaged rows, and the walk that makes up for them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.active = False
        self._again = False
        """Whether a row was found damaged during the walk: what it has passed may be concerned."""
        self._recount = False
        self._done: Callable[[Now], None] | None = None
        self._reading = 0
        """Reads whose records have not been taken yet."""
        self._walked = 0
        self._damaged = 0

    # Rows

    def ids(self, key: bytes, value: bytes) -> list[bytes]:
        """Return the ids of a row, or none after an alarm if it is damaged."""
        try:
            return layout.split_ids(key, value)
        except layout.Damaged as damage:
            self._remove(key, damage)
            return []

    def timers(self, key: bytes, value: bytes) -> list[layout.TimerEntry]:
        """Return the timers of a row, or none after an alarm if it is damaged."""
        try:
            return layout.split_timers(key, value)
        except layout.Damaged as damage:
            self._remove(key, damage)
            return []

    def mend(self, key: bytes) -> None:
        """Look at the row of a dead letter that somebody could not read."""

        def then(_: Now, found: dict[bytes, bytes], __: object) -> None:
            try:
                if key in found:
                    layout.unseal(key, found[key])
            except layout.Damaged as damage:
                self._remove(key, damage)

        self._ledger.ask(GetMany([key]), then, watch=False)

    def alarm(self, key: bytes, damage: layout.Damaged) -> None:
        """Tell operators of a damaged row."""
        self._ledger.count("row_damaged")
        kind = _KINDS[key[:1]]
        self._ledger.note("row_damaged", kind=kind, key=key.hex(), detail=str(damage))

    def _remove(self, key: bytes, damage: layout.Damaged) -> None:
        ledger = self._ledger
        self.alarm(key, damage)
        ledger.effects.writes[key] = None
        for task in ledger.waiting.values():
            if task.row is not None and task.row.key == key:
                task.row = None
                task.handler.queue_of(task).unwritten.append(task)
                ledger.touch(task.handler)
        self.begin()

    # The walk

    def begin(self) -> None:
        """Walk all records once from now on, beside everything else."""
        ledger = self._ledger
        ledger.effects.writes[layout.REINDEX_KEY] = layout.seal(layout.REINDEX_KEY, b"1")
        if self.active:
            self._again = True
        else:
            self._start()

    def recount(self, done: Callable[[Now], None]) -> None:
        """Walk all records before anything else happens, count anew, and call ``done``."""
        self._recount, self._done = True, done
        self._start()

    def _start(self) -> None:
        if self._recount:
            for handler in self._ledger.handlers.values():
                handler.restore([0] * len(handler.counts()))
                for park in handler.parks.values():
                    park.restore([0] * len(park.counts()))
        self.active, self._walked, self._damaged = True, 0, 0
        self._ledger.note("reindexing_began", serving=not self._recount)
        self._read(layout.range_of(b"t")[0])

    def _read(self, start: bytes) -> None:
        def then(now: Now, rows: list[tuple[bytes, bytes]], saved: set[bytes]) -> None:
            self._tell(len(rows))
            if len(rows) == PAGE:
                self._read(layout.after(rows[-1][0]))
            self._take(now, rows, saved)

        self._reading += 1
        self._ledger.ask(Scan(start, layout.range_of(b"t")[1], PAGE), then, watch=True)

    def _take(self, now: Now, rows: list[tuple[bytes, bytes]], saved: set[bytes]) -> None:
        self._reading -= 1
        ready: dict[ReadyQueue, list[bytes]] = {}
        stale: list[bytes] = []
        for key, record in rows:
            task_id = key[1:]
            if task_id in saved:
                stale.append(key)
            elif task_id not in self._ledger.leased:
                self._index(task_id, record, ready)
        self._write(ready)
        if stale:  # Their records are out of date already.
            self._reading += 1
            self._ledger.ask(
                GetMany(stale),
                lambda now, found, saved: self._take(now, list(found.items()), saved),
                watch=True,
            )
        if not self._reading:
            self._finish(now)

    def _tell(self, count: int) -> None:
        before = self._walked // PROGRESS_TASKS
        self._walked += count
        if self._walked // PROGRESS_TASKS > before:
            self._ledger.note("reindexing", tasks=self._walked)

    def _index(self, task_id: bytes, record: bytes, ready: dict[ReadyQueue, list[bytes]]) -> None:
        """Give a task its place in the indexes by its record."""
        ledger = self._ledger
        task = ledger.read_record(task_id, record)
        if task is None:
            self._damaged += 1
            return
        if self._recount:
            _count(task)
        if task.state.terminal:
            remove_ms = task.finished_ms + ledger.config.retention_ms(task.state)
            # Whole seconds, so that many share a row.
            ledger.ended.setdefault(-(-remove_ms // 1000) * 1000, []).append(task_id)
            if task.state is State.DEAD:
                ledger.write_dead(task)
            return
        ledger.guard_expiry(task)
        if task.state is State.SCHEDULED:
            ledger.timers.add(task.due_ms, layout.TIMER_DUE, task_id)
        elif task_id not in ledger.waiting:
            ready.setdefault(task.handler.queue_of(task), []).append(task_id)

    def _write(self, ready: dict[ReadyQueue, list[bytes]]) -> None:
        """Write rows of ready tasks; those of timers and of ended tasks are the calendar's."""
        ledger = self._ledger
        for queue, ids in ready.items():
            for i in range(0, len(ids), layout.ROW_ENTRIES_MAX):
                key = queue.row_key(ledger.next_row())
                chunk = ids[i : i + layout.ROW_ENTRIES_MAX]
                ledger.effects.writes[key] = layout.join_ids(key, chunk)
            queue.littered = True  # Many of them are in two rows now.
            ledger.touch(ledger.handlers_by_number[queue.handler])

    def _finish(self, now: Now) -> None:
        ledger = self._ledger
        ledger.note("reindexing_finished", tasks=self._walked, damaged=self._damaged)
        self.active = False
        if self._again:
            self._again = False
            self._start()
            return
        ledger.effects.writes[layout.REINDEX_KEY] = None
        for handler in ledger.handlers.values():
            ledger.touch(handler)
        self._recount = False
        if self._done is not None:
            self._done(now)
            self._done = None


def _count(task: Task) -> None:
    handler = task.handler
    if task.state is State.READY:
        handler.queue_of(task).count += 1
    handler.scheduled += task.state is State.SCHEDULED
    handler.dead += task.state is State.DEAD
