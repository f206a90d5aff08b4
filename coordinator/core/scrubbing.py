"""Look at everything in a store, slice by slice, and name what is not as it was written.

A walk asks for reads and takes their results, as ``Listing`` does; whoever drives it decides how
long it rests in between, and holds no transaction meanwhile. Every row is unsealed by its key, of
whatever kind it is: a kind that is added later is looked at without a change here. Payloads have no
seal; they are compared with the checksum in their task's record, both read in one transaction.

What is found damaged is named, never shown, and nothing is changed: the core mends what it can as
soon as it reads it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from coordinator.core import layout, records
from coordinator.core.effects import GetMany, Read, Scan
from coordinator.core.handler import Handler
from coordinator.core.payloads import content_crc
from coordinator.core.task import Task

ROWS = 128
"""Rows of one slice. A record has a result of 256 KiB at most, nearly always of much less."""
PAYLOAD_BYTES = 4 * 2**20
"""Payloads that are read at once, unless one alone is larger."""
FINDINGS_MAX = 1_000
"""How many are named; the others are counted."""
FIRST = b"\x01"
_PAYLOADS, _END = layout.range_of(b"p"), b"\x80"
_KINDS = {
    b"t": "task",
    b"p": "payload",
    b"r": "ready",
    b"s": "timers",
    b"x": "ended",
    b"g": "leases",
    b"h": "handler",
    b"m": "handler name",
    b"n": "session",
    b"o": "gate",
    b"k": "park",
    b"w": "parked",
    b"v": "changes of a policy",
    b"a": "audit",
    b"d": "dead letter",
    b"b": "operation",
    b"q": "drain",
}


class Finding(NamedTuple):
    """One thing that is damaged."""

    kind: str
    key: str
    """Of the row, in hex."""
    problem: str


class Scrubbing:
    """One walk over all rows, or a part of it.

    Args:
        handlers: Handlers by number, as far as they are known; a whole walk learns them by itself.
        start: The key to begin with: ``FIRST``, or where another walk has left off.
    """

    def __init__(self, handlers: Mapping[int, Handler] | None = None, start: bytes = FIRST) -> None:
        self._handlers = dict(handlers or {})
        self._at: bytes | None = start
        self._waiting: list[tuple[bytes, int]] = []
        """Tasks whose payloads have not been read yet, and the size of each."""
        self._asked: list[bytes] = []
        self.rows = 0
        self.tasks = 0
        self.payloads = 0
        self.bytes = 0
        self.damaged = 0
        self.findings: list[Finding] = []

    @property
    def resume_at(self) -> bytes | None:
        """Where another walk can go on, or None at the end; only when no payload is waited for."""
        return self._at

    @property
    def between(self) -> bool:
        """Whether the walk may be left here."""
        return not self._waiting

    def reads(self) -> list[Read]:
        """Return what to read next, in one transaction; nothing once all was looked at."""
        self._asked = self._next_payloads()
        if self._asked:
            return [
                GetMany([layout.task_key(task_id) for task_id in self._asked]),
                GetMany([layout.payload_key(task_id) for task_id in self._asked]),
            ]
        if self._at is None:
            return []
        if _PAYLOADS[0] <= self._at < _PAYLOADS[1]:
            self._at = _PAYLOADS[1]
        end = _PAYLOADS[0] if self._at < _PAYLOADS[0] else _END
        return [Scan(self._at, end, ROWS)]

    def take(self, results: Sequence[Any]) -> None:
        """Take what was read."""
        if self._asked:
            self._take_payloads(*results)
            return
        rows: list[tuple[bytes, bytes]] = results[0]
        assert self._at is not None
        if len(rows) == ROWS:
            self._at = layout.after(rows[-1][0])
        else:
            self._at = _PAYLOADS[1] if self._at < _PAYLOADS[0] else None
        for key, value in rows:
            self.rows += 1
            self.bytes += len(key) + len(value)
            try:
                self._look_at(key, value)
            except layout.Damaged as damage:
                self._found(key, str(damage))

    def _look_at(self, key: bytes, value: bytes) -> None:
        letter = key[:1]
        if letter == b"t":
            self.tasks += 1
            task = self._task(key[1:], value)
            if task.payload_apart:
                self._waiting.append((task.id, task.payload_bytes))
        elif letter in (b"h", b"m"):
            name, *_ = records.decode_list(key, value)
            number = layout.handler_of(key)
            self._handlers.setdefault(number, Handler(number, str(name)))
        else:
            layout.unseal(key, value)

    def _task(self, task_id: bytes, record: bytes) -> Task:
        return records.decode(task_id, record, self._handler)

    def _handler(self, number: int) -> Handler:
        handler = self._handlers.get(number)
        if handler is None:
            raise layout.Damaged(f"nothing says which handler number {number} is")
        return handler

    # Payloads

    def _next_payloads(self) -> list[bytes]:
        size = 0
        ids: list[bytes] = []
        for task_id, payload_bytes in self._waiting:
            size += payload_bytes
            if ids and size > PAYLOAD_BYTES:
                break
            ids.append(task_id)
        return ids

    def _take_payloads(self, stored: dict[bytes, bytes], found: dict[bytes, bytes]) -> None:
        del self._waiting[: len(self._asked)]
        for task_id in self._asked:
            record = stored.get(layout.task_key(task_id))
            if record is None:
                continue  # It has been removed since.
            try:
                task = self._task(task_id, record)
            except layout.Damaged:
                continue  # Which was told with its record, or is on the next walk.
            if task.payload_apart:
                self._look_at_payload(task, found.get(layout.payload_key(task_id)))

    def _look_at_payload(self, task: Task, payload: bytes | None) -> None:
        key = layout.payload_key(task.id)
        self.payloads += 1
        if payload is None:
            self._found(key, "it is missing")
            return
        self.bytes += len(key) + len(payload)
        if content_crc(task.handler.name_crc, payload) != task.content_crc:
            self._found(key, "it is not what was submitted")

    def _found(self, key: bytes, problem: str) -> None:
        self.damaged += 1
        if len(self.findings) < FINDINGS_MAX:
            kind = _KINDS.get(key[:1], f"row of kind {chr(key[0])!r}")
            self.findings.append(Finding(kind, key.hex(), problem))
