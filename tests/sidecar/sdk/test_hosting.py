"""``Service.run`` in real processes, against a scripted sidecar."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol import messages as m
from tests.sidecar.sdk.peer import DEADLINE_S, Connection, Peer
from tests.support.builders import a_granted_task, task_id

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, os, sys, time
from sidecar import Service

service = Service("email", {path!r})

@service.handler()
async def pid(to: str) -> int:
    return os.getpid()

@service.handler()
async def nap(to: str) -> None:
    await asyncio.sleep(0.3)

@service.handler()
async def forever(to: str) -> None:
    await asyncio.Event().wait()

@service.handler()
def stuck(to: str) -> None:
    time.sleep(3600)

@service.handler()
async def crash(to: str) -> None:
    os.kill(os.getpid(), 9)

service.run({arguments})
print("ended well")
"""


class Program:
    """A running service program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> tuple[int, str, str]:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def program(path: Path, arguments: str = "") -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(path=str(path), arguments=arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answer_barrier(connection: Connection) -> None:
    await connection.expect(m.Inspect)
    connection.send(m.Inspected({}))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_finishes_what_runs_and_exits_0(peer: Peer, number: signal.Signals) -> None:
    async with peer, program(peer.path) as running:
        connection, _ = await peer.attached()
        await connection.expect(m.Demand)
        connection.hand(a_granted_task(), handler="email.nap")
        connection.send(m.Inspect())  # Not for a service; told in the log, and harmless.
        running.signal(number)
        await answer_barrier(connection)
        (outcome,) = await connection.outcomes(1)
        await connection.ended()
        code, out, err = await running.ended()

    # The signal may have come before the task was begun.
    assert outcome.kind in (m.OutcomeKind.SUCCESS, m.OutcomeKind.RETURNED)
    assert (code, out) == (0, "ended well\n")
    assert "Traceback" not in err


async def test_second_signal_stops_what_runs(peer: Peer) -> None:
    async with peer, program(peer.path, 'drain="1h"') as running:
        connection, _ = await peer.attached()
        connection.hand(a_granted_task(1), handler="email.forever")
        connection.hand(a_granted_task(2), handler="email.pid")
        await connection.outcomes(1)
        running.signal(signal.SIGTERM)
        await answer_barrier(connection)
        running.signal(signal.SIGTERM)
        (outcome,) = await connection.outcomes(1)
        code, _, _ = await running.ended()

    assert (outcome.id, outcome.kind) == (task_id(1), m.OutcomeKind.DEFER)
    assert code == 0


async def test_refused_service_ends_with_the_reason(peer: Peer) -> None:
    async with peer, program(peer.path) as running:
        connection = await peer.dialled()
        await connection.expect(m.Attach)
        connection.send(m.Refused("not_owner", "this sidecar is of 'invoice'", 0))
        code, _, err = await running.ended()

    assert code == 1
    assert "this sidecar is of 'invoice'" in err


async def test_service_that_waits_for_its_sidecar_says_so_and_still_stops(path: Path) -> None:
    async with program(path) as running:
        assert running.process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            line = (await running.process.stderr.readline()).decode()
        running.signal(signal.SIGTERM)
        code, _, _ = await running.ended()

    assert f"service email: waiting for the sidecar at {path}" in line
    assert code == 0


async def test_several_processes_serve_and_end_together(peer: Peer) -> None:
    async with peer, program(peer.path, "processes=3") as running:
        connections = [(await peer.attached())[0] for _ in range(3)]
        pids = set()
        for connection in connections:
            connection.hand(a_granted_task(), handler="email.pid")
            (outcome,) = await connection.outcomes(1)
            assert isinstance(outcome.value, m.Result)
            pids.add(int(outcome.value.body))
        running.signal(signal.SIGTERM)
        await asyncio.gather(*[answer_barrier(c) for c in connections])
        code, out, err = await running.ended()

    assert len(pids) == 3
    assert running.process.pid not in pids
    assert (code, out, err) == (0, "ended well\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_to_the_whole_group_counts_once_and_what_runs_finishes(
    peer: Peer, number: signal.Signals
) -> None:
    async with peer, program(peer.path, "processes=2") as running:
        connections = [(await peer.attached())[0] for _ in range(2)]
        for connection in connections:
            connection.hand(a_granted_task(1), handler="email.nap")
            connection.hand(a_granted_task(2), handler="email.pid")
            await connection.outcomes(1)  # The other has begun by now.

        os.killpg(running.process.pid, number)
        await asyncio.gather(*[answer_barrier(c) for c in connections])
        outcomes = [(await connection.outcomes(1))[0] for connection in connections]
        code, out, err = await running.ended()

    assert [outcome.kind for outcome in outcomes] == [m.OutcomeKind.SUCCESS] * 2
    assert (code, out, err) == (0, "ended well\n", "")


async def test_second_signal_to_the_parent_stops_what_runs_in_all_processes(peer: Peer) -> None:
    async with peer, program(peer.path, 'processes=2, drain="1h"') as running:
        connections = [(await peer.attached())[0] for _ in range(2)]
        for connection in connections:
            connection.hand(a_granted_task(1), handler="email.forever")
            connection.hand(a_granted_task(2), handler="email.pid")
            await connection.outcomes(1)

        running.signal(signal.SIGTERM)
        await asyncio.gather(*[answer_barrier(c) for c in connections])
        running.signal(signal.SIGTERM)
        outcomes = [(await connection.outcomes(1))[0] for connection in connections]
        code, _, _ = await running.ended()

    assert [outcome.kind for outcome in outcomes] == [m.OutcomeKind.DEFER] * 2
    assert code == 0


async def test_process_that_dies_takes_the_others_with_it(peer: Peer) -> None:
    async with peer, program(peer.path, "processes=2") as running:
        first, _ = await peer.attached()
        second, _ = await peer.attached()
        await second.expect(m.Demand)
        first.hand(a_granted_task(), handler="email.crash")
        await first.ended()
        await answer_barrier(second)
        code, out, err = await running.ended()

    assert (code, out) == (1, "")
    assert "was ended by SIGKILL; stopping the others" in err


async def test_children_end_when_their_parent_is_killed(peer: Peer) -> None:
    async with peer, program(peer.path, "processes=2") as running:
        connections = [(await peer.attached())[0] for _ in range(2)]
        for connection in connections:
            await connection.expect(m.Demand)
        running.signal(signal.SIGKILL)
        for connection in connections:
            await answer_barrier(connection)
            await connection.ended()


async def test_attempt_that_does_not_stop_does_not_keep_the_process(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_text = PROGRAM.replace(
        "service.run(", "import sidecar.sdk.serving as s\ns.STOP_S_MAX = 0.1\nservice.run("
    )
    monkeypatch.setitem(globals(), "PROGRAM", program_text)
    async with peer, program(peer.path, "drain=0.1") as running:
        connection, _ = await peer.attached()
        connection.hand(a_granted_task(1), handler="email.stuck")
        connection.hand(a_granted_task(2), handler="email.pid")
        await connection.outcomes(1)
        running.signal(signal.SIGTERM)
        await answer_barrier(connection)
        code, _, err = await running.ended()

    assert code == 1
    assert "did not stop when told" in err


def test_run_with_processes_refuses_to_fork_beside_threads() -> None:
    source = (
        "import threading; from sidecar import Service\n"
        "s = Service('email'); s.handler('a')(lambda: None)\n"
        "threading.Thread(target=threading.Event().wait, name='mine', daemon=True).start()\n"
        "s.run(processes=2)\n"
    )
    status = os.spawnve(
        os.P_WAIT, sys.executable, [sys.executable, "-c", _caught(source)], _environment()
    )
    assert status == 0


def _caught(source: str) -> str:
    return (
        "try:\n"
        + "".join(f"    {line}\n" for line in source.splitlines())
        + "except RuntimeError as error:\n    assert 'mine' in str(error)\n"
        + "else:\n    raise AssertionError\n"
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
