"""What is granted when: priorities, limits over several sidecars, delays, expiry, processes."""

import time
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

import pytest

from sidecar import Client
from sidecar.sdk.errors import TaskExpired
from sidecar.sdk.new_task import NewTask
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import command, lines, wait_for_services
from tests.support import history
from tests.support.processes import System

SERVICE = """
import os, sys, time
from pathlib import Path
from sidecar import Service, current
from tests.support.history import Recorder

FOLDER, NAME, PROCESSES = sys.argv[1:4]
service = Service("work")

@service.handler(concurrency=1)
async def note(text: str) -> None:
    with (Path(FOLDER) / "notes").open("a") as file:
        file.write(f"{text} {time.time()} {os.getpid()}\\n")

@service.handler(concurrency=8, limit=3)
def limited(number: int) -> int:
    context = current()
    recorder = Recorder(Path(FOLDER), f"{NAME}-{context.id}")
    recorder.began(context.id, context.token, attempt=1, attempts_max=1, crc=0, sidecar=NAME)
    time.sleep(0.03)
    recorder.ended(context.id, context.token, "success")
    recorder.close()
    return number

@service.handler(concurrency=1)
def pid() -> int:
    time.sleep(0.02)
    return os.getpid()

service.run(processes=int(PROCESSES))
"""


def submit_all(client: Client, tasks: list[NewTask]) -> list[BlockingTask[object]]:
    taken = [task for task in client.submit_many(tasks) if isinstance(task, BlockingTask)]
    assert len(taken) == len(tasks)
    return taken


def notes(folder: Path) -> list[str]:
    return [line.split()[0] for line in lines(folder / "notes")]


def noted_at(folder: Path, text: str) -> float:
    (at,) = [float(line.split()[1]) for line in lines(folder / "notes") if line.startswith(text)]
    return at


def test_priorities_share_by_weight_and_the_lowest_is_never_starved(system: System) -> None:
    sidecar = system.sidecar("work", system.coordinator())
    with Client(sidecar.socket_path) as client:
        tasks = submit_all(
            client,
            [
                NewTask(handler="work.note", payload={"text": priority}, priority=priority)
                for priority in ("low", "normal", "high", "critical")
                for _ in range(30)
            ],
        )

        system.service("work", sidecar, SERVICE, str(system.folder), "one", "1")
        for task in tasks:
            task.result(timeout=20)

    first = notes(system.folder)[:30]
    counts = {p: first.count(p) for p in ("critical", "high", "normal", "low")}
    assert counts == {"critical": 16, "high": 8, "normal": 4, "low": 2}


def test_concurrency_limit_holds_over_two_sidecars(system: System) -> None:
    coordinator = system.coordinator()
    folder = system.folder / "history"
    folder.mkdir()
    sidecars = [system.sidecar("work", coordinator, name=name) for name in ("one", "two")]
    for sidecar in sidecars:
        system.service(f"at-{sidecar.name}", sidecar, SERVICE, str(folder), sidecar.name, "1")
        with Client(sidecar.socket_path) as client:
            wait_for_services(sidecar, client)

    with Client(sidecars[0].socket_path) as client:
        tasks = submit_all(
            client, [NewTask(handler="work.limited", payload={"number": n}) for n in range(60)]
        )
        assert [task.result(timeout=20) for task in tasks] == list(range(60))

    attempts = [a for task in history.read(folder).tasks.values() for a in task.attempts]
    steps = [(a.began_ns, 1) for a in attempts] + [(a.ended_ns or 0, -1) for a in attempts]
    assert max(accumulate(step for _, step in sorted(steps))) == 3
    assert {a.sidecar for a in attempts} == {"one", "two"}


def test_delayed_task_waits_visibly_and_begins_when_it_is_due(system: System) -> None:
    sidecar = system.sidecar("work", system.coordinator())
    system.service("work", sidecar, SERVICE, str(system.folder), "one", "1")
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        delayed = client.submit("work.note", {"text": "delayed"}, delay="700ms")
        at = client.submit(
            "work.note", {"text": "at"}, at=datetime.now(UTC) + timedelta(milliseconds=500)
        )
        client.submit("work.note", {"text": "now"}).result(timeout=20)

        assert {delayed.status().state, at.status().state} == {"scheduled"}
        delayed.result(timeout=20)
        at.result(timeout=20)

        assert notes(system.folder) == ["now", "at", "delayed"]
        for task, text in ((delayed, "delayed"), (at, "at")):
            late = noted_at(system.folder, text) - task.status().due_ms / 1000
            assert 0 <= late < 1


def test_task_that_nobody_began_in_time_expires_and_never_runs(system: System) -> None:
    sidecar = system.sidecar("work", system.coordinator())
    with Client(sidecar.socket_path) as client:
        began = time.monotonic()
        task = client.submit("work.note", {"text": "late"}, delay="100ms", expires="200ms")
        with pytest.raises(TaskExpired, match="expired before an attempt began"):
            task.result(timeout=20)
        assert time.monotonic() - began >= 0.3
        assert task.status().state == "expired"
        assert command(sidecar, "wait", task.id).code == 1

        system.service("work", sidecar, SERVICE, str(system.folder), "one", "1")
        client.submit("work.note", {"text": "marker"}).result(timeout=20)

    assert notes(system.folder) == ["marker"]


def test_several_processes_of_one_program_share_the_work(system: System) -> None:
    sidecar = system.sidecar("work", system.coordinator())
    service = system.service("work", sidecar, SERVICE, str(system.folder), "one", "2")
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client, 2)
        tasks = submit_all(client, [NewTask(handler="work.pid", payload={}) for _ in range(20)])

        assert len({task.result(timeout=20) for task in tasks}) == 2
    assert service.terminate() == 0


def test_two_programs_of_one_service_share_one_sidecar(system: System) -> None:
    sidecar = system.sidecar("work", system.coordinator())
    services = [
        system.service(name, sidecar, SERVICE, str(system.folder), name, "1")
        for name in ("first", "second")
    ]
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client, 2)
        tasks = submit_all(client, [NewTask(handler="work.pid", payload={}) for _ in range(20)])

        assert {task.result(timeout=20) for task in tasks} == {s.pid for s in services}


def test_task_for_a_handler_that_nobody_serves_waits_visibly(system: System) -> None:
    sidecar = system.sidecar("work", system.coordinator())
    with Client(sidecar.socket_path) as client:
        task = client.submit("work.note", {"text": "early"})

        assert (task.status().state, task.status().sidecars) == ("ready", 0)
        shown = command(sidecar, "status", task.id)
        assert shown.code == 0
        assert "no sidecar serves its handler" in shown.out

        system.service("work", sidecar, SERVICE, str(system.folder), "one", "1")
        task.result(timeout=20)
    assert notes(system.folder) == ["early"]
