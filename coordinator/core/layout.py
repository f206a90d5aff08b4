"""Where everything lies in the store: the keys, and the values of the index rows.

    t id                        task record                   (core.records)
    p id                        payload too large for the record
    r handler priority row      ready tasks                   ids
    s due row                   timers                        due, kind, id; ...
    x when row                  ended tasks to remove         ids
    g row                       leases of one grant           incarnation; id, token; ...
    h handler                   a handler's name, policy, counts
    m handler                   its name once more: without it, its tasks are nobody's
    n incarnation               a session
    i                           there while the rows of tasks are found again (core.reindexing)
    z                           there after a restore, until no lease from before it can be alive
    o handler 0 collection      a gate                        what, who, why, until when
    k park                      where a held collection waits handler, collection, counts
    w park priority row         its ready tasks               ids
    v handler                   an operator's changes of a policy
    a number                    what an operator has done (core.audit)
    d handler when id           a dead letter                 error type, pattern of its message
    b number                    a change of many tasks        (core.bulk)
    q sidecar                   a drain                       who, why, since when

Numbers are big-endian, so that key order is time order. ``row`` numbers only grow.

Stores return a flipped bit as good data. So every value begins with a checksum (CRC-32) of its key
and of what follows, and is read through ``unseal``; the key is in it so that a row in another's
place is seen too. Payloads alone have theirs elsewhere: in their task's record (core.payloads).

An index row stands for many tasks, which keeps the operations per task near two. The price is a
rule that all readers obey: **an index row may be stale, but is never missing.** The task's record
and the leases decide; an entry that they contradict is skipped. A row is removed when the last of
its tasks has left.
"""

from collections.abc import Iterable
from zlib import crc32

ROW_ENTRIES_MAX = 256
"""Entries of one index row; bounds what one scan brings into memory."""

REINDEX_KEY = b"i"
RESTORED_KEY = b"z"
_CRC = 4
_ID = 16
_TIMER = 25
_LEASE = 24

TIMER_DUE = 0
"""The task becomes ready."""
TIMER_EXPIRE = 1
"""The task expires if it waits."""
TimerEntry = tuple[int, int, bytes]
"""Due time, kind and task of a timer."""


class Damaged(Exception):
    """Raised when a value is not what was written under its key: the medium has changed it."""


def seal(key: bytes, body: bytes) -> bytes:
    """Return the value that is stored for ``body`` under a key."""
    return crc32(body, crc32(key)).to_bytes(_CRC, "big") + body


def unseal(key: bytes, value: bytes) -> bytes:
    """Return what was stored under a key.

    Raises:
        Damaged: The value is not what was written there.
    """
    body = value[_CRC:]
    if crc32(body, crc32(key)) != int.from_bytes(value[:_CRC], "big") or not body:
        raise Damaged("the checksum does not match")
    return body


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
    """Return the row number in a key of ready tasks, parked or not."""
    return int.from_bytes(key[-8:], "big")


def park_key(park: int) -> bytes:
    """Return the key of a park."""
    return b"k" + park.to_bytes(8, "big")


def number_of(key: bytes) -> int:
    """Return the number in the key of a park or of an audit row."""
    return int.from_bytes(key[1:9], "big")


def parked_key(park: int, priority: int, row: int) -> bytes:
    """Return the key of a row of parked tasks."""
    return b"w" + park.to_bytes(8, "big") + priority.to_bytes(1, "big") + row.to_bytes(8, "big")


def gate_key(handler: str, collection: str) -> bytes:
    """Return the key of a gate; it tells the scope, so that this outlasts a damaged value."""
    return b"o" + handler.encode() + b"\0" + collection.encode()


def scope_of(key: bytes) -> tuple[str, str]:
    """Return handler and collection in the key of a gate."""
    handler, _, collection = key[1:].decode("utf-8", "replace").partition("\0")
    return handler, collection


def drain_key(sidecar: str) -> bytes:
    """Return the key of a drain; it tells the name, so that this outlasts a damaged value."""
    return b"q" + sidecar.encode()


def drained_sidecar(key: bytes) -> str:
    """Return the name in the key of a drain."""
    return key[1:].decode("utf-8", "replace")


def override_key(handler: int) -> bytes:
    """Return the key of an operator's changes of a handler's policy."""
    return b"v" + handler.to_bytes(4, "big")


def audit_key(number: int) -> bytes:
    """Return the key of an audit row."""
    return b"a" + number.to_bytes(8, "big")


def dead_key(handler: int, finished_ms: int, task_id: bytes) -> bytes:
    """Return the key of a dead letter; it tells all that is needed to find the task."""
    return b"d" + handler.to_bytes(4, "big") + finished_ms.to_bytes(8, "big") + task_id


def dead_range(handler: int, since_ms: int = 0) -> tuple[bytes, bytes]:
    """Return the range of a handler's dead letters, from a time on."""
    start = b"d" + handler.to_bytes(4, "big")
    return start + since_ms.to_bytes(8, "big"), start + b"\xff" * 25


def dead_of(key: bytes) -> tuple[int, bytes]:
    """Return time and task in the key of a dead letter."""
    return int.from_bytes(key[5:13], "big"), key[13:]


def bulk_key(number: int) -> bytes:
    """Return the key of a change of many tasks."""
    return b"b" + number.to_bytes(8, "big")


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


def name_key(handler: int) -> bytes:
    """Return the key of the second copy of a handler's name."""
    return b"m" + handler.to_bytes(4, "big")


def session_key(incarnation: bytes) -> bytes:
    """Return the key of a session."""
    return b"n" + incarnation


def after(key: bytes) -> bytes:
    """Return the first key behind ``key``."""
    return key + b"\x00"


def range_of(letter: bytes) -> tuple[bytes, bytes]:
    """Return start and end of all keys of one kind."""
    return letter, bytes([letter[0] + 1])


def join_ids(key: bytes, ids: Iterable[bytes]) -> bytes:
    """Return the value of a row of ids."""
    return seal(key, b"".join(ids))


def split_ids(key: bytes, value: bytes) -> list[bytes]:
    """Return the ids of a row.

    Raises:
        Damaged: As all of these: the row is not what was written.
    """
    body = unseal(key, value)
    return [body[i : i + _ID] for i in range(0, len(body), _ID)]


def join_timers(key: bytes, entries: Iterable[TimerEntry]) -> bytes:
    """Return the value of a row of timers."""
    return seal(
        key,
        b"".join(
            [due.to_bytes(8, "big") + kind.to_bytes(1, "big") + task for due, kind, task in entries]
        ),
    )


def split_timers(key: bytes, value: bytes) -> list[TimerEntry]:
    """Return the timers of a row."""
    body = unseal(key, value)
    return [
        (int.from_bytes(body[i : i + 8], "big"), body[i + 8], body[i + 9 : i + _TIMER])
        for i in range(0, len(body), _TIMER)
    ]


def join_leases(key: bytes, incarnation: bytes, leases: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the value of a grant: who holds it, then id and token of each lease."""
    entries = [task + token.to_bytes(8, "big") for task, token in leases]
    return seal(key, incarnation + b"".join(entries))


def split_leases(key: bytes, value: bytes) -> tuple[bytes, list[tuple[bytes, int]]]:
    """Return the holder and the leases of a grant."""
    body = unseal(key, value)
    return body[:_ID], [
        (body[i : i + _ID], int.from_bytes(body[i + _ID : i + _LEASE], "big"))
        for i in range(_ID, len(body), _LEASE)
    ]
