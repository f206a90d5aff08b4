"""A record says what was written, or that it was changed since."""

import pytest

from coordinator.core import records
from coordinator.core.handler import Handler
from coordinator.core.task import Task
from protocol.messages import AttemptRecord, Result, State
from tests.support.builders import FIRST_MS, task_id

HANDLER = Handler(1, "email.send")
NOT_RECORDED = {"row", "session", "granted_ms", "running_since_ms"}


def a_task() -> Task:
    """Return a task of which every recorded field is set."""
    task = Task(task_id(), HANDLER, 2, b"payload", 7)
    task.state = State.SUCCEEDED
    task.content_type, task.collection = "text/plain", "c"
    task.options = {"attempts_max": 3}
    task.content_crc, task.token = 0xFFFFFFFF, 1 << 40
    task.submitted_ms, task.due_ms, task.expires_ms = FIRST_MS, FIRST_MS + 1, FIRST_MS + 2
    task.finished_ms = FIRST_MS + 3
    task.attempts, task.deliveries, task.crashes, task.deferrals = 1, 2, 3, 4
    task.result, task.error = Result(None, b"42"), "why"
    task.history = [AttemptRecord(1, FIRST_MS, 5, 0, "host-1", "ValueError", "bad", "trace")]
    return task


def test_task_comes_back_as_it_was() -> None:
    task = a_task()

    back = records.decode(task.id, records.encode(task), {1: HANDLER}.__getitem__)

    for name in set(Task.__slots__) - NOT_RECORDED:
        assert getattr(back, name) == getattr(task, name), name


def test_any_changed_byte_is_noticed() -> None:
    record = records.encode(a_task())
    for place in range(len(record)):
        changed = bytearray(record)
        changed[place] ^= 0x40
        with pytest.raises(records.RecordCorrupt):
            records.decode_list(bytes(changed))


def test_record_cut_short_is_noticed() -> None:
    record = records.encode(a_task())
    for length in range(len(record)):
        with pytest.raises(records.RecordCorrupt):
            records.decode_list(record[:length])
