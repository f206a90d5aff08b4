"""A process without memory refuses, or ends and says so; nothing that was told is lost."""

import contextlib
import resource
from pathlib import Path
from typing import Any

import pytest

from sidecar import Client
from sidecar.sdk.errors import PillionError
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import wait_for_services
from tests.support.process import Process
from tests.support.processes import System

MIB = 2**20
PAYLOAD = "x" * (900 * 1024)
TASKS = 12

SERVICE = """
from sidecar import Service

service = Service("load")

@service.handler(concurrency=4)
async def size(number: int, text: str) -> list[int]:
    return [number, len(text)]

service.run()
"""


def limit_memory(process: Process, spare_bytes: int) -> None:
    """Let a process have a little more memory than it has."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmData:")]
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)
    most = int(line.split()[1]) * 1024 + spare_bytes
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (most, hard))


def lift_limit(process: Process) -> None:
    """Have a process as before, also if it has ended: then it must have said that it failed."""
    if process.running:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (hard, hard))
    else:
        assert process.returncode != 0
        process.start()


@pytest.mark.parametrize("spare_bytes", [MIB, 8 * MIB], ids=["1 MiB", "8 MiB"])
@pytest.mark.parametrize("victim", ["coordinator", "sidecar"])
def test_process_that_gets_no_memory_loses_nothing_that_was_accepted(
    system: System, victim: str, spare_bytes: int
) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("load", coordinator)
    service = system.service("service", sidecar, SERVICE, start=False)
    process = coordinator if victim == "coordinator" else sidecar
    with Client(sidecar.socket_path, timeout="3s") as client:
        wait_for_services(sidecar, client, 0)

        def submit(number: int) -> BlockingTask[Any]:
            return client.submit("load.size", {"number": number, "text": PAYLOAD})

        kept = {number: submit(number) for number in range(3)}
        limit_memory(process, spare_bytes)
        for number in range(3, TASKS):
            if process.running:
                with contextlib.suppress(PillionError):
                    kept[number] = submit(number)
        lift_limit(process)
        service.start()

        for number, task in kept.items():
            assert task.result(timeout=20) == [number, len(PAYLOAD)]
        assert submit(TASKS).result(timeout=20) == [TASKS, len(PAYLOAD)]
