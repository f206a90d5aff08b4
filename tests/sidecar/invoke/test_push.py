"""Tasks are POSTed to a real server on app.sock; here is what goes beyond the table's rows."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from protocol.ids import to_text
from protocol.messages import Failure, OutcomeKind, Result, Revoke, Revoked, Update
from sidecar.invoke.host import GRACE_SHARE
from tests.sidecar.invoke.bench import (
    GRACE_MS,
    HANDLER,
    App,
    Got,
    listening,
    pushed,
    response,
    serving,
)
from tests.sidecar.loops import on_each_loop, turns_until
from tests.support.builders import a_granted_task, task_id

SUCCESS, RETRY = OutcomeKind.SUCCESS, OutcomeKind.RETRY
NDJSON = "application/x-ndjson"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EXTRAS = {
    "collection": "march",
    "last_error": "http-503",
    "checkpoint": b"page 3",
    "key": 'order "7"',
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "x=1",
    "baggage": "a=b",
    "meta": {"tenant": "Zoë 100%", "plan": "free"},
}


@on_each_loop
async def test_request_tells_everything_and_the_payload_is_untouched() -> None:
    payload = bytes(range(256))
    async with serving(pushed()) as bench, listening(bench) as app:
        await bench.run(payload=payload, content_type="image/png", attempt=2, delivery=3,
                        token=9, extras=EXTRAS)  # fmt: skip
        [got] = app.got.items

    assert (got.method, got.path, got.body) == ("POST", f"/tasks/{HANDLER}", payload)
    deadline = int(got.headers.pop("task-deadline"))
    assert deadline > int(got.headers["task-enqueued-at"])
    assert got.headers == {
        "host": "localhost",
        "user-agent": "pillion",
        "content-type": "image/png",
        "content-length": "256",
        "task-id": to_text(task_id(1)),
        "task-handler": HANDLER,
        "task-attempt": "2",
        "task-max-attempts": "12",
        "task-delivery": "3",
        "task-timeout-ms": "60000",
        "task-token": "9",
        "idempotency-key": '"order \\"7\\""',
        "task-enqueued-at": "1700000000000",
        "task-scheduled-at": "1700000000000",
        "traceparent": EXTRAS["traceparent"],
        "tracestate": "x=1",
        "baggage": "a=b",
        "task-collection": "march",
        "task-last-error": "http-503",
        "task-checkpoint": base64.urlsafe_b64encode(b"page 3").decode(),
        "task-meta-tenant": "Zo%C3%AB 100%25",
        "task-meta-plan": "free",
    }


@on_each_loop
async def test_cloudevents_are_added_where_they_are_asked_for() -> None:
    async with serving(pushed(cloudevents=True)) as bench, listening(bench) as app:
        await bench.run()
        [got] = app.got.items

    events = {name: value for name, value in got.headers.items() if name.startswith("ce-")}
    assert events == {
        "ce-specversion": "1.0",
        "ce-id": to_text(task_id(1)),
        "ce-source": "/pillion/email",
        "ce-type": HANDLER,
        "ce-time": "2023-11-14T22:13:20.000Z",
    }


@on_each_loop
async def test_no_content_type_can_end_its_line() -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        await bench.run(content_type="a/b\r\nEvil: 1\x00é")
        [got] = app.got.items

    assert got.headers["content-type"] == "a/b??Evil: 1??"


@on_each_loop
async def test_connections_are_used_again_and_as_many_as_needed() -> None:
    async with serving(pushed(slots=3)) as bench, listening(bench) as app:
        await bench.asked_for(total=3)
        gate = asyncio.Event()

        async def answer(_: Got) -> bytes:
            await gate.wait()
            return response(200)

        app.answer = answer
        bench.grant(*[a_granted_task(n) for n in (1, 2, 3)])
        await app.got.until(lambda got: len(got) == 3)
        gate.set()
        await bench.outcome(3)
        for number in (4, 5, 6):
            await bench.run(number)

    assert app.connections == 3


@on_each_loop
async def test_no_more_than_the_slots_are_asked_for() -> None:
    async with serving(pushed(slots=2)) as bench, listening(bench) as app:
        await bench.asked_for(total=2)
        app.answer = lambda _: None
        bench.grant(*[a_granted_task(n) for n in (1, 2)])
        await app.got.until(lambda got: len(got) == 2)

        assert max(x.total for x in bench.demands.items) == 2


@on_each_loop
async def test_service_that_closes_after_each_answer_is_no_error() -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: response(200, headers={"Connection": "close"}) + App.CLOSE
        kinds = [(await bench.run(n)).kind for n in (1, 2, 3)]

    assert kinds == [SUCCESS] * 3


@on_each_loop
async def test_answer_without_a_length_ends_with_its_connection() -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhi" + App.CLOSE
        outcome = await bench.run()

    assert outcome.value == Result("text/plain", b"hi")


@on_each_loop
async def test_answer_in_chunks_byte_by_byte_is_read() -> None:
    chunked = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\nX: y\r\n\r\n"
    )
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer, app.bytewise = (lambda _: chunked), True
        outcome = await bench.run()
        again = await bench.run(2)

    assert outcome.value == again.value == Result(None, b"[1,2]")


@on_each_loop
@pytest.mark.parametrize(
    ("data", "error_type"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "bad-answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 12_000, "bad-answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000, "bad-answer"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 12_000,
            "bad-answer",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "bad-answer"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello" + App.CLOSE, "crash"),
        (CHUNKED + b"5\r\nhello\r\n" + App.CLOSE, "crash"),
        (b"HTTP/1.1 200 O" + App.CLOSE, "crash"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000, "too-large"),
    ],
    ids=["header", "headers", "interim", "trailers", "lengths", "upgrade", "short", "chunks",
         "head", "endless"],
)  # fmt: skip
async def test_bad_answer_is_bounded_and_mapped(data: bytes, error_type: str) -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: data
        outcome = await bench.run()
        assert isinstance(outcome.value, Failure)
        assert outcome.value.error_type == error_type

        app.answer = lambda _: response(200)
        assert (await bench.run(2)).kind is SUCCESS


@on_each_loop
async def test_long_text_of_an_error_is_cut_and_the_status_counts() -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: response(400, b"why " * 200_000, content_type="text/plain")
        outcome = await bench.run()

    assert outcome.kind is OutcomeKind.FATAL
    assert isinstance(outcome.value, Failure)
    assert outcome.value.detail.startswith("why why")


@on_each_loop
async def test_what_stands_behind_an_answer_is_no_answer_to_the_next() -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: response(200) + response(500)
        kinds = [(await bench.run(n)).kind for n in (1, 2)]

    assert kinds == [SUCCESS, SUCCESS]
    assert app.connections == 2


@on_each_loop
async def test_headers_of_the_answer_beat_its_status() -> None:
    headers = {"Task-Outcome": "retry", "Task-Error-Type": "smtp", "Retry-After": "7"}
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: response(200, b"oh", headers, "text/plain")
        outcome = await bench.run()

    assert outcome.kind is RETRY
    assert outcome.value == Failure("smtp", "the service answered 200", "oh", 7_000)


@on_each_loop
async def test_owner_of_a_handler_changes_the_meaning_of_a_status() -> None:
    async with (
        serving(pushed(status_map={"404": "fatal"})) as bench,
        listening(bench) as app,
    ):
        app.answer = lambda _: response(404)
        outcome = await bench.run()

    assert outcome.kind is OutcomeKind.FATAL


@on_each_loop
async def test_answer_that_trickles_ends_by_the_timeout() -> None:
    """Nothing but the attempt's timeout bounds how long an answer may take."""

    async def endless(got: Got) -> bytes | None:
        return None if got.method == "POST" else response(204)

    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer, app.first = endless, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"
        outcome = await bench.run(timeout_ms=50)

    assert isinstance(outcome.value, Failure)
    assert outcome.value.error_type == "timeout"


@on_each_loop
async def test_service_may_listen_on_a_port_of_loopback(tmp_path: Path) -> None:
    app = App(tmp_path / "unused")
    port = await app.start_on_a_port()
    async with serving(pushed(), port=port) as bench:
        await bench.asked_for()
        kinds = [(await bench.run(n)).kind for n in (1, 2)]
        await app.stop()
        assert (await bench.run(3)).kind is OutcomeKind.RETURNED
        facts = bench.hosts.facts()
        [got, _] = app.got.items

    assert kinds == [SUCCESS, SUCCESS]
    assert str(facts["app"]).endswith("Connection refused")
    assert got.headers["host"] == f"127.0.0.1:{port}"
    assert app.connections == 1


# --- Streams -----------------------------------------------------------------------------------


def stream(*lines: object) -> bytes:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return response(200, body, content_type=NDJSON)


@on_each_loop
async def test_last_line_of_a_stream_tells_the_outcome_and_result() -> None:
    lines = [{"progress": 0.25}, {"outcome": "success", "result": {"pages": 7}}]
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: stream(*lines)
        outcome = await bench.run()

    assert outcome.value == Result(None, b'{"pages":7}')


@on_each_loop
async def test_lines_of_a_stream_tell_progress_and_a_checkpoint() -> None:
    lines = [
        {"progress": 0.25, "note": "begun", "checkpoint": {"page": 3}},
        {"progress": 0.5},
        {"outcome": "retry", "retry_after_ms": 40},
    ]
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: stream(*lines)
        outcome = await bench.run()
        [update] = bench.updates.items

    assert update == Update(task_id(1), 1, 500, "begun", b'{"page":3}')
    assert outcome.kind is RETRY
    assert isinstance(outcome.value, Failure)
    assert outcome.value.retry_after_ms == 40


@on_each_loop
@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        (b'{"progress": 0.5}\n', "no-outcome"),
        (b"", "no-outcome"),
        (b"nonsense\n", "bad-answer"),
        (b"[1]\n", "bad-answer"),
        (b'{"progress": 2}\n', "bad-answer"),
        (b'{"progress": NaN}\n', "bad-answer"),
        (b'{"note": 3}\n', "bad-answer"),
        (b'{"checkpoint": "' + b"x" * 5_000 + b'"}\n', "bad-answer"),
        (b'{"outcome": "sucess"}\n', "bad-answer"),
        (b'{"outcome": 3}\n', "bad-answer"),
        (b"x" * 600_000, "bad-answer"),
        (b'{"outcome": "success", "result": "' + b"x" * 300_000 + b'"}', "too-large"),
        (b'{"outcome": "retry", "error_type": "smtp", "message": "no"}', "smtp"),
    ],
)
async def test_bad_stream_is_mapped(body: bytes, error_type: str) -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        app.answer = lambda _: head.encode() + body
        outcome = await bench.run()

    assert isinstance(outcome.value, Failure)
    assert outcome.value.error_type == error_type


@on_each_loop
async def test_stream_is_settled_by_its_outcome_and_not_read_further() -> None:
    endless = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        '18\r\n{"outcome": "success"}\n\n\r\n'
    )
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: endless.encode()
        assert (await bench.run()).kind is SUCCESS


# --- Stopping ----------------------------------------------------------------------------------


@on_each_loop
async def test_overrun_closes_the_connection_says_delete_and_waits_for_the_grace() -> None:
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda got: None if got.method == "POST" else response(404)
        began = asyncio.get_running_loop().time()
        outcome = await bench.run(timeout_ms=50)
        took = asyncio.get_running_loop().time() - began
        await app.ended.until(len)
        [delete] = [got for got in app.got.items if got.method == "DELETE"]

    assert isinstance(outcome.value, Failure)
    assert (outcome.kind, outcome.value.error_type) == (RETRY, "timeout")
    assert took >= (50 + GRACE_SHARE * GRACE_MS) / 1000 - 0.01
    assert delete.path == f"/tasks/{HANDLER}/{to_text(task_id(1))}"
    assert delete.headers["task-token"] == "1"
    assert delete.headers["task-cancel-reason"] == "timeout"


@on_each_loop
async def test_service_that_says_it_has_stopped_ends_the_grace() -> None:
    async with (
        serving(pushed(), cancel_grace_ms=60_000) as bench,
        listening(bench) as app,
    ):
        app.answer = lambda got: None if got.method == "POST" else response(204)
        outcome = await bench.run(timeout_ms=50)

    assert outcome.kind is RETRY


@on_each_loop
async def test_heartbeat_hears_of_the_cancelling_and_later_of_the_lost_lease() -> None:
    path = f"/v1/tasks/{to_text(task_id(1))}/heartbeat"
    async with (
        serving(pushed(), cancel_grace_ms=60_000) as bench,
        listening(bench) as app,
    ):
        app.answer = lambda got: response(202 if got.method == "POST" else 404)
        await bench.asked_for()
        bench.grant(a_granted_task(1, timeout_ms=5_000))
        await turns_until(lambda: len(bench.hosts.attempts) == 1)
        status, _, body = await bench.request("POST", path, b'{"progress": 0.5}', Task_Token="1")
        told = json.loads(body)
        assert (status, told["cancel"]) == (200, False)
        assert 4_000 < told["timeout_ms"] <= 5_000
        await bench.updates.until(len)
        attempt = bench.hosts.attempts.find(task_id(1), 1)
        assert attempt is not None

        attempt.host.revoke(attempt, "cancelled")
        _, _, body = await bench.request("POST", path, Task_Token="1")
        assert json.loads(body)["cancel"] is True

        bench.coordinator(Revoke([Revoked(task_id(1), 1, "lease-lost")]))
        await turns_until(lambda: attempt.reason == "lease-lost")
        status, _, _ = await bench.request("POST", path, Task_Token="1")
        assert status == 410


@on_each_loop
async def test_task_that_is_completed_by_a_request_needs_its_connection_no_more() -> None:
    path = f"/v1/tasks/{to_text(task_id(1))}/complete"
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: None
        await bench.asked_for()
        bench.grant(a_granted_task(1))
        await app.got.until(len)

        assert (await bench.request("POST", path, b"{}", Task_Token="1"))[0] == 200
        assert (await bench.outcome()).kind is SUCCESS
        await app.ended.until(len)


@on_each_loop
@pytest.mark.parametrize(("token", "status"), [("2", 410), ("", 400), ("x", 400)])
async def test_completion_with_another_token_is_refused(token: str, status: int) -> None:
    path = f"/v1/tasks/{to_text(task_id(1))}/complete"
    async with serving(pushed()) as bench, listening(bench) as app:
        app.answer = lambda _: None
        await bench.asked_for()
        bench.grant(a_granted_task(1))
        await app.got.until(len)

        assert (await bench.request("POST", path, b"{}", Task_Token=token))[0] == status
        assert bench.told.items == []


# --- Whether the service is there --------------------------------------------------------------


@on_each_loop
async def test_nothing_is_asked_for_until_the_service_listens_and_when_it_has_gone() -> None:
    async with serving(pushed()) as bench:
        await asyncio.sleep(0)
        assert "waiting for" in str(bench.hosts.facts()["app"])
        async with listening(bench):
            await bench.asked_for()
            assert "answers at" in str(bench.hosts.facts()["app"])
            await bench.run()
        before = len(bench.demands.items)
        outcome = await bench.run(2)
        assert outcome.kind is OutcomeKind.RETURNED
        await bench.noted("app_away")
        await bench.demands.until(lambda limits: len(limits) > before)
        assert bench.demands.items[-1].total == 2  # As many as were granted.
        async with listening(bench):
            await bench.asked_for(total=18)
            assert (await bench.run(3)).kind is SUCCESS


@on_each_loop
async def test_request_that_was_not_read_goes_to_a_new_connection() -> None:
    """A server closes an idle connection just when it is used: the task has not begun."""
    async with serving(pushed()) as bench, listening(bench) as app:
        await bench.run()
        [writer] = app._writers
        writer.transport.abort()  # Not seen by the sidecar before it writes.
        outcome = await bench.run(2)

    assert outcome.kind is SUCCESS


@on_each_loop
async def test_misrouted_handler_is_left_alone_for_a_while() -> None:
    async with serving(pushed(slots=4)) as bench, listening(bench) as app:
        await bench.asked_for(total=4)
        app.answer = lambda _: response(404)
        outcome = await bench.run()
        facts = await bench.noted("handler_misrouted")
        await bench.demands.until(lambda limits: limits[-1].total == 1)

    assert outcome.kind is OutcomeKind.RETURNED
    assert facts == {"handler": HANDLER, "again_ms": 1_000}


@on_each_loop
async def test_service_that_cannot_now_gets_half_as_many() -> None:
    async with serving(pushed(slots=8)) as bench, listening(bench) as app:
        await bench.asked_for(total=8)
        app.answer = lambda _: response(503, headers={"Retry-After": "1"})
        outcome = await bench.run()

        assert outcome.kind is OutcomeKind.DEFER
        assert "window 4" in str(bench.hosts.facts()[f"handler {HANDLER}"])


@on_each_loop
async def test_handlers_are_discovered() -> None:
    document = {
        "handlers": [
            {"name": "send", "slots": 2, "timeout": "5s", "schema": {}},
            {"name": "other.thing"},
            {"name": "email.bad", "slots": "many"},
            7,
        ]
    }
    async with serving(discover=True) as bench, listening(bench) as app:
        app.answer = lambda got: (
            response(200, json.dumps(document).encode()) if got.method == "GET" else response(200)
        )
        await bench.asked_for(total=2)
        assert (await bench.run()).kind is SUCCESS

    assert app.got.items[0].path == "/.well-known/tasks"
    assert [n for n, _ in bench.notes.items if n == "discovery_failed"] == ["discovery_failed"] * 3
