import asyncio
import os
import threading
from typing import Any

import pytest

from protocol import messages as m
from protocol.ids import to_text
from sidecar import Client, NewTask, Rejected, Service, TaskDead
from tests.sidecar.sdk.peer import Connection, Peer
from tests.support.builders import a_status, task_id


async def accept_next(connection: Connection) -> list[Any]:
    batch, tasks = await connection.submitted()
    connection.accept(batch.request)
    return tasks


async def test_submit_blocks_until_the_task_is_accepted(peer: Peer) -> None:
    async with peer:
        with Client(peer.path) as client:
            submitting = asyncio.create_task(
                asyncio.to_thread(client.submit, "email.send", {"to": "a"}, delay="1s")
            )
            connection, _ = await peer.attached()
            ((sent_id, *sent),) = await accept_next(connection)
            task = await submitting
            await asyncio.to_thread(client.close)

    assert sent == ["email.send", b'{"to":"a"}', None, {"delay_ms": 1000}]
    assert (task.id, task.handler) == (to_text(sent_id), "email.send")


async def test_client_may_be_used_from_many_threads_at_once(peer: Peer) -> None:
    client = Client(peer.path)
    ids: list[str] = []

    def submit(number: int) -> None:
        ids.extend(client.submit("email.send", number).id for _ in range(20))

    async with peer:
        threads = [threading.Thread(target=submit, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        connection, _ = await peer.attached()
        accepted = 0
        while accepted < 160:
            accepted += len(await accept_next(connection))
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(client.close)

    assert len(set(ids)) == 160


async def test_submit_many_gives_each_task_its_verdict(peer: Peer) -> None:
    client = Client(peer.path)
    news = [NewTask(handler="email.send"), NewTask(handler="No")]
    async with peer:
        submitting = asyncio.create_task(asyncio.to_thread(client.submit_many, news))
        connection, _ = await peer.attached()
        await accept_next(connection)
        accepted, rejected = await submitting
        await asyncio.to_thread(client.close)

    assert not isinstance(accepted, Exception)
    assert isinstance(rejected, Rejected)


async def test_result_status_and_facts_are_asked_for(peer: Peer) -> None:
    client = Client(peer.path)
    async with peer:
        submitting = asyncio.create_task(asyncio.to_thread(client.submit, "email.send"))
        connection, _ = await peer.attached()
        await accept_next(connection)
        task = await submitting
        waiting = asyncio.create_task(asyncio.to_thread(task.result, 5))
        (question,) = (await connection.expect(m.Query)).questions
        told = a_status(state=m.State.SUCCEEDED, result=m.Result(None, b"[1]"))
        connection.send(m.Answer([m.Reply(question.request, None, told)]))
        assert await waiting == [1]

        asking = asyncio.create_task(asyncio.to_thread(task.status))
        (question,) = (await connection.expect(m.Query)).questions
        connection.send(m.Answer([m.Reply(question.request, None, told)]))
        assert (await asking).state == "succeeded"

        inspecting = asyncio.create_task(asyncio.to_thread(client.inspect))
        await connection.expect(m.Inspect)
        connection.send(m.Inspected({"service": "email"}))
        assert await inspecting == {"service": "email"}
        await asyncio.to_thread(client.close)


async def test_wait_raises_how_the_task_ended(peer: Peer) -> None:
    client = Client(peer.path)
    async with peer:
        waiting = asyncio.create_task(asyncio.to_thread(client.wait, to_text(task_id(1))))
        connection, _ = await peer.attached()
        (question,) = (await connection.expect(m.Query)).questions
        dead = a_status(state=m.State.DEAD, error="no address")
        connection.send(m.Answer([m.Reply(question.request, None, dead)]))

        with pytest.raises(TaskDead, match="no address"):
            await waiting
        await asyncio.to_thread(client.close)


async def test_closed_client_may_be_used_again(peer: Peer) -> None:
    client = Client(peer.path)
    async with peer:
        for _ in range(2):
            submitting = asyncio.create_task(asyncio.to_thread(client.submit, "email.send"))
            connection, _ = await peer.attached()
            await accept_next(connection)
            await submitting
            await asyncio.to_thread(client.close)
            await connection.ended()


async def test_client_on_an_event_loop_is_refused_not_blocked(peer: Peer) -> None:
    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="use AsyncClient"):
        Client(peer.path).submit("email.send")


async def test_handler_submits_itself_from_code_that_blocks(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    def send(to: str) -> None: ...

    async with peer:
        submitting = asyncio.create_task(asyncio.to_thread(send.submit_sync, "a"))
        connection, _ = await peer.attached()
        ((_, *sent),) = await accept_next(connection)
        await submitting
        await asyncio.to_thread(service.blocking_client.close)

    assert sent == ["email.send", b'{"to":"a"}']


async def test_client_works_in_a_forked_child(peer: Peer) -> None:
    client = Client(peer.path)
    async with peer:
        submitting = asyncio.create_task(asyncio.to_thread(client.submit, "email.send"))
        connection, _ = await peer.attached()
        await accept_next(connection)
        await submitting
        pid = os.fork()
        if pid == 0:
            asyncio.events._set_running_loop(None)
            status = 1
            try:
                client.submit("email.send", "from the child")
                status = 0
            finally:
                os._exit(status)
        from_child, _ = await peer.attached()
        ((_, *sent),) = await accept_next(from_child)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        await asyncio.to_thread(client.close)

    assert sent == ["email.send", b'"from the child"']
    assert os.waitstatus_to_exitcode(status) == 0
