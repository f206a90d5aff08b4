"""A small disk that others fill: submissions are refused before it is full, and nothing is lost."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import Client
from sidecar.sdk.errors import Busy
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import wait_for_services
from tests.support.processes import Coordinator, System

MIB = 2**20
DISK_MIB = 24
PAYLOAD = bytes(100_000)
TASKS = 20

SERVICE = """
from sidecar import Service

service = Service("work")

@service.handler()
async def take(payload: bytes) -> int:
    return len(payload)

service.run()
"""


class Disk:
    """A file system of some MiB, and how much of it others have taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken = path / "taken"

    def leave(self, spare_bytes: int) -> None:
        """Have others take all but so much."""
        with self._taken.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while (free := self.free()) > spare_bytes:
                file.write(bytes(min(free - spare_bytes, MIB)))

    def give_back(self) -> None:
        self._taken.unlink()

    def free(self) -> int:
        facts = os.statvfs(self.path)
        return facts.f_bavail * facts.f_frsize


@pytest.fixture
def disk(system: System) -> Iterator[Disk]:
    """A disk that is there before any process, and gone before the folder is removed."""
    path = system.folder / "coordinator-data"
    path.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "none", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode and "CI" not in os.environ:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def start(system: System) -> Coordinator:
    return system.coordinator("--disk-free-min", "4MiB", "--store-map-size", "64MiB")


def submit(client: Client, count: int, payload: bytes = PAYLOAD) -> list[BlockingTask[object]]:
    return [client.submit("work.take", payload) for _ in range(count)]


def submit_until_refused(client: Client, payload: bytes) -> list[BlockingTask[object]]:
    """Submit until there is no room; return what was accepted."""
    accepted: list[BlockingTask[object]] = []
    with pytest.raises(Busy, match="store_full"):
        while True:
            accepted += submit(client, 1, payload)
    return accepted


def test_disk_that_others_fill_refuses_submissions_until_there_is_room(
    system: System, disk: Disk
) -> None:
    coordinator = start(system)
    sidecar = system.sidecar("work", coordinator)
    with Client(sidecar.socket_path, timeout="2s") as client:
        wait_for_services(sidecar, client, 0)
        tasks = submit(client, TASKS)
        disk.leave(3 * MIB)

        tasks += submit_until_refused(client, b"small")
        system.service("work", sidecar, SERVICE)
        for task in tasks:
            task.result(timeout=20)

        disk.give_back()
        with Client(sidecar.socket_path, timeout="20s") as patient:
            (last,) = submit(patient, 1)
            assert last.result(timeout=20) == len(PAYLOAD)
    assert "store_has_room_again" in coordinator.output()


def test_disk_that_is_filled_in_a_moment_refuses_before_it_is_full(
    system: System, disk: Disk
) -> None:
    coordinator = start(system)
    sidecar = system.sidecar("work", coordinator, "--no-spool")
    with Client(sidecar.socket_path, timeout="2s") as client:
        wait_for_services(sidecar, client, 0)

        tasks = submit_until_refused(client, PAYLOAD)

        system.service("work", sidecar, SERVICE)
        for task in tasks:
            assert task.result(timeout=20) == len(PAYLOAD)
    assert coordinator.running


def test_disk_that_is_full_at_once_ends_the_coordinator_and_loses_nothing(
    system: System, disk: Disk
) -> None:
    coordinator = start(system)
    sidecar = system.sidecar("work", coordinator)
    with Client(sidecar.socket_path, timeout="20s") as client:
        wait_for_services(sidecar, client, 0)
        tasks = submit(client, TASKS)
        disk.leave(0)

        tasks += submit(client, 40)  # Until it has ended they are accepted, then spooled.
        assert coordinator.wait() != 0
        assert tasks[-1].spooled
        assert "No space left" in coordinator.output()

        disk.give_back()
        coordinator.start()
        system.service("work", sidecar, SERVICE)
        assert [task.result(timeout=20) for task in tasks] == [len(PAYLOAD)] * len(tasks)
