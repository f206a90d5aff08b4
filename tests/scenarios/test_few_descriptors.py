"""More connections than a process may have descriptors: who is served is served on."""

import contextlib
import os
import resource
import socket

import pytest

from sidecar import Client
from tests.scenarios.stage import wait_for_services
from tests.support.process import Process
from tests.support.processes import System

SPARE = 8
"""Descriptors that a process may open beyond those it has; fewer than a sidecar has connections."""
CROWD = 60
LOOPS = pytest.mark.parametrize("event_loop", ["uvloop", "asyncio"])

SERVICE = """
from sidecar import Service

service = Service("load")

@service.handler(concurrency=4)
async def echo(number: int) -> int:
    return number

service.run()
"""


def descriptors(process: Process) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def leave_few(process: Process) -> int:
    """Let a process have a few descriptors more than it has; return how many that are."""
    most = descriptors(process) + SPARE
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, hard))
    return most


def crowd(stack: contextlib.ExitStack, family: int, address: str | tuple[str, int]) -> None:
    """Connect more often than the other side can take."""
    for _ in range(CROWD):
        peer = stack.enter_context(socket.socket(family))
        peer.settimeout(5.0)
        with contextlib.suppress(OSError):
            peer.connect(address)


@LOOPS
def test_sidecar_out_of_descriptors_serves_those_it_has_and_others_later(
    system: System, event_loop: str
) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("load", coordinator, "--event-loop", event_loop)
    system.service("service", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        before = descriptors(sidecar)
        most = leave_few(sidecar)

        with contextlib.ExitStack() as stack:
            crowd(stack, socket.AF_UNIX, str(sidecar.socket_path))
            sidecar.wait_until(lambda: descriptors(sidecar) >= most - 2, "has no more left")
            assert client.submit("load.echo", {"number": 1}).result(timeout=20) == 1

        sidecar.wait_until(lambda: descriptors(sidecar) <= before + 1, "frees the descriptors")
        with Client(sidecar.socket_path) as later:
            assert later.submit("load.echo", {"number": 2}).result(timeout=20) == 2


def test_sidecar_keeps_descriptors_for_its_coordinator(system: System) -> None:
    coordinator = system.coordinator("--session-timeout", "2s")
    sidecar = system.sidecar("load", coordinator, start=False)
    sidecar.command = ["/bin/sh", "-c", 'ulimit -n 150; exec "$0" "$@"', *sidecar.command]
    sidecar.start()
    system.service("service", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client, contextlib.ExitStack() as stack:
        wait_for_services(sidecar, client)
        crowd(stack, socket.AF_UNIX, str(sidecar.socket_path))
        sidecar.wait_until(
            lambda: "connection_refused" in sidecar.output(), "has as many as it may"
        )

        coordinator.kill()
        assert client.submit("load.echo", {"number": 1}).spooled
        sidecar.wait_until(lambda: "session_lost" in sidecar.output(), "has given up its session")
        coordinator.start()

        wait_for_services(sidecar, client)
        assert client.submit("load.echo", {"number": 2}).result(timeout=20) == 2
        assert "connections_wait" not in sidecar.output()


@pytest.mark.parametrize(("side", "event_loop"), [("sidecars", "uvloop"), ("http", "asyncio")])
def test_coordinator_out_of_descriptors_serves_those_it_has_and_others_later(
    system: System, side: str, event_loop: str
) -> None:
    coordinator = system.coordinator("--event-loop", event_loop)
    sidecar = system.sidecar("load", coordinator)
    system.service("service", sidecar, SERVICE)
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        before = descriptors(coordinator)
        most = leave_few(coordinator)

        with contextlib.ExitStack() as stack:
            if side == "http":
                crowd(stack, socket.AF_UNIX, str(coordinator.http_socket))
            else:
                host, port = coordinator.address.removeprefix("tcp://").split(":")
                crowd(stack, socket.AF_INET, (host, int(port)))
            coordinator.wait_until(lambda: descriptors(coordinator) >= most - 2, "has no more left")
            assert client.submit("load.echo", {"number": 1}).result(timeout=20) == 1

        coordinator.wait_until(
            lambda: descriptors(coordinator) <= before + 1, "frees the descriptors"
        )
        other = system.sidecar("load", coordinator, name="other")
        with Client(other.socket_path) as later:
            wait_for_services(other, later, 0)
            assert later.submit("load.echo", {"number": 2}).result(timeout=20) == 2
