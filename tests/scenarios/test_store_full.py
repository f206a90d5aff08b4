"""A store nearly full refuses submits, goes on recording outcomes, and recovers by itself."""

import pytest

from sidecar import Client
from sidecar.sdk.errors import Busy
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import command
from tests.support.processes import Coordinator, Sidecar, System

SERVICE = """
from sidecar import Service

service = Service("work")

@service.handler()
async def take(payload: bytes) -> int:
    return len(payload)

service.run()
"""
PAYLOAD = bytes(200_000)
SMALL = ("--store-map-size", "32MiB", "--store-bytes-max", "4MiB")
TASKS_MAX = 200
"""Far more than fit."""


def fill(system: System, sidecar: Sidecar) -> list[BlockingTask[object]]:
    """Submit until the store is full; return what was accepted."""
    accepted: list[BlockingTask[object]] = []
    with Client(sidecar.socket_path, timeout="300ms") as client:
        for _ in range(TASKS_MAX):
            try:
                accepted.append(client.submit("work.take", PAYLOAD))
            except Busy as busy:
                assert busy.code == "store_full"
                assert busy.retry_after > 0
                return accepted
    raise AssertionError(f"{len(accepted)} tasks were accepted, and the store is not full")


def start(system: System, *options: str) -> tuple[Coordinator, Sidecar]:
    coordinator = system.coordinator(*SMALL, *options)
    # Otherwise what is refused would be kept by the sidecar, which is another promise.
    return coordinator, system.sidecar("work", coordinator)


def test_full_store_refuses_submits_and_loses_nothing_that_was_accepted(system: System) -> None:
    coordinator, sidecar = start(system)

    accepted = fill(system, sidecar)
    done = command(sidecar, "submit", "work.take", "x")
    system.service("work", sidecar, SERVICE)

    assert (done.code, done.out) == (75, "")
    assert "allowed; raise store_bytes_max and store_map_size" in done.err
    assert done.err.startswith("a submit waits and is tried again: ")
    with Client(sidecar.socket_path) as client:
        for task in accepted:
            assert client.wait(task.id, timeout=20) == len(PAYLOAD)
            assert client.status(task.id).state == "succeeded"
    assert coordinator.output().count('"store_full"') == 1


@pytest.mark.parametrize("retention", ["1s", "1h"])
def test_store_takes_submits_again_by_itself_once_there_is_room(
    system: System, retention: str
) -> None:
    """Also when nothing else happens any more that would have it look at its size."""
    coordinator, sidecar = start(system, "--retention-succeeded", retention)
    accepted = fill(system, sidecar)

    system.service("work", sidecar, SERVICE)
    with Client(sidecar.socket_path, timeout="20s") as client:
        for task in accepted:
            client.wait(task.id, timeout=20)
        assert client.submit("work.take", PAYLOAD).result(timeout=20) == len(PAYLOAD)

    assert "store_has_room_again" in coordinator.output()


def test_full_store_stays_full_over_a_restart(system: System) -> None:
    coordinator, sidecar = start(system)
    accepted = fill(system, sidecar)

    coordinator.restart()

    with Client(sidecar.socket_path, timeout="1s") as client:
        with pytest.raises(Busy, match="store_full"):
            client.submit("work.take", PAYLOAD)
        system.service("work", sidecar, SERVICE)
        for task in accepted:
            assert client.wait(task.id, timeout=20) == len(PAYLOAD)
