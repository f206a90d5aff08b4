"""Operators drain a sidecar from the coordinator: no more comes, nothing is lost or charged."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sidecar import Client
from sidecar.sdk.new_task import NewTask
from sidecar.sdk.task import BlockingTask
from tests.scenarios import stage
from tests.scenarios.stage import lines, wait_for_facts, wait_for_lines, wait_for_services
from tests.scenarios.test_drain import SERVICE
from tests.support.commands import Done
from tests.support.process import ROOT
from tests.support.processes import Coordinator, Sidecar, System

QUICK, GATED, SLOTS = 2_000, 100, 4
SECONDS = 30.0
NOT_FOUND, TIMED_OUT = 3, 124


class Side:
    """One sidecar with its service, which writes what it begins into a folder of its own."""

    def __init__(self, system: System, coordinator: Coordinator, name: str) -> None:
        self.folder = system.folder / name
        self.folder.mkdir()
        self.sidecar: Sidecar = system.sidecar("work", coordinator, "--name", name, name=name)
        self.service = system.service(f"of-{name}", self.sidecar, SERVICE, str(self.folder))
        self.client = Client(self.sidecar.socket_path)
        wait_for_services(self.sidecar, self.client)

    @property
    def begun(self) -> Path:
        return self.folder / "begun"

    def open_gate(self) -> None:
        (self.folder / "go").touch()

    def submit(self, *, gated: bool, count: int) -> "list[BlockingTask[Any]]":
        payloads = [{"number": number, "gated": gated} for number in range(count)]
        taken = self.client.submit_many(NewTask(handler="work.step", payload=p) for p in payloads)
        tasks = [task for task in taken if isinstance(task, BlockingTask)]
        assert len(tasks) == count
        return tasks


class Operator:
    """Somebody at a shell of the coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        place = ["--data-dir", str(self.coordinator.data_folder)]
        return subprocess.Popen(
            [sys.executable, "-m", "coordinator", *arguments, *place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ask(self, *arguments: str) -> Done:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=SECONDS)
        return Done(process.returncode, out, err)

    def told(self, *arguments: str) -> Any:
        done = self.ask(*arguments, "-o", "json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.told("sidecars")}

    def wait_for_state(self, name: str, state: str) -> None:
        self.coordinator.wait_until(
            lambda: self.states().get(name) == state, f"says that {name} is {state}"
        )


def test_drain_moves_what_waits_lets_end_what_runs_and_holds_until_it_is_lifted(
    system: System,
) -> None:
    coordinator = system.coordinator("--session-timeout", "2s")
    operator = Operator(coordinator)
    one = Side(system, coordinator, "one")
    # At their pace the sidecar asks for more than the four that can run.
    one.submit(gated=False, count=QUICK)
    gated = one.submit(gated=True, count=GATED)
    wait_for_lines(one.service, one.begun, QUICK + SLOTS)
    wait_for_facts(one.sidecar, one.client, "runs four", tasks_running=SLOTS)

    done = operator.ask("sidecars", "drain", "one", "--as", "ada", "--reason", "a new kernel")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("drained: one (1 sidecar, ")
    wait_until_drained_by(one, "ada: a new kernel")
    one.sidecar.wait_until(
        lambda: one.client.inspect()["tasks_at_services"] == 0, "has taken back what waited"
    )
    late = operator.ask("sidecars", "drain", "one", "--as", "ada", "--wait", "300ms")
    assert late.code == TIMED_OUT
    assert "one still holds 4 leases; the drain goes on" in late.err
    assert operator.states() == {"one": "draining"}

    two = Side(system, coordinator, "two")
    two.open_gate()
    wait_for_lines(two.service, two.begun, GATED - SLOTS)
    assert operator.states() == {"one": "draining", "two": "ready"}
    assert lines(one.folder / "stopped") == []
    waiting = operator.start("sidecars", "drain", "one", "--as", "ada", "--wait", "30s")
    one.open_gate()
    out, err = waiting.communicate(timeout=SECONDS)
    assert (waiting.returncode, err) == (0, "")
    assert out.endswith("one holds no leases\n")
    for task in gated:
        task.result(timeout=20)
    assert {task.status().attempts for task in gated} == {1}
    assert len(lines(one.begun)) == QUICK + SLOTS
    assert len(lines(two.begun)) == GATED - SLOTS

    restart_all(coordinator, one, two)
    tasks = one.submit(gated=False, count=20)
    operator.wait_for_state("one", "drained")
    why = "waits for an undrain: all that serve work.step are drained: one by ada"
    coordinator.wait_until(
        lambda: why in operator.ask("trace", tasks[0].id).out, "tells why the task waits"
    )
    assert "tasks wait and all that serve them are drained: work.step" in operator.ask("status").out
    assert one.client.inspect()["tasks_granted"] == 0

    assert operator.ask("sidecars", "undrain", "one").code == 0
    for task in tasks:
        task.result(timeout=20)
    assert len(lines(one.begun)) == QUICK + SLOTS + 20
    assert operator.states()["one"] == "ready"
    assert "undrained" in one.sidecar.output()


def restart_all(coordinator: Coordinator, one: Side, two: Side) -> None:
    """Restart the coordinator and the first sidecar; the other one leaves."""
    coordinator.kill()
    coordinator.start()
    wait_for_services(one.sidecar, one.client)
    wait_until_drained_by(one, "ada")
    two.sidecar.terminate()
    two.service.terminate()
    one.client.close()
    one.sidecar.terminate()
    one.sidecar.start()
    one.client = Client(one.sidecar.socket_path)
    wait_for_services(one.sidecar, one.client)
    wait_until_drained_by(one, "ada")


def wait_until_drained_by(side: Side, who: str) -> None:
    side.sidecar.wait_until(
        lambda: side.client.inspect()["drained_by"] == who, f"knows that it is drained by {who}"
    )
    shown = stage.command(side.sidecar, "status")
    assert who in shown.out, shown


def test_name_that_is_not_there_is_drained_for_when_it_comes(system: System) -> None:
    coordinator = system.coordinator()
    operator = Operator(coordinator)
    tried = operator.ask("sidecars", "drain", "one", "--dry-run")
    text = "one, of which no sidecar is there now; one that comes gets no tasks\n"
    assert (tried.code, tried.out) == (0, f"would drain: {text}")
    assert operator.states() == {}
    done = operator.ask("sidecars", "drain", "one", "--wait", "10s")
    assert (done.code, done.out) == (0, f"drained: {text}one holds no leases\n")
    assert operator.states() == {"one": "absent"}
    assert "absent" in operator.ask("sidecars").out
    assert operator.ask("sidecars", "list", "-o", "id").out == "one\n"

    one = Side(system, coordinator, "one")

    operator.wait_for_state("one", "drained")
    wait_until_drained_by(one, os.environ.get("USER") or done_by(operator))
    assert operator.ask("sidecars", "undrain", "one").out.startswith("lifted: the drain of one")
    again = operator.ask("sidecars", "undrain", "one")
    assert (again.code, again.out) == (NOT_FOUND, "")
    assert "no sidecar 'one' is drained" in again.err


def done_by(operator: Operator) -> str:
    owner: str = operator.told("sidecars")[0]["drained_by"]
    return owner


class Draining(NamedTuple):
    operator: Operator
    one: Side
    task: "BlockingTask[Any]"
    """What it still runs."""
    waiting: "subprocess.Popen[str]"


def draining_with_one_lease_to_go(system: System) -> Draining:
    coordinator = system.coordinator()
    operator = Operator(coordinator)
    one = Side(system, coordinator, "one")
    [task] = one.submit(gated=True, count=1)
    wait_for_lines(one.service, one.begun, 1)
    waiting = operator.start("sidecars", "drain", "one", "--wait", "30s")
    assert waiting.stdout is not None
    assert waiting.stdout.readline().startswith("drained: one (1 sidecar, 1 lease to go)")
    return Draining(operator, one, task, waiting)


def test_interrupt_stops_the_waiting_and_not_the_drain(system: System) -> None:
    operator, one, task, waiting = draining_with_one_lease_to_go(system)

    waiting.send_signal(signal.SIGINT)

    _, err = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 130
    assert "the drain of one goes on" in err
    assert operator.states() == {"one": "draining"}
    one.open_gate()
    task.result(timeout=20)


def test_lifting_it_meanwhile_ends_the_waiting(system: System) -> None:
    operator, one, task, waiting = draining_with_one_lease_to_go(system)

    assert operator.ask("sidecars", "undrain", "one").code == 0

    _, err = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == NOT_FOUND
    assert "somebody has lifted it meanwhile" in err
    one.open_gate()
    task.result(timeout=20)
