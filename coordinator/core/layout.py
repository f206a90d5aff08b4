"""Where everything lies in the store: the keys, and the values of the index rows.

    t id                        task record                   (core.records)
    p id                        payload too large for the record
    r handler priority row      ready tasks                   ids
    s due row                   timers                        due, kind, id; ...
    x when row                  ended tasks to remove         ids
    g row                       leases of one grant           incarnation; id, token; ...
    h handler                   a handler's name, policy, counts
    n incarnation               a session

Numbers are big-endian, so that key order is time order. ``row`` numbers only grow.

An index row stands for many tasks, which keeps the operations per task near two. The price is a
rule that all readers obey: **an index row may be stale, but is never missing.** The task's record
and the leases decide; an entry that they contradict is skipped. A row is removed when the last of
its tasks has left.
"""

from collections.abc import Iterable, Iterator

ROW_ENTRIES_MAX = 256
"""Entries of one index row; bounds what one scan brings into memory."""

_ID = 16
_TIMER = 25
_LEASE = 24

TIMER_DUE = 0
"""The task becomes ready."""
TIMER_EXPIRE = 1
"""The task expires if it waits."""


def task_key(task_id: bytes) -> bytes:
    """Return the key of a task's record."""
    return b"t" + task_id


def payload_key(task_id: bytes) -> bytes:
    """Return the key of a payload stored apart from its record."""
    return b"p" + task_id


def ready_key(handler: int, priority: int, row: int) -> bytes:
    """Return the key of a row of ready tasks."""
    return b"r" + handler.to_bytes(4, "big") + priority.to_bytes(1, "big") + row.to_bytes(8, "big")


def ready_row(key: bytes) -> int:
    """Return the row number in a ready key."""
    return int.from_bytes(key[6:14], "big")


def timer_key(due_ms: int, row: int) -> bytes:
    """Return the key of a row of timers; ``due_ms`` is the earliest of its entries."""
    return b"s" + due_ms.to_bytes(8, "big") + row.to_bytes(8, "big")


def retention_key(when_ms: int, row: int) -> bytes:
    """Return the key of a row of ended tasks that are removed at ``when_ms``."""
    return b"x" + when_ms.to_bytes(8, "big") + row.to_bytes(8, "big")


def due_of(key: bytes) -> int:
    """Return the time in a timer or retention key."""
    return int.from_bytes(key[1:9], "big")


def grant_key(row: int) -> bytes:
    """Return the key of the leases of one grant."""
    return b"g" + row.to_bytes(8, "big")


def handler_key(handler: int) -> bytes:
    """Return the key of a handler."""
    return b"h" + handler.to_bytes(4, "big")


def handler_of(key: bytes) -> int:
    """Return the number in a handler key."""
    return int.from_bytes(key[1:5], "big")


def session_key(incarnation: bytes) -> bytes:
    """Return the key of a session."""
    return b"n" + incarnation


def after(key: bytes) -> bytes:
    """Return the first key behind ``key``."""
    return key + b"\x00"


def range_of(letter: bytes) -> tuple[bytes, bytes]:
    """Return start and end of all keys of one kind."""
    return letter, bytes([letter[0] + 1])


def join_ids(ids: Iterable[bytes]) -> bytes:
    """Return the value of a row of ids."""
    return b"".join(ids)


def split_ids(value: bytes) -> list[bytes]:
    """Return the ids of a row."""
    return [value[i : i + _ID] for i in range(0, len(value) - _ID + 1, _ID)]


def join_timers(entries: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return the value of a row of timers: due, kind and id of each."""
    return b"".join(
        [due.to_bytes(8, "big") + kind.to_bytes(1, "big") + task for due, kind, task in entries]
    )


def split_timers(value: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield due, kind and id of each timer in a row."""
    for i in range(0, len(value) - _TIMER + 1, _TIMER):
        yield int.from_bytes(value[i : i + 8], "big"), value[i + 8], value[i + 9 : i + _TIMER]


def join_leases(incarnation: bytes, leases: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the value of a grant: who holds it, then id and token of each lease."""
    return incarnation + b"".join([task + token.to_bytes(8, "big") for task, token in leases])


def split_leases(value: bytes) -> tuple[bytes, list[tuple[bytes, int]]]:
    """Return the holder and the leases of a grant."""
    return value[:_ID], [
        (value[i : i + _ID], int.from_bytes(value[i + _ID : i + _LEASE], "big"))
        for i in range(_ID, len(value) - _LEASE + 1, _LEASE)
    ]
