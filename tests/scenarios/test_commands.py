"""What the two commands exit with, and what they print."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.ids import TaskIds, to_text
from sidecar import Client
from tests.scenarios.stage import command, wait_for_services
from tests.support.process import ROOT, Process
from tests.support.processes import Sidecar, System

SERVICE = """
import asyncio
from sidecar import Fatal, Service

service = Service("email")

@service.handler()
async def send(to: str) -> str:
    return f"sent to {to}"

@service.handler()
async def fail(to: str) -> None:
    raise Fatal("no such address")

@service.handler()
async def hang(to: str) -> None:
    await asyncio.Event().wait()

service.run()
"""
OK, NEGATIVE, USAGE, NOT_FOUND, UNREACHABLE, TIMED_OUT = 0, 1, 2, 3, 5, 124
REFUSED = 3
TO = '{"to": "a@b.c"}'


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    """A sidecar whose service and coordinator are there."""
    with System() as system:
        started = system.sidecar("email", system.coordinator())
        system.service("email-1", started, SERVICE)
        with Client(started.socket_path) as client:
            wait_for_services(started, client)
        yield started


def test_submitted_task_can_be_asked_for_and_waited_for(sidecar: Sidecar) -> None:
    submitted = command(sidecar, "submit", "email.send", TO)
    task_id = submitted.out.strip()
    waited = command(sidecar, "wait", task_id, "--timeout", "20s")
    shown = command(sidecar, "status", task_id, "--output", "json")

    assert (submitted.code, submitted.err) == (OK, "")
    assert (waited.code, waited.out, waited.err) == (OK, "sent to a@b.c\n", "")
    assert shown.code == OK
    found = json.loads(shown.out)
    assert (found["id"], found["state"], found["attempts"]) == (task_id, "succeeded", 1)


def test_submit_waits_when_told_to_and_the_exit_code_tells_how_it_ended(sidecar: Sidecar) -> None:
    good = command(sidecar, "submit", "email.send", TO, "--wait")
    bad = command(sidecar, "submit", "email.fail", TO, "--wait")
    slow = command(sidecar, "submit", "email.hang", TO, "--wait", "--timeout", "200ms")

    assert (good.code, good.out.splitlines()[1]) == (OK, "sent to a@b.c")
    assert bad.code == NEGATIVE
    assert "is dead: Fatal: no such address" in bad.err
    assert slow.code == TIMED_OUT
    assert "has not ended within" in slow.err
    assert [len(done.out.splitlines()) for done in (bad, slow)] == [1, 1], "the id is told"


def test_payload_comes_from_standard_input(sidecar: Sidecar) -> None:
    done = command(sidecar, "submit", "email.send", "-", "--wait", stdin='{"to": "x"}')

    assert (done.code, done.out.splitlines()[1]) == (OK, "sent to x")


@pytest.mark.parametrize("name", ["status", "wait"])
def test_unknown_and_malformed_ids_have_codes_of_their_own(sidecar: Sidecar, name: str) -> None:
    unknown = command(sidecar, name, to_text(TaskIds().batch(1)[0]))
    malformed = command(sidecar, name, "no-id")

    assert (unknown.code, unknown.out) == (NOT_FOUND, "")
    assert "no task has the id" in unknown.err
    assert (malformed.code, malformed.out) == (USAGE, "")
    assert "is not a task id" in malformed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "email.send", "--priority", "urgent"],
        ["submit", "email.send", "--attempts", "many"],
        ["submit", "email.send", "--no-such-option"],
        ["wait"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_names_what_is_wrong(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = command(tmp_path / "none.sock", *arguments)

    assert (done.code, done.out) == (USAGE, "")
    assert "Usage: " in done.err


def test_sidecar_out_of_reach_exits_with_5(tmp_path: Path) -> None:
    for arguments in (["submit", "email.send", TO], ["status"]):
        done = command(tmp_path / "none.sock", *arguments)
        assert (done.code, done.out) == (UNREACHABLE, "")
        assert "none.sock" in done.err


def test_sidecar_without_its_coordinator_says_so(system: System) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("email", coordinator, "--submit-timeout", "300ms")
    with Client(sidecar.socket_path) as client:
        sidecar.wait_until(lambda: client.inspect()["link"] == "open", "has a session")
        assert command(sidecar, "status").code == OK

        coordinator.terminate()

        sidecar.wait_until(lambda: client.inspect()["link"] != "open", "notices")
    status = command(sidecar, "status", "-o", "json")
    asked = command(sidecar, "status", to_text(TaskIds().batch(1)[0]))
    assert status.code == NEGATIVE
    assert json.loads(status.out)["coordinator"] == coordinator.address
    assert asked.code == UNREACHABLE


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself, from a clean environment."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_second_coordinator_on_one_store_is_refused_with_the_pid_of_the_first(
    system: System,
) -> None:
    coordinator = system.coordinator()

    done = run(
        *(
            "coordinator",
            "serve",
            "--http-bind",
            "127.0.0.1:0",
            "--bind",
            "tcp://127.0.0.1:0",
            "--allow-filesystem",
        ),
        *("--data-dir", str(coordinator.data_folder)),
    )

    assert done.returncode == REFUSED
    assert f"is in use by pid {coordinator.pid} " in done.stderr
    assert coordinator.terminate() == OK


def test_second_sidecar_on_one_socket_is_refused_and_the_first_goes_on(sidecar: Sidecar) -> None:
    done = run(
        *("sidecar", "run", "--service", "email", "--coordinator", "tcp://127.0.0.1:1"),
        *("--socket", str(sidecar.socket_path)),
    )

    assert done.returncode == NEGATIVE
    assert str(sidecar.socket_path) in done.stderr
    assert command(sidecar, "submit", "email.send", TO, "--wait").code == OK


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["coordinator", "serve", "--session-timeout", "soon"], "session_timeout"),
        (["coordinator", "serve", "--bind", "tcp://0.0.0.0:1"], "insecure_bind"),
        (["sidecar", "run", "--service", "No Name"], "service"),
        (["sidecar", "run", "--service", "email", "--drain", "-1s"], "drain"),
    ],
)
def test_settings_that_cannot_be_exit_with_2_and_are_named(
    arguments: list[str], named: str
) -> None:
    done = run(*arguments)

    assert done.returncode == USAGE
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_each_process_with_0(system: System, number: signal.Signals) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("email", coordinator)
    service = system.service("email-1", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)

    ends = {process.name: ended(process, number) for process in (service, sidecar, coordinator)}

    assert ends == {"email-1": 0, "sidecar-email": 0, "coordinator": 0}
    assert not sidecar.socket_path.exists()


def ended(process: Process, number: signal.Signals) -> int:
    process.end_expected = True
    os.kill(process.pid, number)
    return process.wait()
