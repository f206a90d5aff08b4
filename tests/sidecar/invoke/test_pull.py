"""Tasks are asked for over sidecar.sock, and settled by requests of their own."""

import asyncio
import json

import pytest

from protocol.ids import to_text
from protocol.messages import Failure, OutcomeKind, Result
from sidecar.core.events import Drain
from tests.sidecar.invoke.bench import HANDLER, Bench, pushed, serving
from tests.sidecar.loops import on_each_loop, turns_until
from tests.support.builders import a_granted_task, task_id

ID = to_text(task_id(1))


async def taken(bench: Bench, number: int = 1) -> None:
    """Take one task."""
    reader = asyncio.create_task(bench.request("GET", f"/v1/next?handler={HANDLER}"))
    await bench.asked_for()
    bench.grant(a_granted_task(number))
    assert (await reader)[0] == 200


@on_each_loop
async def test_reader_gets_payload_and_particulars() -> None:
    async with serving() as bench:
        reader = asyncio.create_task(bench.request("GET", "/v1/next?handler=send&wait=9"))
        await bench.asked_for()
        bench.grant(a_granted_task(1, content_type="text/plain", payload=b"hi", token=5))
        status, headers, body = await reader

    assert (status, body, headers["content-type"]) == (200, b"hi", "text/plain")
    assert (headers["task-id"], headers["task-token"]) == (ID, "5")
    assert headers["task-handler"] == HANDLER


@on_each_loop
async def test_reader_of_several_handlers_gets_one_task_and_the_rest_is_given_back() -> None:
    async with serving() as bench:
        reader = asyncio.create_task(bench.request("GET", "/v1/next?handler=send,read&wait=9"))
        await bench.asked_for("email.send")
        await bench.asked_for("email.read")
        bench.grant(a_granted_task(1))
        bench.grant(a_granted_task(2), handler="email.read")
        status, headers, _ = await reader
        await bench.outcomes.until(len)
        [outcome] = bench.outcomes.items

        assert (status, headers["task-id"]) == (200, ID)
        assert (outcome.id, outcome.kind) == (task_id(2), OutcomeKind.RETURNED)
        assert len(bench.hosts.attempts) == 1


@on_each_loop
async def test_readers_are_served_in_the_order_they_came() -> None:
    async with serving() as bench:
        readers = []
        for total in (1, 2):
            readers.append(asyncio.create_task(bench.request("GET", "/v1/next?handler=send")))
            await bench.asked_for(total=total)
        bench.grant(a_granted_task(1), a_granted_task(2))
        ids = [(await reader)[1]["task-id"] for reader in readers]

    assert ids == [to_text(task_id(1)), to_text(task_id(2))]


@on_each_loop
async def test_wait_that_is_over_is_answered_and_asks_for_nothing_more() -> None:
    async with serving() as bench:
        status, _, body = await bench.request("GET", "/v1/next?handler=send&wait=1")
        await bench.demands.until(lambda limits: limits[-1].total == 0)

    assert (status, body) == (204, b"")


@on_each_loop
async def test_reader_that_leaves_is_not_waited_for() -> None:
    async with serving() as bench:
        _, writer = await asyncio.open_unix_connection(bench.socket_path)
        writer.write(b"GET /v1/next?handler=send HTTP/1.1\r\nHost: x\r\n\r\n")
        await bench.asked_for()
        writer.close()
        await bench.demands.until(lambda limits: limits[-1].total == 0)
        outcome = await bench.run()

    assert outcome.kind is OutcomeKind.RETURNED


@on_each_loop
async def test_stopping_lets_readers_go_and_takes_no_new_ones() -> None:
    async with serving() as bench:
        reader = asyncio.create_task(bench.request("GET", "/v1/next?handler=send"))
        await bench.asked_for()
        bench.step(Drain())
        bench.hosts.drain()

        assert (await reader)[0] == 204
        assert (await bench.request("GET", "/v1/next?handler=send"))[0] == 503


@on_each_loop
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "invalid_handler"),
        ("?handler=", "invalid_handler"),
        ("?handler=other.send", "invalid_handler"),
        ("?handler=email.pushed", "invalid_handler"),
        ("?handler=Send", "invalid_handler"),
        ("?handler=send&wait=long", "invalid_option"),
        ("?handler=send&waits=1", "unknown_option"),
        ("?handler=" + ",".join(f"h{n}" for n in range(65)), "invalid_handler"),
    ],
)
async def test_bad_question_is_answered_with_what_is_wrong(query: str, code: str) -> None:
    async with serving(pushed("email.pushed")) as bench:
        status, _, body = await bench.request("GET", f"/v1/next{query}")

    assert (status, json.loads(body)["code"]) == (400, code)


@on_each_loop
async def test_result_is_the_body() -> None:
    async with serving() as bench:
        await taken(bench)
        status, _, body = await bench.request(
            "POST", f"/v1/tasks/{ID}/complete", b'{"n": 1}',
            Task_Token="1", Content_Type="application/x-www-form-urlencoded",
        )  # fmt: skip
        outcome = await bench.outcome()

    assert (status, json.loads(body)) == (200, {"id": ID, "outcome": "success"})
    assert outcome.value == Result(None, b'{"n": 1}')


@on_each_loop
async def test_failure_says_why_and_may_be_fatal() -> None:
    async with serving() as bench:
        await taken(bench)
        _, _, body = await bench.request(
            "POST", f"/v1/tasks/{ID}/fail", b'{"error_type": "smtp", "message": "no such user"}',
            Task_Token="1", Content_Type="application/json", Task_Outcome="fatal",
        )  # fmt: skip
        outcome = await bench.outcome()

    assert json.loads(body)["outcome"] == "fatal"
    assert outcome.kind is OutcomeKind.FATAL
    assert outcome.value == Failure("smtp", "no such user")


@on_each_loop
async def test_deferral_says_when() -> None:
    async with serving() as bench:
        await taken(bench)
        await bench.request("POST", f"/v1/tasks/{ID}/defer", Task_Token="1", Retry_After="9")
        outcome = await bench.outcome()

    assert outcome.kind is OutcomeKind.DEFER
    assert outcome.value == Failure("defer", "the service cannot do it now", "", 9_000)


@on_each_loop
async def test_task_is_settled_once() -> None:
    async with serving() as bench:
        await taken(bench)
        statuses = [
            (await bench.request("POST", f"/v1/tasks/{ID}/complete", Task_Token="1"))[0]
            for _ in range(2)
        ]

    assert statuses == [200, 410]


@on_each_loop
async def test_heartbeats_keep_an_attempt_from_stalling() -> None:
    async with serving() as bench:
        await taken(bench)
        attempt = bench.hosts.attempts.find(task_id(1), 1)
        assert attempt is not None
        before = attempt.heard
        await bench.request("POST", f"/v1/tasks/{ID}/heartbeat", Task_Token="1")

        assert attempt.heard > before


@on_each_loop
@pytest.mark.parametrize("body", [b"no", b"[]", b'{"progress": 7}', b'{"note": 1}'])
async def test_bad_heartbeat_is_refused_and_harms_nothing(body: bytes) -> None:
    async with serving() as bench:
        await taken(bench)
        status, _, _ = await bench.request(
            "POST", f"/v1/tasks/{ID}/heartbeat", body, Task_Token="1"
        )

        assert status == 400
        assert len(bench.hosts.attempts) == 1


@on_each_loop
async def test_handler_that_nobody_asks_for_any_more_is_withdrawn() -> None:
    async with serving() as bench:
        await bench.request("GET", "/v1/next?handler=send&wait=1")
        host = bench.hosts.pulled("send")
        assert host.running == {}

        host._look_for_readers()

        await turns_until(lambda: host.closed)
        assert bench.hosts.pulled("send") is not host
