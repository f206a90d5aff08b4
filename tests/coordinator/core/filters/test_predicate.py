"""Which tasks a filter means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.filters.language import parse
from coordinator.core.filters.predicate import compile_filter
from coordinator.core.handler import Handler
from coordinator.core.sessions import Session
from coordinator.core.task import Task
from protocol.ids import to_text
from protocol.messages import AttemptRecord, Priority, State
from tests.support.builders import task_id

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def a_task(handler: str = "mail.send", **fields: Any) -> Task:
    task = Task(task_id(), Handler(1, handler), Priority.NORMAL, b"", 0)
    task.submitted_ms = task.due_ms = NOW_MS - 2 * HOUR_MS
    for name, value in fields.items():
        setattr(task, name, value)
    return task


def failed(error_type: str, message: str = "", *, ago_ms: int = HOUR_MS) -> AttemptRecord:
    return AttemptRecord(1, NOW_MS - ago_ms, 0, 1, "host-1", error_type, message, "")


def means(text: str, task: Task) -> bool:
    return compile_filter(parse(text), NOW_MS)(task)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "handler=mail.send",
        "handler=mail.*",
        "handler=*.send",
        "handler=other.x,mail.*",
        "handler~AIL",
        "handler!=other.*",
        "handler!~other",
        "state=dead,expired",
        "state!=ready",
        "priority=high",
        "collection=spring",
        "collection=s*g",
        "sidecar=host-1",
        "error~TIMEOUT",
        'error~"after 60"',
        "error_type=timeout",
        "attempts=3",
        "attempts>=3",
        "attempts<4",
        "attempts>2",
        "attempts<=3",
        "attempts!=2",
        "since=1h",
        "until=59m",
        f"id={to_text(task_id())}",
        f"id={to_text(task_id())[:9]}*",
        "handler=mail.* state=dead error~timeout since=1h attempts>=3",
    ],
)
def test_task_that_is_meant_is_found(text: str) -> None:
    task = a_task(
        state=State.DEAD,
        priority=Priority.HIGH,
        collection="spring",
        attempts=3,
        error="3 attempts used up; last: timeout: after 60 s",
        finished_ms=NOW_MS - HOUR_MS,
        history=[failed("timeout", "after 60 s")],
    )
    assert means(text, task)


@pytest.mark.parametrize(
    "text",
    [
        "handler=mail",
        "handler=mail.sendx",
        "handler=MAIL.send",
        "handler!=mail.*",
        "state=dead",
        "priority!=normal",
        "collection=spring",
        'collection!=""',
        "error~x",
        "error_type!~oo",
        "attempts>0",
        "since=1h",
        "until=2h1m",
        "id!=018*,0*",
    ],
)
def test_task_that_is_not_meant_is_not_found(text: str) -> None:
    task = a_task(history=[failed("boom", ago_ms=3 * HOUR_MS)])
    assert not means(text, task)


def test_states_are_those_that_observers_see() -> None:
    running = a_task(state=State.LEASED, running_since_ms=NOW_MS)
    due = a_task(state=State.SCHEDULED)
    later = a_task(state=State.SCHEDULED, due_ms=NOW_MS + 1)

    assert means("state=running", running)
    assert not means("state=leased", running)
    assert means("state=ready", due)
    assert means("state=scheduled", later)


def test_sidecar_is_the_holder_or_who_tried_last() -> None:
    held = a_task(history=[failed("boom")])
    held.session = Session(bytes(16), "host-2", "mail", 1000)

    assert means("sidecar=host-2", held)
    assert means("sidecar=host-1", a_task(history=[failed("boom")]))
    assert means('sidecar=""', a_task())


def test_task_counts_as_touched_by_its_latest_attempt() -> None:
    task = a_task(history=[failed("boom", ago_ms=1000)])
    assert means("since=1s", task)
    assert not means("since=999ms", task)


@given(st.lists(st.sampled_from("ab.*"), max_size=6).map("".join), st.text("ab.", max_size=6))
def test_star_stands_for_anything_and_nothing_else_is_special(pattern: str, name: str) -> None:
    def fits(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return any(fits(pattern[1:], name[i:]) for i in range(len(name) + 1))
        return name[:1] == pattern[0] and fits(pattern[1:], name[1:])

    assert means(f'handler="{pattern}"', a_task(name)) == fits(pattern, name)
    assert means(f'handler!="{pattern}"', a_task(name)) != fits(pattern, name)
