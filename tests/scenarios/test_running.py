"""What runs is seen to run, and its crash counts as one, also after the coordinator was away."""

import pytest

from sidecar import Client
from sidecar.sdk.errors import TaskDead
from tests.support.processes import System

SERVICE = """
import asyncio
from sidecar import Service

service = Service("work")

@service.handler(crashes=1)
async def hang() -> None:
    await asyncio.Event().wait()

service.run()
"""
SESSION = ("--session-timeout", "3s")


def test_attempt_that_began_before_a_restart_of_the_coordinator_is_still_running(
    system: System,
) -> None:
    coordinator = system.coordinator(*SESSION)
    sidecar = system.sidecar("work", coordinator)
    system.service("work", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        task = client.submit("work.hang", {})
        coordinator.wait_until(lambda: task.status().state == "running", "knows that it runs")

        coordinator.restart()

        coordinator.wait_until(lambda: task.status().state == "running", "knows that it runs")
        assert task.status().deliveries == 1


def test_attempt_that_takes_its_sidecar_down_after_a_restart_has_crashed(system: System) -> None:
    coordinator = system.coordinator(*SESSION)
    sidecar = system.sidecar("work", coordinator)
    system.service("work", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        task = client.submit("work.hang", {})
        coordinator.wait_until(lambda: task.status().state == "running", "knows that it runs")
        coordinator.restart()
        coordinator.wait_until(lambda: task.status().state == "running", "knows that it runs")

        sidecar.restart()

        with pytest.raises(TaskDead, match="crashed 1 time"):
            task.result(timeout=20)
