"""A whole host stands still and wakes when its work is another's: it harms nothing."""

import os
import signal

from sidecar import Client
from tests.scenarios.stage import lines, wait_for_lines, wait_for_services
from tests.support.processes import System

SERVICE = """
import os, sys
from sidecar import Service, current

service = Service("load")
begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
ended = os.open("ended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
host = sys.argv[1]

@service.handler(concurrency=1)
def gated() -> str:
    os.write(begun, f"{host} {current().attempt}\\n".encode())
    with open(f"gate-{host}") as gate:  # A pipe: until the test opens its other end.
        gate.read()
    os.write(ended, f"{host} {current().cancelled}\\n".encode())
    return host

service.run()
"""


def open_gate(system: System, host: str) -> None:
    os.close(os.open(system.folder / f"gate-{host}", os.O_WRONLY))


def test_host_that_wakes_finds_its_leases_void_and_what_it_did_is_not_taken(
    system: System,
) -> None:
    coordinator = system.coordinator("--session-timeout", "2s")
    one = system.sidecar("load", coordinator, "--name", "one", name="one")
    first = system.service("first", one, SERVICE, "one")
    for host in ("one", "two"):
        os.mkfifo(system.folder / f"gate-{host}")
    with Client(one.socket_path) as client:
        wait_for_services(one, client)
        task = client.submit("load.gated", {})
        wait_for_lines(first, system.folder / "begun", 1)

        for process in (one, first):
            os.kill(process.pid, signal.SIGSTOP)
        two = system.sidecar("load", coordinator, "--name", "two", name="two")
        second = system.service("second", two, SERVICE, "two")
        wait_for_lines(second, system.folder / "begun", 2)
        for process in (one, first):
            os.kill(process.pid, signal.SIGCONT)
        one.wait_until(lambda: "leases_lost" in one.output(), "finds its leases void")
        open_gate(system, "one")
        wait_for_lines(first, system.folder / "ended", 1)
        wait_for_services(one, client)
        open_gate(system, "two")

        assert task.result(timeout=20) == "two"
        assert task.status().attempts == 2
    assert lines(system.folder / "begun") == ["one 1", "two 2"]
    assert lines(system.folder / "ended") == ["one True", "two False"]
