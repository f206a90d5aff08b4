"""Very many sidecars come back at once, and very many leases outlive a restart."""

import os
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from sidecar import Client
from tests.protocol.peers import ForeignSidecar
from tests.scenarios.stage import wait_for_services
from tests.support.builders import task_id
from tests.support.process import Process
from tests.support.processes import Coordinator, System

SIDECARS = 1000
BACK_SECONDS_MAX = 10.0
SAY_AGAIN_SECONDS = 2.0
LEASES = 1000
HELLO, HANDLERS, DEMAND, HEARTBEAT = 1, 2, 3, 4
WELCOME, GRANT, RECORDED, BEAT = 16, 17, 18, 19
SUBMIT, ACCEPTED, OUTCOMES = 48, 49, 50

SERVICE = """
from sidecar import Service

service = Service("load")

@service.handler(concurrency=4)
async def echo(number: int) -> int:
    return number

service.run()
"""


class Crowd:
    """Sidecars in one thread, of which each says and hears only what the test says."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 2 * SIDECARS)
        self._poller = zmq.Poller()
        self._sockets: dict[zmq.Socket[bytes], int] = {}
        for number in range(SIDECARS):
            dealer = self._context.socket(zmq.DEALER)
            dealer.linger = 0
            dealer.connect(address)
            self._poller.register(dealer, zmq.POLLIN)
            self._sockets[dealer] = number

    def close(self) -> None:
        self._context.destroy(linger=0)

    def ask(self, process: Process, messages: list[list[Any]]) -> list[list[Any]]:
        """Send each its message until it hears something; return what each hears first.

        What is sent while a connection breaks is lost, and ZeroMQ tells nobody.
        """
        heard: dict[int, list[Any]] = {}
        sent = 0.0

        def all_have_heard() -> bool:
            nonlocal sent
            if time.monotonic() - sent > SAY_AGAIN_SECONDS:
                sent = time.monotonic()
                for dealer, number in self._sockets.items():
                    if number not in heard:
                        dealer.send(msgpack.packb(messages[number]))
            for dealer, _ in self._poller.poll(10):
                heard.setdefault(self._sockets[dealer], msgpack.unpackb(dealer.recv()))
            return len(heard) == SIDECARS

        process.wait_until(all_have_heard, "has answered all", 30)
        return [heard[number] for number in range(SIDECARS)]

    def forget(self) -> None:
        """Take away what has come beyond the first answers."""
        while ready := self._poller.poll(0):
            for dealer, _ in ready:
                dealer.recv()


@pytest.fixture
def crowd(system: System) -> Iterator[Crowd]:
    made = Crowd(system.coordinator("--session-timeout", "15s").address)
    yield made
    made.close()


def hello(incarnation: bytes, known: list[Any] | None = None, held: Any = ()) -> list[Any]:
    """Return a HELLO, the first or one that resumes what a WELCOME began."""
    store, epoch, session = (None, 0, 0) if known is None else (known[5], known[4], known[2])
    return [HELLO, 1, 1, "one", incarnation, "crowd", "other/1", store, epoch, session, list(held)]


def test_thousand_sidecars_that_come_back_at_once_are_served_and_harm_no_other(
    system: System, crowd: Crowd
) -> None:
    (coordinator,) = system.processes
    assert isinstance(coordinator, Coordinator)
    sidecar = system.sidecar("load", coordinator)
    system.service("service", sidecar, SERVICE)
    names = [os.urandom(16) for _ in range(SIDECARS)]
    with Client(sidecar.socket_path) as client:
        wait_for_services(sidecar, client)
        known = crowd.ask(coordinator, [hello(name) for name in names])
        assert {welcome[0] for welcome in known} == {WELCOME}

        coordinator.restart()
        crowd.forget()
        began = time.monotonic()
        again = [hello(name, welcome) for name, welcome in zip(names, known, strict=True)]
        resumed = crowd.ask(coordinator, again)

        assert time.monotonic() - began < BACK_SECONDS_MAX
        assert {(welcome[0], welcome[3]) for welcome in resumed} == {(WELCOME, True)}
        wait_for_services(sidecar, client)
        assert client.submit("load.echo", {"number": 1}).result(timeout=20) == 1
        assert "leases_lost" not in sidecar.output()


def test_thousand_leases_outlive_a_restart_and_none_is_granted_again(system: System) -> None:
    coordinator = system.coordinator()
    name = os.urandom(16)
    with ForeignSidecar(coordinator.address) as holder:
        holder.send(*hello(name))
        known = [WELCOME, *holder.receive_only(WELCOME)]
        holder.send(HANDLERS, [["crowd.work", {}]])
        tasks = [[task_id(number), "crowd.work", b"{}"] for number in range(LEASES)]
        holder.send(SUBMIT, [[1, msgpack.packb(tasks), False]])
        holder.receive_only(ACCEPTED)
        holder.send(DEMAND, [["crowd.work", LEASES]])
        leases: list[list[Any]] = []
        while len(leases) < LEASES:
            for _, granted in holder.receive_only(GRANT)[2]:
                leases += [task[:2] for task in granted]

        coordinator.restart()
        with ForeignSidecar(coordinator.address) as other:
            other.send(*hello(os.urandom(16)))
            other.receive_only(WELCOME)
            other.send(HANDLERS, [["crowd.work", {}]])
            other.send(DEMAND, [["crowd.work", LEASES]])
            holder.send(*hello(name, known, leases))
            welcome = holder.receive_only(WELCOME)
            assert (welcome[2], welcome[6]) == (True, [])
            holder.send(OUTCOMES, 1, [[*lease, 0, 10, None] for lease in leases])
            assert holder.receive_only(RECORDED) == [1, []]
            other.send(HEARTBEAT, 5, [], [])
            beat = other.receive_only(BEAT)  # And no GRANT before it.
            assert beat[2] == 0
