"""The SDK with a real sidecar and a real coordinator."""

import signal
import threading

import pytest

from sidecar import BlockingTask, Client, TaskDead
from tests.support.processes import System

SERVICE = """
import asyncio, os, sys
from sidecar import Defer, Service, current

service = Service("email")

@service.handler(concurrency=64)
async def send(n: int) -> int:
    return n

@service.handler(attempts=3, backoff_min="20ms", backoff_max="50ms")
def flaky(n: int) -> list[int]:
    context = current()
    if context.delivery == 1:
        raise Defer("not yet", after="10ms")
    if context.attempt < 3:
        raise LookupError(f"attempt {context.attempt}")
    return [context.attempt, context.delivery]

@service.handler(timeout="200ms", attempts=1)
async def slow(n: int) -> None:
    await asyncio.Event().wait()

@service.handler(crashes=2, backoff_min="20ms")
def crash(n: int) -> None:
    os.kill(os.getpid(), 9)

service.run(processes=int(sys.argv[1]))
"""


def test_tasks_come_to_what_their_handlers_decide(system: System) -> None:
    beside = system.sidecar("email", system.coordinator())
    system.service("email", beside, SERVICE, "1")

    with Client(beside.socket_path) as client:
        assert client.submit("email.send", {"n": 5}).result(20) == 5
        assert client.submit("email.flaky", {"n": 1}).result(20) == [3, 4]
        with pytest.raises(TaskDead, match="timeout"):
            client.submit("email.slow", {"n": 1}).result(20)
        with pytest.raises(TaskDead, match="field 'n' is missing"):
            client.submit("email.send", {}).result(20)


def test_submits_and_waits_survive_a_restart_of_the_sidecar(system: System) -> None:
    beside = system.sidecar("email", system.coordinator())
    system.service("email", beside, SERVICE, "2")
    tasks: list[BlockingTask[int]] = []
    under_way = threading.Event()

    with Client(beside.socket_path) as client:

        def submit() -> None:
            for number in range(400):
                tasks.append(client.submit("email.send", {"n": number}))
                if number == 50:
                    under_way.set()

        submitting = threading.Thread(target=submit)
        submitting.start()
        assert under_way.wait(20)
        beside.kill()
        beside.start()
        submitting.join(30)

        assert [task.result(30) for task in tasks] == list(range(400))


def test_process_that_dies_in_an_attempt_is_charged_for_that_attempt_only(system: System) -> None:
    beside = system.sidecar("email", system.coordinator())
    service = system.service("email", beside, SERVICE, "1")

    with Client(beside.socket_path) as client:
        task = client.submit("email.crash", {"n": 1})
        others = [client.submit("email.send", {"n": n}) for n in range(20)]
        for _ in range(2):
            assert service.wait(20) == -signal.SIGKILL
            service.start()
        with pytest.raises(TaskDead, match="crash"):
            task.result(20)

        assert [other.result(20) for other in others] == list(range(20))
        outcomes = [attempt.outcome for attempt in task.status().history]

    assert outcomes == ["lost", "lost"]
