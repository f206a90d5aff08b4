import os
import signal

import pytest

from tests.support.process import Process, ProcessFailed
from tests.support.processes import System

WAITS = "import signal; signal.pause()"


def test_leaving_the_system_ends_its_processes_and_removes_its_folder() -> None:
    with System() as system:
        process = system.add(Process("waits", ["-c", WAITS], system.folder))
        assert process.running
    assert process.returncode == -signal.SIGKILL
    assert not system.folder.exists()


def test_leaving_the_system_fails_when_a_process_died_unexpectedly() -> None:
    with pytest.raises(ProcessFailed, match="ended unexpectedly with 5"), System() as system:
        process = system.add(Process("dies", ["-c", "raise SystemExit(5)"], system.folder))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_failing_test_gets_the_output_of_every_process() -> None:
    def fail_in_system() -> None:
        with System() as system:
            process = system.add(Process("talks", ["-c", "print('a clue')"], system.folder))
            process.wait()
            raise ValueError("the test's own failure")

    with pytest.raises(ValueError, match="own failure") as caught:
        fail_in_system()
    assert any("a clue" in note for note in caught.value.__notes__)


def test_socket_paths_are_short_enough_for_a_socket() -> None:
    with System() as system:
        sidecar = system.sidecar("email", "tcp://127.0.0.1:1", start=False)
        assert len(os.fsencode(sidecar.socket_path)) < 100
        assert not sidecar.accepts()


def test_coordinator_keeps_its_port_and_its_store_over_a_restart(system: System) -> None:
    coordinator = system.coordinator()
    address, process = coordinator.address, coordinator.pid
    assert address.startswith("tcp://127.0.0.1:")
    coordinator.restart()
    assert coordinator.address == address
    assert coordinator.pid != process
    assert coordinator.terminate() == 0


def test_coordinator_that_cannot_start_fails_with_its_output(system: System) -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)before it is ready.*--no-such-option"):
        system.coordinator("--no-such-option")
    system.processes.clear()


SERVICE = """
import sys
from pathlib import Path
from sidecar import Service

service = Service("email")

@service.handler()
def send(to: str) -> str:
    Path("ran").write_text(to)
    return to

service.run()
"""
SUBMITTER = """
from sidecar import Client

with Client() as client:
    client.submit("email.send", {"to": "a@b.c"})
"""


def test_service_runs_what_an_app_submits_and_survives_the_kill_of_its_sidecar(
    system: System,
) -> None:
    coordinator = system.coordinator("--session-timeout", "1s")
    sidecar = system.sidecar("email", coordinator)
    service = system.service("service", sidecar, SERVICE)
    ran = system.folder / "ran"
    for _ in range(2):
        app = system.service("app", sidecar, SUBMITTER, start=False).start()
        assert app.wait() == 0, app.output()
        service.wait_until(ran.exists, "has run the task")
        ran.unlink()
        sidecar.restart()
    system.check()
