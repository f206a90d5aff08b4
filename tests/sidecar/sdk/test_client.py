import asyncio
import json
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from protocol import codec, limits
from protocol import messages as m
from protocol.errors import Code
from protocol.ids import from_text, is_id, keyed_id, to_text
from sidecar import (
    AsyncClient,
    Busy,
    NewTask,
    Refused,
    Rejected,
    Task,
    TaskCancelled,
    TaskDead,
    TaskDropped,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
    Unavailable,
)
from tests.sidecar.sdk.peer import Peer
from tests.support.builders import a_status, task_id

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    return asyncio.create_task(work)


async def test_submit_returns_a_handle_when_the_task_is_accepted(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send", {"to": "ä@b.c"}))
        connection, attach = await peer.attached()
        batch, tasks = await connection.submitted()

        assert not submitting.done()
        connection.accept(batch.request)
        task = await submitting

        assert (attach.service, attach.declarations) == ("", [])
        (sent,) = tasks
        assert is_id(sent[0])
        assert sent[1:] == ["email.send", '{"to":"ä@b.c"}'.encode()]
        assert task.id == to_text(sent[0])
        assert task.handler == "email.send"


@pytest.mark.parametrize("accepted_only", [False, True])
async def test_app_may_insist_on_the_coordinators_answer(peer: Peer, accepted_only: bool) -> None:
    async with peer, AsyncClient(peer.path, accepted_only=accepted_only) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request)

        assert batch.spool is not accepted_only
        assert (await submitting).spooled is False


async def test_spooled_task_is_a_task_that_says_so(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit_many([NewTask(handler="email.send")] * 3))
        connection, _ = await peer.attached()
        batch, tasks = await connection.submitted()
        wrong = m.Rejection(1, "invalid_option", "no such option")
        connection.send(m.Accepted([m.Verdict(batch.request, Code.SPOOLED, "", 0, [wrong])]))
        first, second, third = await submitting

        assert isinstance(first, Task)
        assert isinstance(third, Task)
        assert (first.spooled, third.spooled) == (True, True)
        assert [first.id, third.id] == [to_text(tasks[0][0]), to_text(tasks[2][0])]
        assert isinstance(second, Rejected)
        assert second.code == "invalid_option"


async def test_options_travel_in_the_units_of_the_protocol(peer: Peer) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    async with peer, AsyncClient(peer.path) as client:
        first = NewTask(
            handler="email.send",
            payload=b"\0",
            id=to_text(task_id(5)),
            delay="10m",
            priority="high",
            collection="spring",
            expires=timedelta(hours=1),
            attempts=3,
            timeout=1.5,
            backoff=("1s", "5m"),
        )
        second = NewTask(handler="email.send", at=at, backoff=2, content_type="text/plain")
        submitting = begin(client.submit_many([first, second]))
        connection, _ = await peer.attached()
        batch, tasks = await connection.submitted()
        connection.accept(batch.request)
        await submitting

        assert tasks[0] == [
            task_id(5),
            "email.send",
            b"\0",
            "application/octet-stream",
            {
                "delay_ms": 600_000,
                "priority": 1,
                "collection": "spring",
                "expires_ms": 3_600_000,
                "attempts_max": 3,
                "timeout_ms": 1500,
                "backoff_ms_min": 1000,
                "backoff_ms_max": 300_000,
            },
        ]
        assert tasks[1][3:] == [
            "text/plain",
            {
                "at_ms": 1_893_456_000_000,
                "backoff_ms_min": 2000,
                "backoff_ms_max": 2000,
            },
        ]


async def test_concurrent_submits_travel_as_one_batch(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = [begin(client.submit("email.send", i)) for i in range(500)]
        connection, _ = await peer.attached()
        batch, tasks = await connection.submitted()
        connection.accept(batch.request)
        handles = await asyncio.gather(*submitting)

        assert [json.loads(t[2]) for t in tasks] == list(range(500))
        assert [h.id for h in handles] == [to_text(t[0]) for t in tasks]
        assert [h.id for h in handles] == sorted({h.id for h in handles})


async def test_one_bad_task_of_many_harms_no_other(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        news = [
            NewTask(handler="email.send", payload=1),
            NewTask(handler="Email Send"),
            NewTask(handler="email.send", payload=object()),
            NewTask(handler="email.send", payload=2),
            NewTask(handler="email.send", payload=3),
            NewTask(handler="email.send", delay="soon"),
        ]
        submitting = begin(client.submit_many(news))
        connection, _ = await peer.attached()
        batch, tasks = await connection.submitted()
        connection.accept(batch.request, m.Rejection(1, "duplicate_id", "told so"))
        verdicts = await submitting

        assert [json.loads(t[2]) for t in tasks] == [1, 2, 3]
        codes = [v.code if isinstance(v, Rejected) else type(v).__name__ for v in verdicts]
        assert codes == [
            "Task",
            "invalid_handler",
            "invalid_payload",
            "duplicate_id",
            "Task",
            "invalid_option",
        ]
        assert isinstance(verdicts[4], Task)
        assert verdicts[4].id == to_text(tasks[2][0])


async def test_submit_raises_what_the_coordinator_rejects(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request, m.Rejection(0, "due_out_of_range", "in the past"))

        with pytest.raises(Rejected, match="in the past") as raised:
            await submitting
        assert raised.value.code == "due_out_of_range"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"at": datetime(2030, 1, 1)}, "invalid_option", "without a time zone"),
        ({"delay": -1}, "invalid_option", "delay is -1"),
        ({"delay": True}, "invalid_option", "delay is True"),
        ({"delay": float("nan")}, "invalid_option", "delay is nan"),
        ({"at": "tomorrow"}, "invalid_option", "expected a datetime"),
        ({"delay": "1s", "at": 1}, "invalid_option", "exclude each other"),
        ({"delay": "4000d"}, "due_out_of_range", "delay_ms"),
        ({"priority": "urgent"}, "invalid_option", "critical, high, normal, low"),
        ({"collection": "No Good"}, "invalid_option", "collection"),
        ({"attempts": 0}, "invalid_option", "attempts_max"),
        ({"backoff": ("1s",)}, "invalid_option", "backoff"),
        ({"id": "one"}, "invalid_id", "'one'"),
        ({"payload": float("inf")}, "invalid_payload", "JSON"),
        ({"payload": "\ud800"}, "invalid_payload", "JSON"),
        ({"payload": b"x" * (limits.PAYLOAD_BYTES_MAX + 1)}, "payload_too_large", "1048577"),
        ({"content_type": "x" * 129}, "invalid_option", "content_type"),
    ],
)
async def test_bad_input_is_rejected_before_it_is_sent(
    peer: Peer, changes: dict[str, Any], code: str, words: str
) -> None:
    client = AsyncClient(peer.path)

    with pytest.raises(Rejected) as raised:
        await client.submit_task(NewTask(**{"handler": "email.send", **changes}))

    assert raised.value.code == code
    assert words in str(raised.value)


async def test_unanswered_submits_are_sent_again_with_the_same_ids(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        first, _ = await connection.submitted()
        connection.cut()

        connection, _ = await peer.attached()
        again, tasks = await connection.submitted()
        connection.accept(again.request)
        task = await submitting

        assert again == first
        assert task.id == to_text(tasks[0][0])


async def test_submits_survive_a_sidecar_that_is_away_for_a_while(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send", 1))
        connection, _ = await peer.attached()
        await connection.submitted()
        await peer.stop()
        later = begin(client.submit("email.send", 2))
        await peer.start()
        connection, _ = await peer.attached()
        again, _ = await connection.submitted()
        fresh, _ = await connection.submitted()
        connection.accept(again.request)
        connection.accept(fresh.request)

        assert (await submitting).id < (await later).id


async def test_timeout_of_what_was_sent_says_that_the_outcome_is_unknown(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path, timeout=0.2) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        _, tasks = await connection.submitted()

        with pytest.raises(Unavailable, match="outcome is unknown") as raised:
            await submitting
        assert "0.2 s" in str(raised.value)
        assert "email.send" in str(raised.value)
        assert raised.value.sent
        assert raised.value.ids == (to_text(tasks[0][0]),)


async def test_timeout_of_what_was_not_sent_says_so(peer: Peer) -> None:
    client = AsyncClient(peer.path, timeout=0.2)

    with pytest.raises(Unavailable, match="it was not sent") as raised:
        await client.submit("email.send")
    assert not raised.value.sent
    many = await client.submit_many([NewTask(handler="email.send")] * 3)
    assert [type(v) for v in many] == [Unavailable] * 3
    await client.close()


async def test_busy_is_tried_again_after_the_time_it_names(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        first, _ = await connection.submitted()
        connection.refuse(first.request, "busy", retry_after_ms=60)
        again, _ = await connection.submitted()
        connection.accept(again.request)

        await submitting
        assert again == first


async def test_what_a_submit_waits_for_is_said_once_it_waits_for_long(
    peer: Peer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.sdk.exchange.SAY_AFTER_S", 0.1)
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        said = []
        for _ in range(4):
            batch, _ = await connection.submitted()
            said.append(len(caplog.messages))
            connection.refuse(batch.request, "busy", retry_after_ms=60)
        batch, _ = await connection.submitted()
        connection.accept(batch.request)
        await submitting

    assert said[:2] == [0, 0]
    assert caplog.messages == ["a submit waits and is tried again: told busy [busy]"]


async def test_busy_for_longer_than_the_timeout_is_raised_at_once(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.refuse(batch.request, "busy", retry_after_ms=60_000)

        with pytest.raises(Busy, match="nothing was stored") as raised:
            await submitting
        assert raised.value.retry_after == 60


async def test_busy_after_an_unanswered_try_leaves_the_outcome_unknown(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.refuse(batch.request, "unavailable", retry_after_ms=1)
        await connection.submitted()
        connection.refuse(batch.request, "busy", retry_after_ms=60_000)

        with pytest.raises(Unavailable, match="outcome is unknown"):
            await submitting


async def test_a_batch_refused_for_good_is_rejected(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.refuse(batch.request, "malformed")

        with pytest.raises(Rejected, match="told malformed"):
            await submitting


async def test_large_submits_are_split_and_answered_as_one(peer: Peer) -> None:
    news = [NewTask(handler="email.send", payload=b"x" * 600_000) for _ in range(10)]
    news += [NewTask(handler="email.send", payload=b"y") for _ in range(12_000)]
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit_many(news))
        connection, _ = await peer.attached()
        sizes: list[int] = []
        while sum(sizes) < len(news):
            for batch in (await connection.expect(m.Submit)).batches:
                assert len(batch.tasks) < limits.BATCH_BYTES_MAX + 10_000
                tasks = codec.unpack(batch.tasks)
                sizes.append(len(tasks))
                connection.accept(batch.request, m.Rejection(len(tasks) - 1, "busy", "last"))
        verdicts = await submitting

        assert max(sizes) <= limits.BATCH_TASKS_MAX
        rejected = {i for i, v in enumerate(verdicts) if isinstance(v, Rejected)}
        assert rejected == {sum(sizes[: i + 1]) - 1 for i in range(len(sizes))}


async def test_few_batches_are_open_and_the_rest_gathers(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = [begin(client.submit("email.send", 0))]
        connection, _ = await peer.attached()
        batches = [(await connection.submitted())[0]]
        for i in range(1, 16):
            submitting.append(begin(client.submit("email.send", i)))
            batches.append((await connection.submitted())[0])
        submitting += [begin(client.submit("email.send", i)) for i in range(16, 20)]
        for _ in range(20):
            await asyncio.sleep(0)
        connection.accept(batches[0].request)
        last, tasks = await connection.submitted()

        assert [json.loads(t[2]) for t in tasks] == [16, 17, 18, 19]
        for batch in [*batches[1:], last]:
            connection.accept(batch.request)
        await asyncio.gather(*submitting)


async def test_a_sidecar_that_does_not_read_slows_the_client_and_loses_nothing(
    peer: Peer,
) -> None:
    news = [NewTask(handler="email.send", payload=b"x" * 1_000_000) for _ in range(30)]
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit_many(news))
        connection, _ = await peer.attached()
        for _ in range(50):
            await asyncio.sleep(0)
        small = begin(client.submit("email.send", b"last"))
        seen: list[bytes] = []
        while len(seen) < 31:
            for batch in (await connection.expect(m.Submit)).batches:
                seen += [t[2][:4] for t in codec.unpack(batch.tasks)]
                connection.accept(batch.request)
        await submitting
        await small

        assert seen == [b"xxxx"] * 30 + [b"last"]


async def test_cancelled_submit_that_was_not_sent_is_not_sent(peer: Peer) -> None:
    async with AsyncClient(peer.path) as client:
        unwanted = begin(client.submit("email.send", 1))
        wanted = begin(client.submit("email.send", 2))
        await asyncio.sleep(0)
        unwanted.cancel()
        async with peer:
            connection, _ = await peer.attached()
            batch, tasks = await connection.submitted()
            connection.accept(batch.request)
            await wanted

            assert [t[2] for t in tasks] == [b"2"]


async def test_status_tells_everything_in_words(peer: Peer) -> None:
    told = a_status(
        7,
        state=m.State.DEAD,
        priority=m.Priority.LOW,
        error="attempts used up",
        history=[m.AttemptRecord(1, 5, 9, 5, "a-sidecar", "crash", "gone", "trace")],
    )
    async with peer, AsyncClient(peer.path) as client:
        asking = begin(client.status(to_text(task_id(7))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        connection.send(m.Answer([m.Reply(question.request, None, told)]))
        status = await asking

        assert (question.id, question.wait_ms) == (task_id(7), 0)
        assert (status.id, status.state, status.ended) == (to_text(task_id(7)), "dead", True)
        assert (status.priority, status.error) == ("low", "attempts used up")
        assert status.history[0].outcome == "lost"
        assert status.history[0].error_type == "crash"


async def test_status_of_an_unknown_task_says_so(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        asking = begin(client.status(to_text(task_id(7))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        connection.send(m.Answer([m.Reply(question.request, "unknown_task", None)]))

        with pytest.raises(TaskNotFound, match=to_text(task_id(7))):
            await asking


async def test_status_that_does_not_come_says_why(peer: Peer) -> None:
    async with AsyncClient(peer.path, timeout=0.2) as client:
        with pytest.raises(Unavailable, match="is the sidecar running"):
            await client.status(task_id(1))
        with pytest.raises(Unavailable, match="did not tell its facts"):
            await client.inspect()


@pytest.mark.parametrize(("code", "error"), [("unavailable", Unavailable), ("busy", Busy)])
async def test_question_that_cannot_be_answered_says_so(
    peer: Peer, code: str, error: type[Exception]
) -> None:
    async with peer, AsyncClient(peer.path) as client:
        asking = begin(client.status(task_id(1)))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        connection.send(m.Answer([m.Reply(question.request, code, None)]))

        with pytest.raises(error):
            await asking


async def test_callers_beyond_the_bytes_that_may_wait_are_slowed_down(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.sdk.client.BYTES_WAITING_MAX", 1000)
    async with AsyncClient(peer.path) as client:
        first = begin(client.submit("email.send", b"x" * 2000))
        await asyncio.sleep(0)
        second = begin(client.submit("email.send", b"y"))
        async with peer:
            connection, _ = await peer.attached()
            batch, tasks = await connection.submitted()
            connection.accept(batch.request)
            later, later_tasks = await connection.submitted()
            connection.accept(later.request)
            await first
            await second

    assert [t[2][:1] for t in tasks] == [b"x"]
    assert [t[2] for t in later_tasks] == [b"y"]


async def test_client_on_a_second_open_loop_is_refused(peer: Peer) -> None:
    client = AsyncClient(peer.path, timeout=0.1)
    with pytest.raises(Unavailable):
        await client.submit("email.send")

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(client.inspect())

    await asyncio.to_thread(elsewhere)
    await client.close()


async def test_submitting_nothing_is_no_request(peer: Peer) -> None:
    assert await AsyncClient(peer.path).submit_many([]) == []


async def test_text_that_is_no_id_is_rejected(peer: Peer) -> None:
    with pytest.raises(Rejected, match="not a task id"):
        await AsyncClient(peer.path).status("seven")


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (None, None),
        (m.Result(None, b'{"a": [1]}'), {"a": [1]}),
        (m.Result("application/octet-stream", b"{}"), b"{}"),
        (m.Result("text/plain", b"hello"), b"hello"),
    ],
)
async def test_wait_returns_what_the_handler_returned(
    peer: Peer, result: m.Result | None, value: Any
) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = begin(client.wait(to_text(task_id(1))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        told = a_status(state=m.State.SUCCEEDED, result=result)
        connection.send(m.Answer([m.Reply(question.request, None, told)]))

        assert question.wait_ms == limits.WAIT_MS_MAX
        assert await waiting == value


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (m.State.DEAD, TaskDead),
        (m.State.CANCELLED, TaskCancelled),
        (m.State.EXPIRED, TaskExpired),
        (m.State.DROPPED, TaskDropped),
    ],
)
async def test_wait_raises_how_a_task_ended_without_success(
    peer: Peer, state: m.State, error: type[TaskFailed]
) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = begin(client.wait(to_text(task_id(1))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        told = a_status(state=state, error="for a reason")
        connection.send(m.Answer([m.Reply(question.request, None, told)]))

        with pytest.raises(error, match="for a reason"):
            await waiting


async def test_wait_times_out_while_the_task_goes_on(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = begin(client.wait(to_text(task_id(1)), timeout=0.1))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions

        with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
            await waiting
        assert 0 < question.wait_ms <= 101


async def test_wait_asks_again_when_the_answer_is_not_the_end(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = begin(client.wait(to_text(task_id(1))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        connection.send(m.Answer([m.Reply(question.request, None, a_status())]))
        (again,) = (await connection.expect(m.Query)).questions
        ended = a_status(state=m.State.SUCCEEDED)
        connection.send(m.Answer([m.Reply(again.request, None, ended)]))

        assert await waiting is None


async def test_waits_go_on_over_an_outage_of_the_coordinator(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = begin(client.wait(to_text(task_id(1))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        connection.send(m.Answer([m.Reply(question.request, "unavailable", None)]))
        (again,) = (await connection.expect(m.Query)).questions
        ended = a_status(state=m.State.SUCCEEDED)
        connection.send(m.Answer([m.Reply(again.request, None, ended)]))

        assert await waiting is None


async def test_waits_go_on_over_a_restart_of_the_sidecar(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = begin(client.wait(to_text(task_id(1)), timeout=30))
        connection, _ = await peer.attached()
        (first,) = (await connection.expect(m.Query)).questions
        connection.cut()
        connection, _ = await peer.attached()
        (again,) = (await connection.expect(m.Query)).questions
        ended = a_status(state=m.State.SUCCEEDED, result=m.Result(None, b"1"))
        connection.send(m.Answer([m.Reply(again.request, None, ended)]))

        assert await waiting == 1
        assert again.wait_ms <= first.wait_ms


async def test_many_waits_travel_in_few_messages(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        waiting = [begin(client.wait(task_id(i))) for i in range(1500)]
        connection, _ = await peer.attached()
        groups = [(await connection.expect(m.Query)).questions for _ in range(2)]
        ended = a_status(state=m.State.SUCCEEDED)
        connection.send(m.Answer([m.Reply(q.request, None, ended) for g in groups for q in g]))
        await asyncio.gather(*waiting)

        assert [len(group) for group in groups] == [1000, 500]


async def test_inspect_returns_the_facts_also_over_a_restart(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        asking = begin(client.inspect())
        connection, _ = await peer.attached()
        await connection.expect(m.Inspect)
        connection.cut()
        connection, _ = await peer.attached()
        await connection.expect(m.Inspect)
        connection.send(m.Inspected({"service": "email", "held": 3}))

        assert await asking == {"service": "email", "held": 3}


async def test_refusal_for_good_reaches_the_caller(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection = await peer.dialled()
        await connection.expect(m.Attach)
        connection.send(m.Refused("unsupported_version", "speaks 2 only", 0))

        with pytest.raises(Refused, match="speaks 2 only"):
            await submitting


async def test_refusal_for_now_is_tried_again(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection = await peer.dialled()
        await connection.expect(m.Attach)
        connection.send(m.Refused("stopping", "later", 0))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request)

        await submitting


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_garbage_from_the_sidecar_ends_the_connection_only(
    peer: Peer, garbage: bytes
) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        await connection.submitted()
        connection.send_bytes(garbage)
        await connection.ended()
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request)

        await submitting


async def test_idle_client_does_not_dial_again(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request)
        await submitting
        connection.cut()
        await connection.ended()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await peer.dialled()

        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request)
        await submitting


async def test_closing_fails_what_has_no_answer(peer: Peer) -> None:
    async with peer:
        client = AsyncClient(peer.path)
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        await connection.submitted()
        await client.close()

        with pytest.raises(Unavailable, match="closed"):
            await submitting


async def test_handle_asks_about_its_task(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = begin(client.submit("email.send"))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request)
        task = await submitting
        waiting = begin(task.result(timeout=5))
        (question,) = (await connection.expect(m.Query)).questions
        told = a_status(state=m.State.SUCCEEDED, result=m.Result(None, b"[]"))
        connection.send(m.Answer([m.Reply(question.request, None, told)]))

        assert question.id == from_text(task.id)
        assert await waiting == []


def test_client_works_again_on_another_loop(path: Path) -> None:
    client = AsyncClient(path)

    async def once() -> None:
        async with Peer(path) as peer:
            submitting = begin(client.submit("email.send"))
            connection, _ = await peer.attached()
            batch, _ = await connection.submitted()
            connection.accept(batch.request)
            await submitting
            await client.close()

    asyncio.run(once())
    asyncio.run(once())


def test_no_socket_is_an_error_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILLION_SIDECAR_SOCKET", raising=False)
    with pytest.raises(ValueError, match="PILLION_SIDECAR_SOCKET"):
        AsyncClient()


def test_too_long_a_socket_path_is_an_error_that_names_the_limit() -> None:
    with pytest.raises(ValueError, match="107"):
        AsyncClient("/tmp/" + "x" * 120)


async def test_cancel_returns_the_task_as_it_is_then(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        asking = asyncio.create_task(client.cancel(to_text(task_id()), "not wanted"))
        connection, _ = await peer.attached()
        (request,) = (await connection.expect(m.Cancel)).requests
        told = a_status(
            state=m.State.RUNNING, progress=250, note="a quarter", checkpoint=b"x", cancelling=True
        )
        connection.send(m.Answer([m.Reply(request.request, None, told)]))
        status = await asking

    assert request[1:] == (task_id(), "not wanted")
    assert (status.state, status.cancelling, status.ended) == ("running", True, False)
    assert (status.progress, status.note, status.checkpoint) == (0.25, "a quarter", b"x")


async def test_cancel_is_sent_again_when_the_connection_breaks(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        asking = asyncio.create_task(client.cancel(task_id()))
        first, _ = await peer.attached()
        await first.expect(m.Cancel)
        first.cut()
        second, _ = await peer.attached()
        (request,) = (await second.expect(m.Cancel)).requests
        reply = m.Reply(request.request, Code.UNKNOWN_TASK, None)
        second.send(m.Answer([reply]))
        with pytest.raises(TaskNotFound):
            await asking


async def test_cancel_with_too_long_a_reason_is_refused_at_once(peer: Peer) -> None:
    with pytest.raises(Rejected, match="longer than 256"):
        await AsyncClient(peer.path).cancel(task_id(), "x" * 257)


async def test_key_makes_the_id_and_is_told_to_the_handler(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        submitting = asyncio.create_task(
            client.submit("email.send", {}, key="order 42", meta={"tenant": "acme"})
        )
        connection, _ = await peer.attached()
        batch, [task] = await connection.submitted()
        connection.accept(batch.request, known=(0,))
        handle = await submitting

    assert task[0] == keyed_id("email.send", "order 42")
    assert task[4] == {"key": "order 42", "meta": {"tenant": "acme"}}
    assert (handle.id, handle.duplicate) == (to_text(task[0]), True)


async def test_each_of_many_tasks_tells_whether_it_was_there_already(peer: Peer) -> None:
    async with peer, AsyncClient(peer.path) as client:
        tasks = [NewTask(handler="email.send", key=str(n)) for n in range(4)]
        submitting = asyncio.create_task(client.submit_many(tasks))
        connection, _ = await peer.attached()
        batch, _ = await connection.submitted()
        connection.accept(batch.request, known=(1, 3))
        handles = await submitting

    assert [isinstance(h, Task) and h.duplicate for h in handles] == [False, True, False, True]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"key": ""}, Code.INVALID_OPTION),
        ({"key": 5}, Code.INVALID_OPTION),
        ({"key": "a", "id": to_text(task_id())}, Code.INVALID_OPTION),
        ({"meta": {"A": "x"}}, Code.INVALID_OPTION),
        ({"traceparent": "00"}, Code.INVALID_OPTION),
    ],
)
async def test_option_that_cannot_be_taken_is_refused_at_once(
    peer: Peer, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        await AsyncClient(peer.path).submit("email.send", **options)
    assert caught.value.code == code
