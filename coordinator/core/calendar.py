"""Do what has become due at a time of day: begin delayed tasks, expire, remove the old."""

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Scan
from coordinator.core.ledger import Ledger
from coordinator.core.queries import Queries
from coordinator.core.reindexing import Reindexing
from coordinator.core.task import Change, Task
from coordinator.core.timers import Timer
from protocol.messages import State

DUE_MAX = 1024
"""Timers handled by one step, so that a crowd of them does not hold up everything else."""
REMOVE_ROWS = 4
"""Rows of ended tasks removed by one step."""
EMPTY = 1 << 62


class Calendar:
    """Timers and retention."""

    def __init__(self, ledger: Ledger, queries: Queries, reindexing: Reindexing) -> None:
        self._ledger = ledger
        self._queries = queries
        self._reindexing = reindexing
        self._removing = False
        self._next_removal_ms = 0
        """When the next row of ended tasks is due; 0 makes the first step look."""

    def next_ms(self) -> int | None:
        """Return the wall-clock time at which something is due next."""
        times = [EMPTY if self._removing else self._next_removal_ms]
        due = self._ledger.timers.next_ms()
        if due is not None:
            times.append(due)
        nearest = min(times)
        return None if nearest == EMPTY else nearest

    def tick(self, now: Now) -> None:
        """Begin what is due."""
        due = self._ledger.timers.take_due(now.wall_ms, DUE_MAX)
        if due:
            self._look_at(due, now.wall_ms)
        if self._next_removal_ms <= now.wall_ms and not self._removing:
            self._remove_rows()

    def write(self) -> None:
        """Write rows of new timers and of ended tasks; read timers if they run low."""
        ledger = self._ledger
        writes = ledger.effects.writes
        ledger.timers.write(ledger.next_row, writes)
        scan = ledger.timers.wants_rows()
        if scan is not None:
            ledger.ask(scan, self._take_timers, watch=False)
        for when_ms, ids in ledger.ended.items():
            for i in range(0, len(ids), layout.ROW_ENTRIES_MAX):
                key = layout.retention_key(when_ms, ledger.next_row())
                writes[key] = layout.join_ids(key, ids[i : i + layout.ROW_ENTRIES_MAX])
            self._next_removal_ms = min(self._next_removal_ms, when_ms)
        ledger.ended.clear()

    # Timers

    def _take_timers(self, _: Now, rows: list[tuple[bytes, bytes]], __: object) -> None:
        timers = self._reindexing.timers
        self._ledger.timers.loaded([(key, timers(key, value)) for key, value in rows])

    def _look_at(self, due: list[Timer], wall_ms: int) -> None:
        def then(now: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            # What was due stays due, though the clock be set back: its timer has rung.
            now = Now(now.ms, max(now.wall_ms, wall_ms))
            for timer in due:
                self._fire(now, timer, found.get(layout.task_key(timer.id)), saved)
                self._ledger.release(timer.row)

        keys = [layout.task_key(timer.id) for timer in due]
        self._ledger.ask(GetMany(keys), then, watch=True)

    def _fire(self, now: Now, timer: Timer, record: bytes | None, saved: set[bytes]) -> None:
        """Do what a timer asks for if the task's record agrees."""
        ledger = self._ledger
        if timer.id in ledger.leased:
            return
        task = ledger.waiting.get(timer.id)
        if task is None and record is not None and timer.id not in saved:
            task = ledger.read_record(timer.id, record)
        if task is None or task.state.terminal:
            return
        if task.expires_ms and task.expires_ms <= now.wall_ms:
            self._expire(now, task)
        elif task.state is State.SCHEDULED and task.due_ms <= now.wall_ms:
            task.handler.scheduled -= 1
            task.change(Change.DUE)
            if ledger.make_ready(now, task):
                ledger.save(task)
                self._queries.changed(now, task)
            else:
                self._queries.ended(now, task)

    def _expire(self, now: Now, task: Task) -> None:
        self._ledger.leave_queue(task)
        self._ledger.expire(now, task)
        self._queries.ended(now, task)

    # Retention

    def _remove_rows(self) -> None:
        self._removing = True
        start, end = layout.range_of(b"x")

        def then(now: Now, rows: list[tuple[bytes, bytes]], _: object) -> None:
            due = [(key, value) for key, value in rows if layout.due_of(key) <= now.wall_ms]
            following = rows[len(due) :]
            if following:
                self._next_removal_ms = layout.due_of(following[0][0])
            else:
                self._next_removal_ms = now.wall_ms if due else EMPTY
            if due:
                self._remove_tasks(due)
            else:
                self._removing = False

        self._ledger.ask(Scan(start, end, REMOVE_ROWS), then, watch=False)

    def _remove_tasks(self, rows: list[tuple[bytes, bytes]]) -> None:
        split = [(key, self._reindexing.ids(key, value)) for key, value in rows]

        def then(now: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            self._removing = False
            for key, ids in split:
                self._ledger.effects.writes[key] = None
                for task_id in ids:
                    record = found.pop(layout.task_key(task_id), None)
                    if record is not None and task_id not in saved:
                        self._remove(now, task_id, record)

        keys = [layout.task_key(task_id) for _, ids in split for task_id in ids]
        self._ledger.ask(GetMany(keys), then, watch=True)

    def _remove(self, now: Now, task_id: bytes, record: bytes) -> None:
        """Remove a task that ended, unless it has come back to life or is to be kept longer."""
        ledger = self._ledger
        task = ledger.read_record(task_id, record)
        if task is None or not task.state.terminal:
            return
        remove_ms = task.finished_ms + ledger.config.retention_ms(task.state)
        if remove_ms > now.wall_ms:
            ledger.ended.setdefault(remove_ms, []).append(task_id)
            return
        ledger.remove(task)
        ledger.count("removed")
