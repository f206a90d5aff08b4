"""Coordinator, sidecar, service and app start and restart in any order; whoever is early waits."""

import threading
from collections.abc import Callable
from itertools import permutations

import pytest

from sidecar import Client
from tests.scenarios.stage import wait_for_services
from tests.support.processes import System

SERVICE = """
from sidecar import Service

service = Service("sums")

@service.handler()
async def add(a: int, b: int) -> int:
    return a + b

service.run()
"""
PARTS = ("coordinator", "service", "sidecar")


@pytest.mark.parametrize("order", list(permutations(PARTS)), ids="-".join)
def test_any_order_of_starts_runs_what_was_submitted_before_them_all(
    system: System, order: tuple[str, ...]
) -> None:
    coordinator = system.coordinator()  # Its port is known after its first start.
    coordinator.terminate()
    sidecar = system.sidecar("sums", coordinator, start=False)
    service = system.service("sums", sidecar, SERVICE, start=False)
    results: list[int] = []

    def app() -> None:
        with Client(sidecar.socket_path) as client:
            results.append(client.submit("sums.add", {"a": 40, "b": 2}).result(timeout=20))

    submitting = threading.Thread(target=app)
    starts: dict[str, Callable[[], object]] = {
        "coordinator": coordinator.start,
        "service": service.start,
        "sidecar": sidecar.start,
    }
    submitting.start()
    for part in order:
        starts[part]()
    submitting.join(25)

    assert results == [42]


@pytest.mark.parametrize("part", ["coordinator", "service", "sidecar"])
def test_restart_of_any_part_goes_unnoticed_by_an_app(system: System, part: str) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("sums", coordinator)
    service = system.service("sums", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        process = {"coordinator": coordinator, "service": service, "sidecar": sidecar}[part]

        assert process.terminate() == 0
        process.start()

        assert client.submit("sums.add", {"a": 40, "b": 2}).result(timeout=20) == 42
