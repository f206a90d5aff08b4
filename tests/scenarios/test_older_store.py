"""A store that is put back as it was before: its sidecars know that it is old."""

import shutil

from sidecar import Client
from tests.scenarios.stage import lines, wait_for_lines, wait_for_services
from tests.support.processes import Coordinator, System

SERVICE = """
import os
from sidecar import Service

service = Service("load")
seen = os.open("seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

@service.handler(concurrency=1)
async def note(number: int) -> int:
    os.write(seen, f"{number}\\n".encode())
    return number

service.run()
"""


def exchange(coordinator: Coordinator, name: str) -> None:
    """Put the store aside and another in its place, which is a copy made while nobody wrote."""
    folder = coordinator.data_folder
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name(name), folder)


def test_store_from_before_is_refused_visibly_and_submitting_goes_on(system: System) -> None:
    coordinator = system.coordinator("--session-timeout", "3s")
    sidecar = system.sidecar("load", coordinator)
    system.service("service", sidecar, SERVICE)
    seen = system.folder / "seen"
    with Client(sidecar.socket_path, timeout="30s") as client:
        wait_for_services(sidecar, client)
        client.submit("load.note", {"number": 1}).result(timeout=20)
        assert coordinator.terminate() == 0
        shutil.copytree(coordinator.data_folder, coordinator.data_folder.with_name("old"))
        coordinator.start()
        wait_for_services(sidecar, client)
        client.submit("load.note", {"number": 2})
        wait_for_lines(sidecar, seen, 2)
        coordinator.restart()
        wait_for_services(sidecar, client)

        coordinator.kill()
        exchange(coordinator, "old")
        coordinator.start()
        sidecar.wait_until(
            lambda: "stale_epoch" in str(client.inspect()["link_trouble"]), "refuses the old store"
        )
        spooled = client.submit("load.note", {"number": 3})
        assert spooled.spooled

        sidecar.restart()  # What an operator does who has put it there on purpose.
        assert spooled.result(timeout=20) == 3

    assert lines(seen) == ["1", "2", "3"]
