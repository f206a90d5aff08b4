"""More than can be taken: who sends too much is told to wait, and everybody else is served."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack

from sidecar import Client
from tests.protocol.peers import ForeignService
from tests.scenarios.stage import wait_for_services
from tests.support.builders import task_id
from tests.support.process import Process
from tests.support.processes import System

MIB = 2**20
ATTACH, SUBMIT, ATTACHED, ACCEPTED = 32, 48, 33, 49
PAYLOAD = bytes(MIB - 1000)
CONNECTIONS = 8
BATCHES = 24
"""Of 1 MiB for each connection: more than the sidecar keeps of one, and of all."""
KEPT_BYTES = 64 * MIB
GROWTH_BYTES_MAX = KEPT_BYTES + 96 * MIB


def memory_bytes_most(process: Process) -> int:
    """Return the most memory that a process has had resident."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


class Flood:
    """A connection on which far more is submitted than is answered."""

    def __init__(self, path: Path, number: int) -> None:
        self.codes: Counter[str] = Counter()
        self._peer = ForeignService(path)
        self._peer.send(ATTACH, 1, 1, "", "other/1", [], [])
        self._peer.receive_only(ATTACHED)
        self._first = number * BATCHES
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._peer:
            for number in range(BATCHES):
                batch = [[task_id(1_000_000 + self._first + number), "load.echo", PAYLOAD]]
                self._peer.send(SUBMIT, [[number, msgpack.packb(batch), True]])
            answered = 0
            while answered < BATCHES:
                verdicts: list[Any] = self._peer.receive_only(ACCEPTED)[0]
                answered += len(verdicts)
                self.codes.update(verdict[1] or "accepted" for verdict in verdicts)

    def end(self) -> Counter[str]:
        self._thread.join()
        return self.codes


def flood(path: Path) -> Counter[str]:
    """Return what became of the batches of all connections, by their codes."""
    floods = [Flood(path, number) for number in range(CONNECTIONS)]
    return sum([one.end() for one in floods], Counter())


def test_sidecar_that_is_flooded_in_an_outage_tells_apps_to_wait_and_keeps_its_bounds(
    system: System,
) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("load", coordinator, "--no-spool", "--submit-timeout", "5s")
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client, 0)
        coordinator.kill()
        before = memory_bytes_most(sidecar)

        codes = flood(sidecar.socket_path)

        assert memory_bytes_most(sidecar) - before < GROWTH_BYTES_MAX
        assert set(codes) == {"busy", "unavailable"}
        assert codes["unavailable"] <= KEPT_BYTES / len(PAYLOAD)
        coordinator.start()
        wait_for_services(sidecar, client, 0)
        assert client.submit("load.echo", {"number": 1}).id


SERVICE = """
from sidecar import Service

service = Service("load")

@service.handler(concurrency=4)
async def echo(number: int) -> int:
    return number

service.run()
"""


def test_flood_of_one_app_takes_no_session_and_lets_others_through(system: System) -> None:
    coordinator = system.coordinator("--session-timeout", "3s")
    sidecar = system.sidecar("load", coordinator)
    flooded = system.sidecar("flood", coordinator, "--no-spool")
    system.service("service", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        before = memory_bytes_most(coordinator)

        floods = [Flood(flooded.socket_path, number) for number in range(CONNECTIONS)]
        results = [
            client.submit("load.echo", {"number": number}).result(timeout=10)
            for number in range(50)
        ]
        codes = sum([one.end() for one in floods], Counter())

        assert results == list(range(50))
        assert codes["accepted"] > CONNECTIONS
        assert set(codes) <= {"accepted", "busy"}
        assert memory_bytes_most(coordinator) - before < GROWTH_BYTES_MAX
        assert "session_expired" not in coordinator.output()
        assert "leases_lost" not in sidecar.output() + flooded.output()
