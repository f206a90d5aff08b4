"""A link with half a second of latency, on which data stands still now and then, loses no lease."""

import random

from sidecar import Client, NewTask
from sidecar.sdk.errors import PillionError
from tests.robustness.link import Link
from tests.scenarios.stage import lines, wait_for_lines, wait_for_services
from tests.support.processes import System

TASKS = 120
BURST = 40
LATENCY_SECONDS = 0.25
"""Each way."""
STALL_SECONDS = 1.0
STALLS = 0.05
SERVICE = """
import os
from sidecar import Service

begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
service = Service("load")

@service.handler(concurrency=8)
async def echo(number: int) -> int:
    os.write(begun, f"{number}\\n".encode())
    return number

service.run()
"""


def test_slow_link_costs_time_and_no_lease(system: System) -> None:
    rng = random.Random(1)
    coordinator = system.coordinator()
    link = Link(
        coordinator.address,
        lambda: STALL_SECONDS if rng.random() < STALLS else LATENCY_SECONDS,
    )
    sidecar = system.sidecar("load", link.address)
    system.service("service", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        for first in range(0, TASKS, BURST):
            tasks = client.submit_many(
                NewTask(handler="load.echo", payload={"number": number})
                for number in range(first, first + BURST)
            )
            assert not any(isinstance(task, PillionError) for task in tasks)
        wait_for_lines(sidecar, system.folder / "begun", TASKS)

    assert sidecar.terminate() == 0
    link.close()
    assert sorted(map(int, lines(system.folder / "begun"))) == list(range(TASKS))
    assert "session_expired" not in coordinator.output()
    assert "leases_lost" not in sidecar.output()
