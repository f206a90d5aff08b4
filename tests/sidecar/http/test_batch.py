"""Many tasks in one request: each line has its answer, and a bad one harms none beside it."""

import json
from typing import Any

import pytest

from protocol.errors import Code
from protocol.ids import keyed_id, to_text
from protocol.messages import Rejection, Submit
from protocol.submission import decode_batch
from sidecar.http.batch import LINES_MAX, LINES_PER_TURN
from tests.sidecar.http.wire import Wire

GOOD = '{"handler": "email.send", "payload": {"to": "a@b.c"}}'


def post(wire: Wire, *lines: str, **headers: str) -> None:
    wire.request("POST", "/v1/tasks", "\n".join(lines).encode(), **headers)


def answers(wire: Wire) -> list[Any]:
    response = wire.response()
    assert response.status == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.body.splitlines()]


def task_of(wire: Wire, line: str) -> list[Any]:
    post(wire, line)
    [task] = wire.batch()
    assert isinstance(task, list)
    return task


BAD = {
    "nonsense": "malformed",
    '["a"]': "malformed",
    "NaN": "malformed",
    "[" * 50_000: "malformed",
    '{"payload": 1}': "invalid_handler",
    '{"handler": 5}': "invalid_handler",
    '{"handler": "E M"}': "invalid_handler",
    '{"handler": "a.b", "dealy": "1s"}': "unknown_option",
    '{"handler": "a.b", "delay": 5}': "invalid_option",
    '{"handler": "a.b", "key": 5}': "invalid_option",
    '{"handler": "a.b", "meta": {"A": "b"}}': "invalid_option",
    '{"handler": "a.b", "traceparent": "x"}': "invalid_option",
    '{"handler": "a.b", "content_type": 5, "payload": "x"}': "invalid_option",
    '{"handler": "a.b", "content_type": "text/plain", "payload": 5}': "invalid_option",
    '{"handler": "a.b", "payload_base64": "?"}': "invalid_option",
    '{"handler": "a.b", "payload_base64": 5}': "invalid_option",
    '{"handler": "a.b", "payload_base64": "eA==", "payload": 1}': "invalid_payload",
    '{"handler": "a.b", "payload": "\\ud800"}': "invalid_payload",
    '{"handler": "a.b", "payload": 1e999}': "invalid_payload",
}


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_bad_line_has_its_problem_in_its_place_and_the_others_stand(wire: Wire, bad: str) -> None:
    post(wire, GOOD, bad, "", GOOD)
    wire.verdict()

    first, problem, last = answers(wire)
    assert first["id"] != last["id"]
    assert (problem["code"], problem["status"]) == (BAD[bad], 400)
    assert problem["line"] == 2
    assert problem["hint"] and problem["detail"]
    assert len(wire.batch()) == 2


def test_bytes_that_are_no_utf_8_harm_one_line(wire: Wire) -> None:
    wire.request("POST", "/v1/tasks", b"\xff\xfe\n" + GOOD.encode())
    wire.verdict()
    assert [a.get("code") for a in answers(wire)] == ["malformed", None]


def test_rejections_and_duplicates_are_told_in_their_places(wire: Wire) -> None:
    post(wire, GOOD, "nonsense", GOOD, GOOD)
    rejection = Rejection(1, Code.TOO_MANY_HANDLERS, "no more")
    wire.verdict(rejections=[rejection], duplicates=[2])

    made = answers(wire)
    assert [a.get("code") for a in made] == [None, "malformed", "too_many_handlers", None]
    assert [a.get("duplicate") for a in made] == [None, None, None, True]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"handler": "a.b"}', ["a.b", b""]),
        ('{"handler": "a.b", "payload": null}', ["a.b", b"null"]),
        ('{"handler": "a.b", "payload": {"b": "\u00fc"}}', ["a.b", '{"b":"ü"}'.encode()]),
        ('{"handler": "a.b", "payload_base64": "/w=="}', ["a.b", b"\xff"]),
        (
            '{"handler": "a.b", "payload": "x", "content_type": "text/plain"}',
            ["a.b", b"x", "text/plain"],
        ),
        (
            '{"handler": "a.b", "payload": 1, "content_type": "application/json"}',
            ["a.b", b"1"],
        ),
    ],
)
def test_payload_is_json_or_what_its_type_says(wire: Wire, line: str, expected: list[Any]) -> None:
    assert task_of(wire, line)[1:] == expected


def test_line_has_the_options_of_a_query(wire: Wire) -> None:
    line = '{"handler": "a.b", "key": "k", "delay": "1s", "attempts": 3, "meta": {"a": "b"}}'
    task = task_of(wire, line)
    assert task[0] == keyed_id("a.b", "k")
    assert task[4] == {"key": "k", "delay_ms": 1_000, "attempts_max": 3, "meta": {"a": "b"}}


def test_trace_context_of_the_request_is_that_of_lines_without_one(wire: Wire) -> None:
    own, given = (f"00-{n * 32}-{n * 16}-01" for n in "12")
    post(wire, GOOD, f'{{"handler": "a.b", "traceparent": "{own}"}}', traceparent=given)
    assert [task[4]["traceparent"] for task in wire.batch()] == [given, own]


def test_long_batch_is_submitted_part_by_part_and_answered_in_order(wire: Wire) -> None:
    count = 2 * LINES_PER_TURN + 1
    post(wire, *(f'{{"handler": "a.b", "key": "{n}"}}' for n in range(count)))
    while len(wire.all(Submit)) < 3:
        wire.call(lambda: None)
    first, second, third = (message.batches[0] for message in wire.all(Submit))
    wire.verdict(third.request)
    wire.verdict(first.request)
    assert wire.responses() == []
    wire.verdict(second.request, code=Code.BUSY, retry_after_ms=100)

    made = answers(wire)
    assert [len(decode_batch(b.tasks)) for b in (first, second, third)] == [200, 200, 1]
    assert [a.get("code") for a in made] == [None] * 200 + ["busy"] * 200 + [None]
    assert made[-1]["id"] == to_text(keyed_id("a.b", str(count - 1)))


def test_batch_of_which_nothing_was_taken_for_want_of_room_is_refused_as_one(wire: Wire) -> None:
    post(wire, GOOD, GOOD)
    wire.verdict(code=Code.STORE_FULL, retry_after_ms=3_000)

    response = wire.response()
    assert (response.status, response.headers["retry-after"]) == (503, "3")


def test_batch_of_bad_lines_only_is_answered_at_once(wire: Wire) -> None:
    post(wire, "x", "y")
    assert [a["line"] for a in answers(wire)] == [1, 2]
    assert not wire.all(Submit)


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"\n \n", 400), (b"x\n" * (LINES_MAX + 1), 413)]
)
def test_batch_without_lines_or_with_too_many_is_refused(
    wire: Wire, body: bytes, status: int
) -> None:
    wire.request("POST", "/v1/tasks", body)
    assert wire.response().status == status


def test_client_that_has_gone_is_not_worked_for(wire: Wire) -> None:
    lines = "\n".join([GOOD] * 3 * LINES_PER_TURN).encode()
    head = f"POST /v1/tasks HTTP/1.1\r\nContent-Length: {len(lines)}\r\n\r\n".encode()

    def come_and_go() -> None:
        wire.connection.data_received(head + lines)
        wire.connection.connection_lost(None)

    wire.call(come_and_go)
    assert len(wire.all(Submit)) == 1
