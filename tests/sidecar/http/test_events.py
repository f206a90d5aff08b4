"""A client that follows a task gets an event for each change, until the task has ended."""

import json
from typing import Any

from protocol.errors import Code
from protocol.ids import to_text
from protocol.messages import Query, State
from sidecar.http.events import COMMENT_MS
from tests.sidecar.http.wire import Wire, read_response
from tests.support.builders import a_status, task_id

URL = f"/v1/tasks/{to_text(task_id())}/events"


def follow(wire: Wire, last: int | None = None) -> None:
    if last is None:
        wire.request("GET", URL)
    else:
        wire.request("GET", URL, Last_Event_ID=str(last))


def events(wire: Wire) -> list[tuple[int | None, Any]]:
    """Return the events of the stream so far, each as its id and its document."""
    response, rest = read_response(wire.transport.written)
    assert rest == b""
    assert response.headers["content-type"] == "text/event-stream"
    made: list[tuple[int | None, Any]] = []
    for block in response.body.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            made.append((None, block))
            continue
        number, kind, data = block.split("\n")
        assert kind == "event: status"
        made.append((int(number.removeprefix("id: ")), json.loads(data.removeprefix("data: "))))
    return made


def test_every_change_is_an_event_and_the_end_ends_the_stream(wire: Wire) -> None:
    follow(wire)
    wire.reply(a_status(state=State.READY, revision=3))
    wire.reply(a_status(state=State.RUNNING, revision=5, progress=500))
    wire.reply(a_status(state=State.SUCCEEDED, revision=6))

    questions = [message.questions[0] for message in wire.all(Query)]
    assert [(q.wait_ms, q.revision) for q in questions] == [
        (0, -1),
        (COMMENT_MS, 3),
        (COMMENT_MS, 5),
    ]
    assert [(n, s["state"]) for n, s in events(wire)] == [
        (3, "ready"),
        (5, "running"),
        (6, "succeeded"),
    ]
    assert wire.transport.written.endswith(b"0\r\n\r\n")


def test_time_without_a_change_is_a_comment(wire: Wire) -> None:
    follow(wire)
    wire.reply(a_status(revision=3))
    wire.reply(a_status(revision=3))

    assert [number for number, _ in events(wire)] == [3, None]
    assert len(wire.all(Query)) == 3


def test_client_that_comes_again_gets_what_it_has_not_seen(wire: Wire) -> None:
    follow(wire, last=3)
    wire.reply(a_status(revision=3))
    wire.reply(a_status(revision=4))
    assert [number for number, _ in events(wire)] == [None, 4]


def test_client_that_has_seen_the_end_is_told_to_stop_asking(wire: Wire) -> None:
    follow(wire, last=9)
    wire.reply(a_status(state=State.DEAD, revision=9))
    response = wire.response()
    assert (response.status, response.body) == (204, b"")


def test_unknown_task_is_not_found(wire: Wire) -> None:
    follow(wire)
    wire.reply(code=Code.UNKNOWN_TASK)
    assert wire.response().status == 404


def test_stream_ends_when_nobody_answers_and_the_client_comes_again(wire: Wire) -> None:
    follow(wire)
    wire.reply(a_status(revision=3))
    wire.reply(code=Code.UNAVAILABLE)
    assert wire.transport.written.endswith(b"0\r\n\r\n")


def test_client_that_has_gone_is_not_asked_for(wire: Wire) -> None:
    follow(wire)
    wire.lose()
    wire.reply(a_status(revision=3))
    assert len(wire.all(Query)) == 1
