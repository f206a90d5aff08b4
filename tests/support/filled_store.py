"""A store that holds very many tasks, written without going through a coordinator.

Of ten tasks five are ready, two scheduled, two succeeded and one is dead. Written as the core would
have, row by row, so that a coordinator that opens the store finds nothing to mend.
"""

from collections.abc import Iterator
from pathlib import Path

from coordinator.core import fingerprints, layout, records
from coordinator.core.handler import Handler
from coordinator.core.ledger import ROW_BITS
from coordinator.core.task import Task
from coordinator.store.lmdb_store import LmdbStore
from protocol.messages import AttemptRecord, OutcomeKind, Priority, State

HANDLERS = 20
STATES = (
    *(State.READY, State.SCHEDULED, State.READY, State.SUCCEEDED, State.READY),
    *(State.DEAD, State.READY, State.SCHEDULED, State.READY, State.SUCCEEDED),
)
"""Of ten tasks in a row."""
COMMIT_TASKS = 20_000
HOUR_MS = 3_600_000
MAP_BYTES = 8 * 2**30
_PAYLOAD = b'{"to": "somebody@example.org", "template": "welcome", "attempt_again": true}'
Pairs = dict[bytes, bytes | None]


def count_of(state: State, tasks: int) -> int:
    """Return how many of so many tasks are in a state; a multiple of 200 is expected."""
    return tasks // len(STATES) * STATES.count(state)


def handler_name(number: int) -> str:
    """Return the name of one of the handlers, from 0."""
    return f"{'mail' if number % 2 else 'image'}.h{number:02}"


async def fill(folder: Path, tasks: int, now_ms: int) -> None:
    """Make a store in a folder with so many tasks, a multiple of 200."""
    assert tasks % (HANDLERS * len(STATES)) == 0
    store = LmdbStore(folder, map_bytes=MAP_BYTES, allow_filesystem=True)
    ownership = await store.open()
    writer = _Writer(ownership.epoch << ROW_BITS, now_ms)
    for pairs in writer.commits(tasks):
        await store.apply(pairs)
    await store.close()


class _Writer:
    """Makes what the core would have written."""

    def __init__(self, row: int, now_ms: int) -> None:
        self._row = row
        self._now_ms = now_ms
        self._handlers = [Handler(n + 1, handler_name(n)) for n in range(HANDLERS)]
        self._counts = [[0] * 6 for _ in range(HANDLERS)]

    def commits(self, tasks: int) -> Iterator[Pairs]:
        """Yield what to commit, one after the other."""
        for first in range(0, tasks, COMMIT_TASKS):
            made = [self._task(n) for n in range(first, min(first + COMMIT_TASKS, tasks))]
            pairs: Pairs = {b"t" + task.id: records.encode(task) for task in made}
            for task in made:
                if task.state is State.DEAD:
                    key = layout.dead_key(task.handler.number, task.finished_ms, task.id)
                    fields = [fingerprints.error_type_of(task), fingerprints.pattern_of(task)]
                    pairs[key] = records.encode_list(key, fields)
            for state in (State.READY, State.SCHEDULED, State.SUCCEEDED, State.DEAD):
                self._rows(state, [task for task in made if task.state is state], pairs)
            yield pairs
        pairs = {}
        for handler, counts in zip(self._handlers, self._counts, strict=True):
            key, name = layout.handler_key(handler.number), layout.name_key(handler.number)
            pairs[key] = records.encode_list(key, [handler.name, {}, counts])
            pairs[name] = records.encode_list(name, [handler.name])
        yield pairs

    def _task(self, number: int) -> Task:
        handler = self._handlers[number // len(STATES) % HANDLERS]
        submitted = self._now_ms - HOUR_MS // 2 + number // 1_000
        value = submitted << 80 | 0x7 << 76 | 0b10 << 62 | number
        task = Task(value.to_bytes(16, "big"), handler, Priority.NORMAL, _PAYLOAD, len(_PAYLOAD))
        task.state = STATES[number % len(STATES)]
        task.submitted_ms = task.due_ms = submitted
        if number % 50 == 0:
            task.collection = "spring"
        if task.state is State.SCHEDULED:
            task.due_ms = self._now_ms + HOUR_MS + number
        elif task.state.terminal:
            task.finished_ms = submitted + 1_000
            task.deliveries = task.attempts = 1
            dead = task.state is State.DEAD
            kind = OutcomeKind.FATAL if dead else OutcomeKind.SUCCESS
            why = ("TimeoutError", "the other side did not answer") if dead else ("", "")
            task.error = ": ".join(why) if dead else ""
            task.history = [AttemptRecord(1, submitted, 900_000, int(kind), "host-1", *why, "")]
        return task

    def _rows(self, state: State, tasks: list[Task], pairs: Pairs) -> None:
        if state is State.READY:
            for handler in self._handlers:
                self._ready(handler, [task for task in tasks if task.handler is handler], pairs)
            return
        place = 4 if state is State.SCHEDULED else 5
        for task in tasks:
            if state is not State.SUCCEEDED:
                self._counts[task.handler.number - 1][place] += 1
        for group in _groups(tasks):
            self._row += 1
            if state is State.SCHEDULED:
                key = layout.timer_key(group[0].due_ms, self._row)
                pairs[key] = layout.join_timers(
                    key, [(task.due_ms, layout.TIMER_DUE, task.id) for task in group]
                )
            else:
                kept_ms = HOUR_MS if state is State.SUCCEEDED else 30 * 24 * HOUR_MS
                key = layout.retention_key(group[0].finished_ms + kept_ms, self._row)
                pairs[key] = layout.join_ids(key, [task.id for task in group])

    def _ready(self, handler: Handler, tasks: list[Task], pairs: Pairs) -> None:
        self._counts[handler.number - 1][Priority.NORMAL] += len(tasks)
        for group in _groups(tasks):
            self._row += 1
            key = layout.ready_key(handler.number, Priority.NORMAL, self._row)
            pairs[key] = layout.join_ids(key, [task.id for task in group])


def _groups(tasks: list[Task]) -> Iterator[list[Task]]:
    for start in range(0, len(tasks), layout.ROW_ENTRIES_MAX):
        yield tasks[start : start + layout.ROW_ENTRIES_MAX]
