"""A log whose reader stands still, or whose disk is full, stops nobody."""

import os

import pytest

from sidecar import Client
from tests.scenarios.stage import wait_for_services
from tests.support.process import Process
from tests.support.processes import System

TASKS = 300
SERVICE = """
from sidecar import Service

service = Service("load")

@service.handler(concurrency=8)
async def echo(number: int) -> int:
    return number

service.run()
"""


def log_to(process: Process, target: str) -> None:
    """Have a process that was not started yet write its log elsewhere."""
    process.command = ["/bin/sh", "-c", f'exec "$0" "$@" 2>{target}', *process.command]


@pytest.fixture(params=["full disk", "reader that stands still"])
def target(request: pytest.FixtureRequest, system: System) -> str:
    """Where nothing more can be written."""
    if request.param == "full disk":
        return "/dev/full"
    path = system.folder / "pipe"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # Never read.
    request.addfinalizer(lambda: os.close(held))
    with open(path, "wb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), False)
        while pipe.write(bytes(65_536)):
            pass
    return str(path)


def test_log_that_cannot_be_written_stops_neither_coordinator_nor_sidecar(
    system: System, target: str
) -> None:
    coordinator = system.coordinator("--log-level", "debug", start=False)
    log_to(coordinator, target)
    coordinator.start()
    sidecar = system.sidecar("load", coordinator, "--log-level", "debug", start=False)
    log_to(sidecar, target)
    sidecar.start()
    system.service("service", sidecar, SERVICE)

    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        tasks = [client.submit("load.echo", {"number": n}) for n in range(TASKS)]
        assert [task.result(timeout=20) for task in tasks] == list(range(TASKS))

    assert sidecar.terminate() == 0
    assert coordinator.terminate() == 0
