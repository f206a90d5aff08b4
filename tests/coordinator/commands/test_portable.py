"""A task as a line of JSON is the same task when it is read; whatever else is a line is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.commands import portable
from coordinator.core.effects import Now
from coordinator.core.handler import Handler
from coordinator.core.task import Task
from protocol.messages import Priority, State
from tests.support.builders import task_id

NOW = Now(0, 1_800_000_000_000)
HOUR_MS = 3_600_000


def a_task(**changes: Any) -> Task:
    task = Task(task_id(1), Handler(1, "mail.send"), Priority.HIGH, b'{"to":"a@b.c"}', 14)
    task.submitted_ms = task.due_ms = NOW.wall_ms - HOUR_MS
    for name, value in changes.items():
        setattr(task, name, value)
    return task


def again(task: Task, payload: bytes | None) -> Any:
    return portable.to_submission(portable.read(portable.to_line(task, payload).encode()), NOW)


def test_task_that_is_written_and_read_is_the_same() -> None:
    task = a_task(collection="spring", content_type="text/plain", options={"attempts_max": 3})

    submission = again(task, task.payload)

    assert submission.id == task.id
    assert submission.handler == "mail.send"
    assert submission.payload == task.payload
    assert submission.content_type == "text/plain"
    assert submission.options == {"attempts_max": 3, "priority": 1, "collection": "spring"}


def test_payload_stands_as_json_where_its_bytes_come_back() -> None:
    assert json.loads(portable.to_line(a_task(), b'{"to":"a@b.c"}'))["payload"] == {"to": "a@b.c"}
    assert "payload_base64" in json.loads(portable.to_line(a_task(), b'{"to": "a@b.c"}'))
    assert "payload_base64" in json.loads(portable.to_line(a_task(), b"\xff\x00"))
    assert "payload_base64" in json.loads(portable.to_line(a_task(), b""))


@given(st.binary(max_size=50) | st.text(max_size=50).map(lambda text: json.dumps(text).encode()))
def test_every_payload_comes_back_to_the_byte(payload: bytes) -> None:
    assert again(a_task(), payload).payload == payload


def test_due_time_to_come_and_expiry_are_kept() -> None:
    due_ms = NOW.wall_ms + HOUR_MS
    options = again(a_task(due_ms=due_ms, expires_ms=due_ms + 5), b"").options
    assert options["at_ms"] == due_ms and options["expires_ms"] == 5

    options = again(a_task(expires_ms=NOW.wall_ms + HOUR_MS), b"").options
    assert "at_ms" not in options and options["expires_ms"] == HOUR_MS

    assert again(a_task(expires_ms=NOW.wall_ms - 1), b"").options["expires_ms"] == 1


def test_states_that_have_ended_are_known_by_name() -> None:
    line = portable.to_line(a_task(state=State.DEAD), b"")
    assert portable.read(line.encode())["state"] in portable.ENDED
    assert "ready" not in portable.ENDED and "scheduled" not in portable.ENDED


ID = "018f2b4c-5a3e-7c10-8a44-2f1f0a9b3c5d"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"id": "x", "hanlder": "a.b"}', "'hanlder'"),
        ('{"handler": "a.b", "payload": 1}', "'id'"),
        ('{"id": "x", "handler": "a.b", "payload": 1}', "not a task id"),
        (f'{{"id": "{ID}", "handler": "a.b"}}', "no payload"),
        (f'{{"id": "{ID}", "handler": "a.b", "payload_base64": "%"}}', ""),
        (f'{{"id": "{ID}", "handler": "a.b", "payload": 1, "priority": "top"}}', "TOP"),
        (f'{{"id": "{ID}", "handler": "a.b", "payload": 1, "priority": 7}}', ""),
        (f'{{"id": "{ID}", "handler": "a.b", "payload": 1, "options": [1]}}', ""),
        (f'{{"id": "{ID}", "handler": "a.b", "payload": 1, "due_ms": 1e999}}', ""),
        (f'{{"id": "{ID}", "handler": "a.b", "payload": 1, "options": {{"x": 1}}}}', "'x'"),
    ],
)
def test_line_that_is_no_task_is_refused_with_a_reason(line: str, why: str) -> None:
    with pytest.raises(portable.Unreadable) as refused:
        portable.to_submission(portable.read(line.encode()), NOW)
    assert why in str(refused.value)


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(line: bytes) -> None:
    with contextlib.suppress(portable.Unreadable):
        portable.to_submission(portable.read(line), NOW)
