"""The coordinator is away: apps go on submitting, nothing is lost, doubled, or out of order.

By hand, for a minute: ``PILLION_OUTAGE_SECONDS=60 pytest tests/scenarios/test_outage.py``.
"""

import asyncio
import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar import AsyncClient, Client, NewTask
from sidecar.sdk.errors import PillionError, Unavailable
from sidecar.sdk.task import Task
from tests.scenarios.stage import command, lines, wait_for_facts, wait_for_services
from tests.support.processes import Coordinator, Process, Sidecar, System

OUTAGE_SECONDS = float(os.environ.get("PILLION_OUTAGE_SECONDS", "5"))
TIMEOUT_SECONDS = 60 + 4 * OUTAGE_SECONDS
APPS = ("single", "many", "busy")
NEGATIVE = 1

SERVICE = """
import os
from sidecar import Service, current

service = Service("load")
begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
ended = os.open("ended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

@service.handler(concurrency=1)  # So that they run in the order in which they were accepted.
async def note(app: str, number: int) -> int:
    os.write(begun, f"{app} {number}\\n".encode())
    return number

@service.handler(concurrency=4, backoff_min="10ms", backoff_max="20ms")
def gated(name: str) -> str:
    os.write(begun, f"{name} {current().attempt}\\n".encode())
    with open(f"gate-{name}") as gate:  # A pipe: until the test opens its other end.
        gate.read()
    os.write(ended, f"{name} {current().attempt}\\n".encode())
    return name

service.run()
"""

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


class Stage:
    """A coordinator with a short session timeout, a sidecar, and a service that writes down."""

    def __init__(self, system: System, *, serve: bool = True) -> None:
        self.system = system
        self.folder = system.folder
        self.coordinator: Coordinator = system.coordinator("--session-timeout", "3s")
        self.sidecar: Sidecar = system.sidecar("load", self.coordinator, name="s")
        self.service: Process = system.service("service", self.sidecar, SERVICE, start=serve)
        self.client = Client(self.sidecar.socket_path)
        if serve:
            wait_for_services(self.sidecar, self.client)

    def spooled(self, count: int) -> None:
        """Wait until so many batches are in the spool."""
        wait_for_facts(self.sidecar, self.client, "has spooled", spooled_batches=count)

    def facts(self) -> dict[str, int | str]:
        return self.client.inspect()

    def begun(self) -> list[str]:
        return lines(self.folder / "begun")

    def wait_for_begun(self, count: int) -> list[str]:
        def reached() -> bool:
            return len(self.begun()) >= count

        seconds = 15 + OUTAGE_SECONDS
        self.service.wait_until(reached, f"has begun {count} attempts", seconds)
        return self.begun()


@pytest.fixture
def stage(system: System) -> Iterator[Stage]:
    made = Stage(system)
    with made.client:
        yield made


@pytest.fixture
def unserved(system: System) -> Iterator[Stage]:
    """A stage whose service is not there yet."""
    made = Stage(system, serve=False)
    with made.client:
        yield made


class Load:
    """Apps that submit as fast as they are answered, and remember what they were told."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._on = True
        self.submitted: Counter[str] = Counter()
        self.tasks: list[Task[Any]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        clients = {app: AsyncClient(self._path) for app in APPS}
        work = [
            asyncio.create_task(self._submit_singly("single", clients["single"])),
            asyncio.create_task(self._submit_many("many", clients["many"])),
            *[
                asyncio.create_task(self._submit_singly(f"busy-{i}", clients["busy"]))
                for i in range(8)
            ],
        ]
        try:
            yield self
            self._on = False
            await asyncio.gather(*work)
        finally:
            for one in work:
                one.cancel()
            for client in clients.values():
                await client.close()

    async def _submit_singly(self, app: str, client: AsyncClient) -> None:
        while self._on:
            self.submitted[app] += 1
            payload = {"app": app, "number": self.submitted[app]}
            self.tasks.append(await client.submit("load.note", payload))
            await asyncio.sleep(0.02)  # The pace of the load; nothing is waited for.

    async def _submit_many(self, app: str, client: AsyncClient) -> None:
        while self._on:
            new = []
            for _ in range(20):
                self.submitted[app] += 1
                payload = {"app": app, "number": self.submitted[app]}
                new.append(NewTask(handler="load.note", payload=payload))
            for verdict in await client.submit_many(new):
                assert not isinstance(verdict, PillionError), verdict
                self.tasks.append(verdict)
            await asyncio.sleep(0.1)


def under_load(stage: Stage, breaks: Callable[[], Awaitable[None]]) -> Load:
    """Break things while apps submit with the client's defaults; an error they see is raised."""
    load = Load(stage.sidecar.socket_path)

    async def run() -> None:
        async with load.running():
            await asyncio.sleep(0.3)
            await breaks()
            await asyncio.sleep(0.3)

    asyncio.run(run())
    return load


def assert_each_ran_once_in_order(stage: Stage, load: Load) -> None:
    ran: dict[str, list[int]] = {}
    for line in stage.wait_for_begun(sum(load.submitted.values())):
        app, number = line.split()
        ran.setdefault(app, []).append(int(number))
    assert {app: len(numbers) for app, numbers in ran.items()} == load.submitted
    for app, numbers in ran.items():
        assert numbers == list(range(1, load.submitted[app] + 1)), f"{app}: out of order"
    spooled = sum(task.spooled for task in load.tasks)
    print(f"{sum(load.submitted.values())} tasks, {spooled} of them spooled")  # noqa: T201 (-rP)
    assert spooled


def test_apps_see_nothing_of_an_outage_and_every_task_runs_once_in_order(stage: Stage) -> None:
    by_command: list[str] = []

    async def outage() -> None:
        await asyncio.to_thread(stage.coordinator.kill)
        await asyncio.to_thread(stage.spooled, 1)
        payload = json.dumps({"app": "command", "number": 1})
        done = await asyncio.to_thread(command, stage.sidecar, "submit", "load.note", payload)
        assert (done.code, "spooled" in done.err) == (0, True), done
        by_command.append(done.out.strip())
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(stage.coordinator.start)

    load = under_load(stage, outage)

    load.submitted["command"] = 1
    assert_each_ran_once_in_order(stage, load)
    assert stage.client.wait(by_command[0], timeout=20) == 1
    assert stage.facts()["spooled_batches"] == 0
    assert stage.client.submit("load.note", {"app": "last", "number": 1}).spooled is False


def test_coordinator_that_stands_still_is_an_outage_like_any_other(stage: Stage) -> None:
    async def pause() -> None:
        os.kill(stage.coordinator.pid, signal.SIGSTOP)
        await asyncio.to_thread(stage.spooled, 1)
        await asyncio.sleep(OUTAGE_SECONDS)
        os.kill(stage.coordinator.pid, signal.SIGCONT)

    load = under_load(stage, pause)

    assert_each_ran_once_in_order(stage, load)


def test_sidecar_killed_in_an_outage_loses_nothing_that_apps_were_told(unserved: Stage) -> None:
    stage = unserved

    async def outage() -> None:
        await asyncio.to_thread(stage.coordinator.kill)
        for _ in range(3):
            await asyncio.to_thread(stage.spooled, 5)
            await asyncio.to_thread(stage.sidecar.restart)
        await asyncio.to_thread(stage.spooled, 1)
        await asyncio.to_thread(stage.coordinator.start)

    load = under_load(stage, outage)
    stage.service.start()

    assert_each_ran_once_in_order(stage, load)


def open_gate(stage: Stage, name: str) -> None:
    """Let the attempt that waits at a gate end, and all that come there later."""
    gate = stage.folder / f"gate-{name}"
    os.close(os.open(gate, os.O_WRONLY))
    gate.unlink()
    gate.write_text("")


def test_what_ended_in_an_outage_is_not_run_again_after_a_kill_of_the_sidecar(stage: Stage) -> None:
    for name in ("done", "cut"):
        os.mkfifo(stage.folder / f"gate-{name}")
    done = stage.client.submit("load.gated", {"name": "done"})
    cut = stage.client.submit("load.gated", {"name": "cut"})
    stage.wait_for_begun(2)

    stage.coordinator.kill()
    open_gate(stage, "done")
    wait_for_facts(stage.sidecar, stage.client, "has journaled", outcomes_journaled=1)
    spooled = stage.client.submit("load.note", {"app": "a", "number": 1})
    stage.sidecar.kill()
    open_gate(stage, "cut")
    stage.sidecar.start()
    behind = stage.client.submit("load.note", {"app": "a", "number": 2})
    assert spooled.spooled
    assert behind.spooled
    stage.coordinator.start()

    assert done.result(timeout=20) == "done"
    assert cut.result(timeout=20) == "cut"
    assert (done.status().attempts, cut.status().attempts) == (1, 2)
    assert [task.result(timeout=20) for task in (spooled, behind)] == [1, 2]
    begun = Counter(line.split()[0] for line in stage.begun())
    assert begun == {"done": 1, "cut": 2, "a": 2}


def test_sidecar_stopped_in_an_outage_leaves_all_for_the_next(stage: Stage) -> None:
    os.mkfifo(stage.folder / "gate-done")
    done = stage.client.submit("load.gated", {"name": "done"})
    stage.wait_for_begun(1)
    stage.coordinator.kill()
    spooled = stage.client.submit("load.note", {"app": "a", "number": 1})

    stage.sidecar.signal(signal.SIGTERM)
    open_gate(stage, "done")
    assert stage.sidecar.wait() == 0
    stage.sidecar.start()
    stage.coordinator.start()

    assert done.result(timeout=20) == "done"
    assert spooled.result(timeout=20) == 1
    assert Counter(line.split()[0] for line in stage.begun()) == {"done": 1, "a": 1}


def test_emptied_coordinator_is_refused_visibly_and_submitting_goes_on(stage: Stage) -> None:
    before = stage.client.submit("load.note", {"app": "a", "number": 1})
    before.result(timeout=20)
    stage.coordinator.kill()
    shutil.rmtree(stage.coordinator.data_folder)
    stage.coordinator.start()

    def refused() -> bool:
        return str(stage.facts()["link_trouble"]).startswith("wrong_store")

    stage.sidecar.wait_until(refused, "has refused the coordinator")
    spooled = stage.client.submit("load.note", {"app": "a", "number": 2})
    shown = command(stage.sidecar, "status")
    assert spooled.spooled
    assert shown.code == NEGATIVE
    assert "wrong_store" in shown.out
    assert "spooled_batches" in shown.out
    assert "wrong_store" in stage.sidecar.output()

    stage.sidecar.restart()  # What an operator does who has exchanged the store on purpose.

    assert spooled.result(timeout=20) == 2
    assert stage.begun() == ["a 1", "a 2"]


def test_full_disk_ends_spooling_and_nothing_else(stage: Stage) -> None:
    stage.coordinator.kill()
    spooled = stage.client.submit("load.note", {"app": "a", "number": 1})
    limit = (stage.folder / "pillion").stat().st_size + 400_000
    _, hard = resource.prlimit(stage.sidecar.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(stage.sidecar.pid, resource.RLIMIT_FSIZE, (limit, hard))

    with Client(stage.sidecar.socket_path, timeout="2s") as hasty, pytest.raises(Unavailable):
        hasty.submit("load.note", {"app": "x" * 500_000, "number": 1})

    assert stage.facts()["spool"] == "failed"
    assert "spool_failed" in stage.sidecar.output()
    stage.coordinator.start()
    passed = stage.client.submit("load.note", {"app": "a", "number": 2})
    assert passed.spooled is False
    assert [task.result(timeout=20) for task in (spooled, passed)] == [1, 2]

    resource.prlimit(stage.sidecar.pid, resource.RLIMIT_FSIZE, (hard, hard))
    stage.sidecar.wait_until(
        lambda: stage.facts()["spool"] == "ready", "has opened its spool again", seconds=30
    )
    stage.coordinator.kill()
    assert stage.client.submit("load.note", {"app": "a", "number": 3}).spooled is True
