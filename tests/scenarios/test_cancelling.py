"""Cancelling, progress and keys, from the command and the SDK through all three processes."""

import json
from collections.abc import Iterator

import pytest

from sidecar import Client, TaskCancelled
from tests.scenarios.stage import command, lines, wait_for_lines, wait_for_services
from tests.support.process import Process
from tests.support.processes import Sidecar, System

SERVICE = """
import asyncio
from pathlib import Path
from sidecar import Service, current

service = Service("email")

def log(text):
    with open("log", "a") as file:
        file.write(text + "\\n")

@service.handler()
async def hang(to: str) -> None:
    log(f"begun {to}")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log(f"stopped {to}")
        raise

@service.handler()
def block(to: str) -> None:
    log(f"begun {to}")
    assert current().wait_cancelled(30)
    log(f"stopped {to}")
    current().raise_if_cancelled()

@service.handler(backoff_min=0, backoff_max=0)
async def step(pages: int) -> list:
    context = current()
    page = context.load_checkpoint() or 0
    if page == pages:
        return [page, context.attempt, context.key, context.meta, context.traceparent]
    context.progress((page + 1) / pages, note=f"page {page + 1}", checkpoint=page + 1)
    raise ValueError("the next attempt goes on")

@service.handler()
async def slow(to: str) -> None:
    current().progress(0.5, note="half of it", checkpoint="half")
    await asyncio.Event().wait()

@service.handler()
async def parent(to: str) -> str:
    task = await service.client.submit("email.step", {"pages": 0})
    return (await task.result())[4]

service.run()
"""
OK, NEGATIVE, NOT_FOUND = 0, 1, 3
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Stage:
    """Three processes, and a client."""

    def __init__(self, system: System, sidecar: Sidecar, service: Process, client: Client) -> None:
        self.sidecar = sidecar
        self.service = service
        self.client = client
        self.log = system.folder / "log"

    def logged(self, text: str) -> None:
        self.service.wait_until(lambda: text in lines(self.log), f"has logged {text}")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with System() as system:
        sidecar = system.sidecar("email", system.coordinator())
        service = system.service("email", sidecar, SERVICE)
        with Client(sidecar.socket_path) as client:
            wait_for_services(sidecar, client)
            yield Stage(system, sidecar, service, client)


@pytest.mark.parametrize("handler", ["hang", "block"])
def test_running_attempt_is_stopped_and_then_the_task_is_cancelled(
    stage: Stage, handler: str
) -> None:
    task = stage.client.submit(f"email.{handler}", {"to": handler})
    stage.logged(f"begun {handler}")

    status = task.cancel("not wanted")

    assert status.cancelling or status.state == "cancelled"
    with pytest.raises(TaskCancelled, match="not wanted"):
        task.result(timeout=20)
    stage.logged(f"stopped {handler}")
    assert task.status().attempts == 1


def test_waiting_task_is_cancelled_by_the_command(stage: Stage) -> None:
    task = stage.client.submit("email.nobody", {}, delay="1h")

    done = command(stage.sidecar, "cancel", task.id, "--reason", "by hand", "-o", "json")

    assert done.code == OK
    assert json.loads(done.out)["error"] == "cancelled: by hand"
    assert command(stage.sidecar, "cancel", task.id).code == OK, "twice is once"


def test_cancelling_what_has_ended_or_never_was_says_so(stage: Stage) -> None:
    task = stage.client.submit("email.step", {"pages": 0})
    task.result(timeout=20)
    done = command(stage.sidecar, "cancel", task.id)
    assert (done.code, "succeeded" in done.out) == (NEGATIVE, True)
    assert command(stage.sidecar, "cancel", task.id[:-4] + "0000").code == NOT_FOUND


def test_each_attempt_goes_on_from_the_checkpoint_of_the_last(stage: Stage) -> None:
    task = stage.client.submit("email.step", {"pages": 4})
    assert task.result(timeout=30)[:2] == [4, 5]


def test_progress_is_shown_while_the_attempt_goes_on(stage: Stage) -> None:
    task = stage.client.submit("email.slow", {"to": "x"})
    stage.service.wait_until(lambda: task.status().progress is not None, "has told of it")
    shown = command(stage.sidecar, "status", task.id).out
    task.cancel()
    for text in ("running", "50.0 %", "half of it", "4 bytes"):
        assert text in shown
    with pytest.raises(TaskCancelled):
        task.result(timeout=20)


def test_handler_gets_key_meta_and_trace_context(stage: Stage) -> None:
    first, second = [
        stage.client.submit(
            "email.step",
            {"pages": 0},
            key="order 42",
            meta={"tenant": "acme"},
            traceparent=TRACEPARENT,
        )
        for _ in range(2)
    ]
    assert first.id == second.id
    assert (first.duplicate, second.duplicate) == (False, True)
    expected = [0, 1, "order 42", {"tenant": "acme"}, TRACEPARENT]
    assert first.result(timeout=20) == expected


def test_trace_context_goes_on_to_what_a_handler_submits(stage: Stage) -> None:
    task = stage.client.submit("email.parent", {"to": "x"}, traceparent=TRACEPARENT)
    assert task.result(timeout=20) == TRACEPARENT


def test_key_of_the_command_makes_one_task(stage: Stage) -> None:
    arguments = ("submit", "email.step", '{"pages": 0}', "--key", "from the shell")
    first, second = [command(stage.sidecar, *arguments) for _ in range(2)]
    assert first.out == second.out
    assert ("already" in first.err, "already" in second.err) == (False, True)
    other = command(stage.sidecar, "submit", "email.step", "{}", "--key", "from the shell")
    assert "duplicate_id" in other.err


def test_task_whose_sidecar_dies_while_it_is_cancelled_ends_as_cancelled() -> None:
    with System() as system:
        coordinator = system.coordinator("--session-timeout", "1s")
        sidecar = system.sidecar("email", coordinator)
        service = system.service("email", sidecar, SERVICE)
        other = system.sidecar("other", coordinator)
        with Client(other.socket_path) as client:
            task = client.submit("email.block", {"to": "x"})
            wait_for_lines(service, system.folder / "log", 1)
            sidecar.kill()
            service.kill()
            assert task.cancel("gone").cancelling
            with pytest.raises(TaskCancelled, match="gone"):
                task.result(timeout=20)
