"""Change all tasks that a filter means: a slice at a time, beside everything else.

A slice looks for a few tasks (``core.listing``), reads those again that it has found, changes them,
and notes in the same commit how far it is. So no task is changed twice, whenever the process ends,
and the next start goes on. Slices of all that is under way take turns, with a pause between them:
however much there is to change, what services do comes first.
"""

from collections.abc import Sequence
from typing import Any

from coordinator.core import bulk as kept
from coordinator.core import layout
from coordinator.core.bulk import Bulk
from coordinator.core.changing import Changing, refusal_of
from coordinator.core.effects import Now
from coordinator.core.filters.language import FilterError
from coordinator.core.filters.predicate import compile_filter
from coordinator.core.ledger import Ledger
from coordinator.core.listing import ForeignCursor, Listing
from coordinator.core.operations import Action, By, Done, Refusal, StartBulk, StopBulk
from coordinator.core.reindexing import Reindexing
from coordinator.core.task import Task
from protocol.messages import State

RUNNING_MAX = 4
"""How many may be under way at a time."""
KEPT = 100
"""Those that are kept; the oldest that has ended goes when another begins."""
SLICE_TASKS = 250
"""Tasks changed by one slice, at most."""
SLICE_SCANNED = 1_024
"""Tasks looked at by one slice, at most, or little more."""
SLICES_A_SECOND = 10
"""Slices of the size that the rate allows: a tenth of a second's tasks."""
PAUSE_MS = 20
"""Between two slices, whosever they are."""
WRITE_SLICES = 16
"""After so many slices that have found nothing, how far it is becomes durable."""
REINDEXING_MS = 1_000
"""How long to wait while index rows are not complete."""


class BulkChanges:
    """All changes of many tasks that are under way."""

    def __init__(self, ledger: Ledger, changing: Changing, reindexing: Reindexing) -> None:
        self._ledger = ledger
        self._changing = changing
        self._reindexing = reindexing
        self._busy = False
        """Whether a slice waits for what it reads."""
        self._pause_until_ms = 0

    # What operators ask for

    def start(self, now: Now, wanted: StartBulk) -> Done | Refusal:
        """Begin one."""
        bulks = self._ledger.bulks
        running = self._running()
        if len(running) >= RUNNING_MAX:
            return Refusal("too_many_operations", f"{RUNNING_MAX} are under way; wait or stop one")
        for other in running:
            if (other.action, other.filter) == (wanted.action, wanted.filter):
                return Refusal("same_operation", f"operation {other.number} does this already")
            if other.filter == wanted.filter:
                detail = f"operation {other.number} ({other.action.value}) changes the same tasks"
                return Refusal("conflicting_operation", detail)
        number = max(bulks, default=0) + 1
        bulk = Bulk(
            *(number, wanted.action, wanted.filter, wanted.by, wanted.at_ms, wanted.rate),
            *(wanted.expected, wanted.exact, now.wall_ms),
        )
        bulks[number] = bulk
        self._forget_oldest()
        self._write(bulk)
        details = {"number": number, "expected": bulk.expected, "rate": bulk.rate}
        self._tell(now, bulk, "start", wanted.by, details)
        return Done(kept.row_of(bulk))

    def stop(self, now: Now, wanted: StopBulk) -> Done | Refusal:
        """Stop one where it is: what is changed stays changed."""
        bulk = self._ledger.bulks.get(wanted.number)
        if bulk is None:
            return Refusal("unknown_operation", f"there is no operation {wanted.number}")
        if bulk.state != kept.RUNNING:
            return Refusal("wrong_state", f"operation {wanted.number} is {bulk.state} already")
        bulk.why = f"stopped by {wanted.by.owner}"
        self._end(now, bulk, kept.STOPPED, wanted.by)
        return Done(kept.row_of(bulk))

    # Time

    def next_ms(self) -> int | None:
        """Return when the next slice is due."""
        if self._busy:
            return None
        due = min([bulk.next_ms for bulk in self._running()], default=None)
        return None if due is None else max(due, self._pause_until_ms)

    def go_on(self, now: Now) -> None:
        """Begin the next slice if it is due; called with each flush."""
        running = self._running()
        if self._busy or not running or now.ms < self._pause_until_ms:
            return
        if self._reindexing.active:
            self._pause_until_ms = now.ms + REINDEXING_MS
            return
        bulk = min(running, key=lambda bulk: bulk.next_ms)
        if bulk.next_ms > now.ms:
            return
        if bulk.pending:
            self._busy = True
            self._change(bulk, bulk.pending)
        else:
            self._look(now, bulk)

    # A slice

    def _look(self, now: Now, bulk: Bulk) -> None:
        limit = max(1, min(SLICE_TASKS, bulk.rate // SLICES_A_SECOND))
        try:
            page = Listing(
                *(self._ledger, kept.meant(bulk.action, bulk.filter)),
                Now(now.ms, bulk.created_ms),
                limit=limit,
                cursor=bulk.cursor,
                scanned_max=SLICE_SCANNED,
            )
        except (FilterError, ForeignCursor) as error:
            bulk.why = f"{error}; ask for it again"
            self._end(now, bulk, kept.INTERRUPTED, bulk.by)
            return
        self._busy = True
        self._read(now, bulk, page)

    def _read(self, now: Now, bulk: Bulk, page: Listing) -> None:
        reads = page.reads()
        if not reads:
            self._found(now, bulk, page)
            return

        def then(now: Now, result: Any, _: set[bytes]) -> None:
            page.take([result])
            self._read(now, bulk, page)

        [read] = reads
        self._ledger.ask(read, then, watch=False)

    def _found(self, now: Now, bulk: Bulk, page: Listing) -> None:
        if bulk.state != kept.RUNNING:
            self._rest(now, bulk, 0)
            return
        bulk.scanned += page.scanned
        bulk.cursor = page.cursor
        bulk.whole = page.cursor is None
        if not page.found:
            bulk.slices += 1
            if bulk.whole:
                self._end(now, bulk, kept.DONE, bulk.by)
            elif bulk.slices % WRITE_SLICES == 0:
                self._write(bulk)
            self._rest(now, bulk, 0)
            return
        self._change(bulk, [task.id for task in page.found])

    def _change(self, bulk: Bulk, ids: Sequence[bytes]) -> None:
        means = compile_filter(kept.meant(bulk.action, bulk.filter), bulk.created_ms)
        before = bulk.changed

        def take(now: Now, _: bytes, task: Task | None) -> None:
            if bulk.state != kept.RUNNING:
                return
            refusal = task is not None and refusal_of(now, task, bulk.action, bulk.at_ms)
            if task is None or refusal or not means(task):
                bulk.skipped += 1
            elif not _is_so(now, task, bulk):
                self._changing.change(now, task, bulk.action, bulk.by, bulk.at_ms)
                bulk.changed += 1

        def then(now: Now, again: Sequence[bytes]) -> None:
            if bulk.state == kept.RUNNING:
                bulk.pending = list(again)
                if bulk.whole and not again:
                    self._end(now, bulk, kept.DONE, bulk.by)
                else:
                    self._write(bulk)
            self._rest(now, bulk, bulk.changed - before)

        self._changing.look_up(ids, take, then)

    def _rest(self, now: Now, bulk: Bulk, changed: int) -> None:
        self._busy = False
        self._pause_until_ms = now.ms + PAUSE_MS
        # One millisecond at least, so that those that change nothing take turns.
        bulk.next_ms = now.ms + max(1, changed * 1_000 // bulk.rate)

    # Keeping

    def _running(self) -> list[Bulk]:
        return [bulk for bulk in self._ledger.bulks.values() if bulk.state == kept.RUNNING]

    def _end(self, now: Now, bulk: Bulk, state: str, by: By) -> None:
        bulk.state, bulk.ended_ms = state, now.wall_ms
        bulk.pending = []
        self._write(bulk)
        word = {kept.DONE: "done", kept.STOPPED: "stop"}.get(state, state)
        counts = {"tasks": bulk.changed, "skipped": bulk.skipped, "scanned": bulk.scanned}
        self._tell(now, bulk, word, by, {"number": bulk.number, **counts})

    def _write(self, bulk: Bulk) -> None:
        key, value = kept.encode(bulk)
        self._ledger.effects.writes[key] = value

    def _forget_oldest(self) -> None:
        bulks = self._ledger.bulks
        ended = [number for number in sorted(bulks) if bulks[number].state != kept.RUNNING]
        for number in ended[: max(0, len(bulks) - KEPT)]:
            del bulks[number]
            self._ledger.effects.writes[layout.bulk_key(number)] = None

    def _tell(self, now: Now, bulk: Bulk, word: str, by: By, details: dict[str, int]) -> None:
        ledger = self._ledger
        ledger.record(now, by, f"{bulk.action.value}.{word}", bulk.filter, details)
        ledger.note(f"operation_{word}", action=bulk.action.value, filter=bulk.filter, **details)


def _is_so(now: Now, task: Task, bulk: Bulk) -> bool:
    """Tell whether it is done already: what was postponed is met again at its new place."""
    if bulk.action is Action.RESCHEDULE:
        if task.state is State.READY:
            return bulk.at_ms <= now.wall_ms
        return task.due_ms == bulk.at_ms
    return bulk.action is Action.CANCEL and task.cancelling
