"""SIGTERM ends a sidecar or a service without costing any task an attempt."""

import os
import signal
from pathlib import Path

from sidecar import Client
from sidecar.sdk.new_task import NewTask
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import lines, wait_for_facts, wait_for_lines, wait_for_services
from tests.support.process import Process
from tests.support.processes import Sidecar, System

SERVICE = """
import os, sys
from pathlib import Path
from sidecar import Service, current

FOLDER = Path(sys.argv[1])
service = Service("work")

def write(name: str, text: str) -> None:
    with (FOLDER / name).open("a") as file:
        file.write(text + "\\n")

@service.handler(concurrency=4)
def step(number: int, gated: bool) -> int:
    write("begun", f"{number} {os.getpid()}")
    while gated and not (FOLDER / "go").exists():
        if current().wait_cancelled(0.01):
            write("stopped", f"{number} {current().reason}")
            current().raise_if_cancelled()
    write("done", str(number))
    return number

service.run()
"""
QUICK, GATED = 2_000, 100
SLOTS = 4


class Scene:
    """One sidecar and one service that has begun four gated tasks and was handed more of them."""

    def __init__(self, system: System, *options: str) -> None:
        self.folder = system.folder
        self.coordinator = system.coordinator("--session-timeout", "2s")
        self.sidecar = system.sidecar("work", self.coordinator, *options)
        self.service = system.service("work", self.sidecar, SERVICE, str(self.folder))
        self.client = Client(self.sidecar.socket_path)
        wait_for_services(self.sidecar, self.client)
        # At their pace the sidecar asks for more than the four that can run.
        quick = [{"number": n, "gated": False} for n in range(QUICK)]
        gated = [{"number": QUICK + n, "gated": True} for n in range(GATED)]
        taken = self.client.submit_many(
            NewTask(handler="work.step", payload=payload) for payload in quick + gated
        )
        tasks = [task for task in taken if isinstance(task, BlockingTask)]
        assert len(tasks) == QUICK + GATED
        self.gated = tasks[QUICK:]
        wait_for_lines(self.service, self.begun, QUICK + SLOTS)
        wait_for_facts(self.sidecar, self.client, "runs four", tasks_running=SLOTS)

    @property
    def begun(self) -> Path:
        return self.folder / "begun"

    def begun_gated(self) -> list[int]:
        numbers = [int(line.split()[0]) for line in lines(self.begun)]
        return [number for number in numbers if number >= QUICK]

    def open_gate(self) -> None:
        (self.folder / "go").touch()

    def held(self) -> int:
        facts = self.client.inspect()
        return int(facts["tasks_buffered"]) + int(facts["tasks_at_services"])

    def check_all_ran_once_at_one_attempt(self) -> None:
        for task in self.gated:
            task.result(timeout=20)
        assert {task.status().attempts for task in self.gated} == {1}
        assert sorted(self.begun_gated()) == [QUICK + n for n in range(GATED)]


def term(process: Process) -> None:
    process.end_expected = True
    os.kill(process.pid, signal.SIGTERM)


def wait_until_draining(sidecar: Sidecar, client: Client) -> None:
    wait_for_facts(sidecar, client, "drains", draining=1)


def test_sidecar_finishes_what_runs_and_gives_the_rest_back_uncharged(system: System) -> None:
    scene = Scene(system)
    assert scene.held() > 0, "nothing was handed over that had not begun"

    term(scene.sidecar)
    wait_until_draining(scene.sidecar, scene.client)
    scene.open_gate()
    assert scene.sidecar.wait() == 0
    assert len(scene.begun_gated()) == SLOTS
    scene.sidecar.start()

    scene.check_all_ran_once_at_one_attempt()
    assert lines(scene.folder / "stopped") == []
    assert "session_closed" in scene.coordinator.output()
    assert "session_expired" not in scene.coordinator.output()


def test_sidecar_stops_what_outlasts_its_drain_uncharged(system: System) -> None:
    scene = Scene(system, "--drain", "200ms")

    assert scene.sidecar.terminate() == 0
    stopped = wait_for_lines(scene.service, scene.folder / "stopped", SLOTS)
    assert {line.split()[1] for line in stopped} == {"stopping"}
    scene.open_gate()
    scene.sidecar.start()

    for task in scene.gated:
        task.result(timeout=20)
    assert {task.status().attempts for task in scene.gated} == {1}


def test_second_signal_ends_a_sidecar_at_once_and_its_leases_run_out(system: System) -> None:
    scene = Scene(system)

    term(scene.sidecar)
    wait_until_draining(scene.sidecar, scene.client)
    term(scene.sidecar)
    assert scene.sidecar.wait() == 0
    scene.sidecar.start()
    begun = [task for task in scene.gated[:SLOTS] if task.status().sidecar]
    assert [task.status().history for task in begun] == [()] * SLOTS, "leased as before"
    scene.open_gate()

    for task in scene.gated:
        task.result(timeout=20)
    assert "session_expired" in scene.coordinator.output()


def test_service_finishes_what_runs_and_gives_the_rest_back_uncharged(system: System) -> None:
    scene = Scene(system)
    pid = scene.service.pid

    term(scene.service)
    wait_for_facts(scene.sidecar, scene.client, "has one app and no more at services", services=1)
    scene.sidecar.wait_until(
        lambda: scene.client.inspect()["tasks_at_services"] == 0, "has taken back what waited"
    )
    scene.open_gate()
    assert scene.service.wait() == 0
    assert len(scene.begun_gated()) == SLOTS
    scene.service.start()

    scene.check_all_ran_once_at_one_attempt()
    by_first = [line for line in lines(scene.begun) if line.endswith(f" {pid}")]
    assert len(by_first) == QUICK + SLOTS
