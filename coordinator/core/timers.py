"""What becomes due at a time of day: delayed tasks, retries, expiry.

The nearest timers are in memory, whole rows at a time; rows beyond ``horizon`` are in the store
only, and are read when the rest runs low. An entry says only *look at this task now*: whether
something is due is decided by the task's record, so a stale entry does no harm.
"""

import heapq
from collections.abc import Callable
from typing import NamedTuple

from coordinator.core.effects import Scan
from coordinator.core.layout import (
    ROW_ENTRIES_MAX,
    TimerEntry,
    after,
    due_of,
    join_timers,
    range_of,
    timer_key,
)
from coordinator.core.task import Row

WINDOW_MAX = 32_768
"""Timers kept in memory, some hundred bytes each."""
WINDOW_LOW = 2_048
LOAD_ROWS = 128
_BUCKET_BITS = 10
"""Timers of one second or so share a row."""


class Timer(NamedTuple):
    """One timer; orders by its due time."""

    due_ms: int
    kind: int
    """``layout.TIMER_DUE`` or ``layout.TIMER_EXPIRE``."""
    id: bytes
    row: Row

    def __lt__(self, other: tuple[object, ...]) -> bool:
        return self[:3] < other[:3]


class Timers:
    """All timers of a shard."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._fresh: list[tuple[int, int, bytes]] = []
        self._horizon: bytes | None = None
        """Key of the last row in memory; None when no row is in the store only."""
        self._loading = False
        self._arrived: list[tuple[bytes, list[Timer]]] = []
        """Rows written while others are being read: their place is known only afterwards."""

    def add(self, due_ms: int, kind: int, task_id: bytes) -> None:
        """Set a timer; it is in force after the next ``write``."""
        self._fresh.append((due_ms, kind, task_id))

    def next_ms(self) -> int | None:
        """Return the time of the nearest timer in memory."""
        return self._heap[0].due_ms if self._heap else None

    def take_due(self, wall_ms: int, count_max: int) -> list[Timer]:
        """Remove and return timers that are due."""
        heap = self._heap
        due: list[Timer] = []
        while heap and heap[0].due_ms <= wall_ms and len(due) < count_max:
            due.append(heapq.heappop(heap))
        return due

    def write(self, next_row: Callable[[], int], writes: dict[bytes, bytes | None]) -> None:
        """Write the rows of new timers, and take those into memory that belong there."""
        if not self._fresh:
            return
        fresh, self._fresh = sorted(self._fresh), []
        start = 0
        for end in range(1, len(fresh) + 1):
            first = fresh[start][0]
            if (
                end == len(fresh)
                or fresh[end][0] >> _BUCKET_BITS != first >> _BUCKET_BITS
                or end - start == ROW_ENTRIES_MAX
            ):
                entries = fresh[start:end]
                key = timer_key(first, next_row())
                writes[key] = join_timers(key, entries)
                self._arrive(key, entries)
                start = end
        if len(self._heap) > WINDOW_MAX and not self._loading:
            self._trim()

    def _arrive(self, key: bytes, entries: list[tuple[int, int, bytes]]) -> None:
        row = Row(key, len(entries))
        timers = [Timer(*entry, row) for entry in entries]
        if self._horizon is None or key <= self._horizon:
            self._push(timers)
        elif self._loading:
            self._arrived.append((key, timers))

    def _push(self, timers: list[Timer]) -> None:
        for timer in timers:
            heapq.heappush(self._heap, timer)

    def _trim(self) -> None:
        """Leave the later half of the rows to the store."""
        keys = sorted({timer.row.key for timer in self._heap})
        horizon = keys[(len(keys) - 1) // 2]
        self._heap = [timer for timer in self._heap if timer.row.key <= horizon]
        heapq.heapify(self._heap)
        self._horizon = horizon

    def begin_recovery(self) -> None:
        """Start with nothing in memory and everything in the store."""
        self._horizon = range_of(b"s")[0]

    def wants_rows(self) -> Scan | None:
        """Return the read that is needed now, and note that it is under way."""
        if self._horizon is None or self._loading or not self._runs_low(self._horizon):
            return None
        self._loading = True
        return Scan(after(self._horizon), range_of(b"s")[1], LOAD_ROWS)

    def _runs_low(self, horizon: bytes) -> bool:
        """Tell whether a row in the store only may hold the next timer, or few are in memory.

        Rows of one second overlap: one beyond the horizon may be due as early as the horizon is.
        """
        count = len(self._heap)
        return count < WINDOW_LOW or (count < WINDOW_MAX and self._heap[0].due_ms > due_of(horizon))

    def loaded(self, rows: list[tuple[bytes, list[TimerEntry]]]) -> None:
        """Take the rows that were read; a damaged one has no entries."""
        self._loading = False
        for key, entries in rows:
            row = Row(key, len(entries))
            self._push([Timer(*entry, row) for entry in entries])
        self._horizon = rows[-1][0] if len(rows) == LOAD_ROWS else None
        arrived, self._arrived = self._arrived, []
        for key, timers in arrived:
            if self._horizon is None or key <= self._horizon:
                self._push(timers)
