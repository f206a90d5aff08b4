"""Find the tasks that a filter means, page by page, in bounded steps, by the cheapest index.

    filter restricts            what is read                               order
    id                          the records                                by id
    state to leased, running    memory, while it holds not too many        by id
    state to ready              rows of ready tasks of fitting queues      as they will be granted,
                                                                           held ones last
    state to scheduled          rows of timers                             by due time
    state to dead               rows of dead letters of fitting handlers   by handler, latest first
    state to other ended ones   rows of ended tasks, from their end        removed last comes first
    anything else               all records, from their end                latest id first

A ``Listing`` asks for reads and takes their results; whoever drives it may stop between any two,
and gets a cursor that goes on from there. So no read is longer than a few hundred records, and no
snapshot of the store is held from one to the next: a task that changes while pages are turned may
be met twice, or not at all.

Index rows may be stale, and memory is ahead of the store: the task in memory, or else its record,
decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Read, Scan
from coordinator.core.filters.language import Filter
from coordinator.core.filters.predicate import compile_filter, handler_names
from coordinator.core.filters.times import Moment
from coordinator.core.ledger import Ledger
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.task import Task
from protocol import ids
from protocol.messages import Priority, State

CHUNK = 256
"""Records read at once."""
ROWS = 4
"""Index rows read at once; each stands for up to ``layout.ROW_ENTRIES_MAX`` tasks."""
LEASED_MAX = 20_000
"""Leases that are sorted for one page; beyond that the records are read."""
SCANNED_MAX = 50_000
"""Tasks looked at for one page, however few of them are meant."""
_ENDED = {state.name.lower() for state in State if state.terminal}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended."""

    plan: str
    """The letter of what is read."""
    now_ms: int
    """The time of day of the first page: ``since=1h`` means the same hour on all of them."""
    key: bytes
    """The last key that was looked at, or the first one that was not looked at whole."""
    skip: int = 0
    """Entries of the row under ``key`` that were looked at; 0: it is done with."""


class ForeignCursor(ValueError):
    """Raised when a page is asked for by another filter than the one before it."""


@dataclass(frozen=True, slots=True)
class _Row:
    key: bytes
    ids: list[bytes]
    skip: int


class Listing:
    """One page in the making.

    Args:
        ledger: Memory of the shard; only read.
        wanted: Which tasks are meant.
        now: The clocks.
        limit: How many tasks the page may hold.
        cursor: Where the page before ended.
        scanned_max: How many tasks are looked at for it, or a few more; None means the usual.

    Raises:
        ForeignCursor: It is that of another filter.
    """

    def __init__(  # noqa: PLR0913 (what is read, and how much of it)
        self,
        ledger: Ledger,
        wanted: Filter,
        now: Now,
        *,
        limit: int,
        cursor: Cursor | None = None,
        scanned_max: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._limit = limit
        self._scanned_max = SCANNED_MAX if scanned_max is None else scanned_max
        plan = _plan(ledger, wanted)
        if cursor is not None and cursor.plan != plan:
            if plan not in "lt" or cursor.plan not in "lt":
                raise ForeignCursor("the cursor belongs to another filter")
            plan = cursor.plan  # There are more or fewer leases than there were.
        self._plan = plan
        self._now_ms = cursor.now_ms if cursor else now.wall_ms
        self._means = compile_filter(wanted, self._now_ms)
        self._at = cursor
        self._seen: set[bytes] = set()
        self._rows: list[_Row] | None = None
        """Rows whose records have been asked for."""
        self._ranges = self._key_ranges()
        self._range: tuple[bytes, bytes] | None = next(self._ranges, None)
        self.found: list[Task] = []
        self.scanned = 0
        self.done = False
        """Whether nothing is left behind this page."""
        if self._plan == "l":
            self._take_leased()
        elif self._range is None:
            self.done = True

    @property
    def full(self) -> bool:
        """Whether the page ends here, by its limit or because enough was looked at."""
        return len(self.found) >= self._limit or self.scanned >= self._scanned_max

    @property
    def cursor(self) -> Cursor | None:
        """Where the next page goes on; None if there is none."""
        return None if self.done else self._at

    # Driving

    def reads(self) -> list[Read]:
        """Return what to read next; empty when the page is complete."""
        if self.done or self.full:
            return []
        if self._plan == "i":
            return [GetMany([layout.task_key(task_id) for task_id in self._exact_ids()])]
        if self._rows is not None:
            waiting, leased = self._ledger.waiting, self._ledger.leased
            wanted = [i for row in self._rows for i in row.ids[row.skip :]]
            return [GetMany([b"t" + i for i in wanted if i not in waiting and i not in leased])]
        assert self._range is not None
        count = CHUNK if self._plan in "td" else ROWS
        return [Scan(*self._range, count, self._plan in "txd")]

    def take(self, results: list[object]) -> None:
        """Take what was read."""
        (result,) = results
        if isinstance(result, dict):
            self._take_records(result)
        elif isinstance(result, list):
            self._take_pairs(result)

    # What was read

    def _take_pairs(self, pairs: list[tuple[bytes, bytes]]) -> None:
        if not pairs:
            self._range = next(self._ranges, None)
            self.done = self._range is None
        elif self._plan == "t":
            for key, record in pairs:
                self._look(key[1:], record)
                self._reached(key)
                if self.full:
                    return
        else:
            at = self._at
            self._rows = [
                _Row(key, self._entries(key, value), at.skip if at and at.key == key else 0)
                for key, value in pairs
            ]

    def _take_records(self, records: dict[bytes, bytes]) -> None:
        if self._plan == "i":
            self._take_exact(records)
            return
        rows, self._rows = self._rows or [], None
        for key, entries, skip in [(row.key, row.ids, row.skip) for row in rows]:
            for place in range(skip, len(entries)):
                task_id = entries[place]
                self._look(task_id, records.get(b"t" + task_id))
                if self.full and place + 1 < len(entries):
                    self._reached(key, place + 1)
                    return
            self._reached(key)
            if self.full:
                return

    def _take_exact(self, records: dict[bytes, bytes]) -> None:
        for task_id in self._exact_ids():
            self._look(task_id, records.get(layout.task_key(task_id)))
            self._at = Cursor("i", self._now_ms, task_id)
            if self.full:
                return
        self.done = True

    def _reached(self, key: bytes, skip: int = 0) -> None:
        """Note how far everything has been looked at."""
        self._at = Cursor(self._plan, self._now_ms, key, skip)
        assert self._range is not None
        start, end = self._range
        if self._plan in "txd":
            self._range = (start, layout.after(key) if skip else key)
        else:
            self._range = (key if skip else layout.after(key), end)

    def _look(self, task_id: bytes, record: bytes | None) -> None:
        self.scanned += 1
        ledger = self._ledger
        task = ledger.leased.get(task_id) or ledger.waiting.get(task_id)
        if task is None and record is not None:
            task = ledger.peek(task_id, record)
        if task is not None and task_id not in self._seen and self._means(task):
            self._seen.add(task_id)
            self.found.append(task)

    def _entries(self, key: bytes, value: bytes) -> list[bytes]:
        try:
            if self._plan == "d":
                return [layout.dead_of(key)[1]]
            if self._plan == "s":
                return [entry[2] for entry in layout.split_timers(key, value) if entry[1] == 0]
            return layout.split_ids(key, value)
        except layout.Damaged:
            return []  # Who needs the row finds it, and what was in it.

    # What is to be read

    def _take_leased(self) -> None:
        start = self._at.key if self._at else b""
        for task_id in sorted(task_id for task_id in self._ledger.leased if task_id > start):
            self._look(task_id, None)
            self._at = Cursor("l", self._now_ms, task_id)
            if self.full:
                return
        self.done = True

    def _exact_ids(self) -> list[bytes]:
        start = self._at.key if self._at else b""
        exact = [ids.from_text(str(value)) for value in self._wanted.only("id") or ()]
        return sorted(task_id for task_id in exact if task_id > start)

    def _key_ranges(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the ranges of keys that are left, in the order in which they are read."""
        at = self._at
        if self._plan == "i":
            yield b"", b""
        elif self._plan == "r":
            for start, end in self._queue_ranges():
                first = (
                    at.key if at is not None and at.skip else layout.after(at.key) if at else b""
                )
                if first < end:
                    yield max(start, first), end
        elif self._plan == "d":
            for start, end in self._dead_ranges():
                last = end if at is None else min(end, at.key)
                if start < last:
                    yield start, last
        elif self._plan in "stx":
            start, end = (
                _id_range(self._wanted)
                if self._plan == "t"
                else layout.range_of(self._plan.encode())
            )
            if at is not None and self._plan == "s":
                start = at.key if at.skip else layout.after(at.key)
            elif at is not None:
                end = layout.after(at.key) if at.skip else at.key
            yield start, end

    def _dead_ranges(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the dead letters of each fitting handler, from a time on if that is restricted.

        Those of the handler with the largest number come first: all are read from their end.
        """
        fits = handler_names(self._wanted)
        since = self._wanted.only("since") or ()
        since_ms = max([m.wall_ms(self._now_ms) for m in since if isinstance(m, Moment)], default=0)
        for number in sorted(self._ledger.handlers_by_number, reverse=True):
            handler = self._ledger.handlers_by_number[number]
            if handler.dead and fits(handler.name):
                yield layout.dead_range(number, max(0, since_ms))

    def _queue_ranges(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows of each queue that may hold what is meant, in key order."""
        fits = handler_names(self._wanted)
        priorities = self._wanted.only("priority")
        ranges = [
            rows_of(queue)
            for handler in self._ledger.handlers.values()
            if handler.ready and fits(handler.name)
            for queue in handler.all_queues
            if queue.count
            and (priorities is None or Priority(queue.priority).name.lower() in priorities)
        ]
        yield from sorted(ranges)


def rows_of(queue: ReadyQueue) -> tuple[bytes, bytes]:
    """Return the range of a queue's rows."""
    return queue.range_after(0)


def _plan(ledger: Ledger, wanted: Filter) -> str:
    exact = wanted.only("id")
    if exact is not None and not any("*" in str(value) for value in exact):
        return "i"
    states = wanted.only("state")
    if states is None:
        return "t"
    if states <= {"leased", "running"} and len(ledger.leased) <= LEASED_MAX:
        return "l"
    for letter, whose in (("r", {"ready"}), ("s", {"scheduled"}), ("d", {"dead"}), ("x", _ENDED)):
        if states and states <= whose:
            return letter
    return "t"


def _id_range(wanted: Filter) -> tuple[bytes, bytes]:
    """Return the records whose ids may fit: all, or those that begin as one pattern says."""
    patterns = wanted.only("id")
    if patterns is None or len(patterns) != 1:
        return layout.range_of(b"t")
    (pattern,) = patterns
    digits = str(pattern).rstrip("*").replace("-", "")
    return b"t" + bytes.fromhex(digits.ljust(32, "0")), b"t" + bytes.fromhex(
        digits.ljust(32, "f")
    ) + b"\0"
