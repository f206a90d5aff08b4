"""A task that fails for good becomes a dead letter, and says why."""

from collections.abc import Iterator

import pytest

from sidecar import Client
from sidecar.sdk.errors import TaskDead
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import command, lines, wait_for_lines, wait_for_services
from tests.support.processes import Sidecar, System

SERVICE = """
import asyncio, os, sys
from pathlib import Path
from sidecar import Defer, Fatal, Retry, Service, current

BEGUN = Path(sys.argv[1]) / "begun"
service = Service("work")

@service.handler()
async def fatal(to: str) -> None:
    raise Fatal(f"no such address: {to}")

@service.handler(attempts=3, backoff_min="10ms", backoff_max="20ms")
async def failing(to: str) -> None:
    raise RuntimeError(f"attempt {current().attempt} failed")

@service.handler(attempts=2)
async def retried(to: str) -> None:
    raise Retry("the mail server is away", after="10ms")

@service.handler(deferrals=2)
async def deferred(to: str) -> None:
    raise Defer("not now", after="10ms")

@service.handler(attempts=2, timeout="100ms", backoff_min="10ms", backoff_max="20ms")
async def hanging(to: str) -> None:
    await asyncio.Event().wait()

@service.handler()
async def crashing(to: str) -> None:
    with BEGUN.open("a") as file:
        file.write(f"{current().attempt}\\n")
    os._exit(7)

@service.handler()
async def misspelt(too: str) -> None:
    pass

@service.handler()
async def unspeakable(to: str) -> object:
    return object()

service.run()
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Sidecar]:
    """A sidecar whose service and coordinator are there."""
    with System() as system:
        started = system.sidecar("work", system.coordinator())
        system.service("work", started, SERVICE, str(system.folder))
        with Client(started.socket_path) as client:
            wait_for_services(started, client)
        yield started


@pytest.fixture
def sidecar(system: System) -> Sidecar:
    """A sidecar without a service."""
    return system.sidecar("work", system.coordinator())


def dead(task: BlockingTask[object]) -> str:
    """Wait until a task is dead and return the reason."""
    with pytest.raises(TaskDead) as caught:
        task.result(timeout=20)
    return caught.value.reason


@pytest.mark.parametrize(
    ("handler", "reason", "attempts"),
    [
        ("fatal", "Fatal: no such address: a", 1),
        ("failing", "3 attempts used up; last: RuntimeError: attempt 3 failed", 3),
        ("retried", "2 attempts used up; last: Retry: the mail server is away", 2),
        ("deferred", "deferred too often; last: Defer: not now", 0),
        ("hanging", "2 attempts used up; last: timeout: the attempt overran its timeout", 2),
        ("misspelt", "InvalidPayload: ", 1),
        ("unspeakable", "InvalidResult: ", 1),
    ],
)
def test_dead_letter_says_why(served: Sidecar, handler: str, reason: str, attempts: int) -> None:
    with Client(served.socket_path) as client:
        task = client.submit(f"work.{handler}", {"to": "a"})

        assert dead(task).startswith(reason)
        found = task.status()
        assert (found.state, found.attempts) == ("dead", attempts)
        assert len(found.history) == (attempts or 3)
        waited = command(served, "wait", task.id)
        assert waited.code == 1
        assert found.error in waited.err


def test_task_that_takes_its_process_down_three_times_is_dead(
    system: System, sidecar: Sidecar
) -> None:
    service = system.service("work", sidecar, SERVICE, str(system.folder))
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        task = client.submit("work.crashing", {"to": "a"})
        for _ in range(2):
            assert service.wait() == 7
            service.start()
        assert service.wait() == 7

        assert dead(task).startswith("crashed 3 times; last: crash: ")
        assert [attempt.outcome for attempt in task.status().history] == ["lost"] * 3

        service.start()
        assert dead(client.submit("work.fatal", {"to": "b"})) == "Fatal: no such address: b"
    assert lines(system.folder / "begun") == ["1", "2", "3"]


def test_crash_is_told_at_once_and_another_process_goes_on(
    system: System, sidecar: Sidecar
) -> None:
    """Nobody waits for a session to end, or for the process to come back."""
    services = [
        system.service(name, sidecar, SERVICE, str(system.folder)) for name in ("one", "two", "six")
    ]
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client, 3)
        for service in services:
            service.end_expected = True

        reason = dead(client.submit("work.crashing", {"to": "a"}))

    assert reason.startswith("crashed 3 times")
    assert [service.wait() for service in services] == [7, 7, 7]
    wait_for_lines(sidecar, system.folder / "begun", 3)
