"""The real processes under fire on their real sockets: who behaves is served on."""

import contextlib
import os
import random
import socket
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.fuzz import corpus
from tests.fuzz.mutate import Mutator
from tests.protocol.peers import ForeignService, ForeignSidecar
from tests.support.builders import task_id
from tests.support.processes import System

FRAMES = 3_000
GROWTH_BYTES_MAX = 96 * 2**20
MIB = 2**20
OWN = 1_000_000
"""Ids from here on are in no frame of the corpus."""

HELLO, HANDLERS, DEMAND, HEARTBEAT, BEAT = 1, 2, 3, 4, 19
WELCOME, GRANT, RECORDED = 16, 17, 18
ATTACH, ATTACHED, SUBMIT, ACCEPTED, OUTCOMES, REFUSED = 32, 33, 48, 49, 50, 54


def rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def mutated(seed: int, frames: int = FRAMES) -> list[bytes]:
    mutator = Mutator(random.Random(seed), corpus.golden() + corpus.traffic())
    return [mutator.next() for _ in range(frames)]


def greet(sidecar: ForeignSidecar) -> None:
    incarnation = os.urandom(16)
    sidecar.send(HELLO, 1, 1, "foreign", incarnation, "good", "other/1", None, 0, 0, [])
    sidecar.receive_only(WELCOME)


def submit(peer: ForeignSidecar | ForeignService, number: int) -> None:
    tasks = msgpack.packb([[task_id(OWN + number), "good.work", b"{}"]])
    peer.send(SUBMIT, [[7, tasks, False]])
    assert peer.receive_only(ACCEPTED) == [[[7, None, "", 0, [], []]]]


def run_a_task(sidecar: ForeignSidecar, number: int, outcomes: int) -> None:
    """Let one task through, from its submission to its recorded outcome."""
    submit(sidecar, number)
    sidecar.send(DEMAND, [["good.work", outcomes]])
    _, _, [[_, [task]]] = sidecar.receive_only(GRANT)
    assert task[0] == task_id(OWN + number)
    sidecar.send(OUTCOMES, outcomes, [[task[0], task[1], 0, 10, None]])
    assert sidecar.receive_only(RECORDED) == [outcomes, []]


def beats(sidecar: ForeignSidecar) -> bool:
    sidecar.send(HEARTBEAT, 5, [], [])
    answer: list[Any] = sidecar.receive_only(BEAT)
    return bool(answer[1] == 5)


@pytest.mark.timeout(90)
def test_coordinator_serves_on_whatever_others_send(system: System) -> None:
    coordinator = system.coordinator()
    with ForeignSidecar(coordinator.address) as good:
        greet(good)
        good.send(HANDLERS, [["good.work", {}]])
        run_a_task(good, 1, 1)
        before = rss_bytes(coordinator.pid)

        with ForeignSidecar(coordinator.address) as bad:
            for i, frame in enumerate(mutated(1)):
                bad.send_bytes(frame)
                if i % 500 == 0:
                    assert beats(good)
            for _ in range(20):
                bad.send_bytes(*[b"x" * 50] * 10_000)
            bad.send_bytes(b"x" * (5 * MIB))  # Cuts this connection off.
            assert beats(good)

        with ForeignSidecar(coordinator.address) as again:
            greet(again)
        run_a_task(good, 2, 2)
        assert rss_bytes(coordinator.pid) - before < GROWTH_BYTES_MAX


@pytest.mark.timeout(90)
def test_coordinator_serves_on_beside_those_who_do_not_speak_its_protocol(system: System) -> None:
    coordinator = system.coordinator()
    host, port = coordinator.address.removeprefix("tcp://").split(":")
    rng = random.Random(2)
    with ForeignSidecar(coordinator.address) as good:
        greet(good)
        good.send(HANDLERS, [["good.work", {}]])
        before = descriptors(coordinator.pid)

        with contextlib.ExitStack() as others:
            for i in range(600):
                other = others.enter_context(socket.create_connection((host, int(port))))
                if i % 2:
                    with contextlib.suppress(OSError):
                        other.sendall(rng.randbytes(rng.choice((1, 64, 5_000))))
            run_a_task(good, 1, 1)

        coordinator.wait_until(
            lambda: descriptors(coordinator.pid) <= before, "frees the descriptors"
        )
        assert beats(good)


@pytest.mark.timeout(90)
def test_connection_that_says_nothing_is_given_up(system: System) -> None:
    coordinator = system.coordinator()
    host, port = coordinator.address.removeprefix("tcp://").split(":")
    with ForeignSidecar(coordinator.address) as good, contextlib.ExitStack() as others:
        greet(good)
        before = descriptors(coordinator.pid)
        for _ in range(100):
            others.enter_context(socket.create_connection((host, int(port))))

        coordinator.wait_until(
            lambda: descriptors(coordinator.pid) >= before + 100, "has accepted them"
        )
        coordinator.wait_until(
            lambda: descriptors(coordinator.pid) <= before, "frees the descriptors"
        )


@pytest.mark.timeout(90)
def test_sidecar_serves_on_whatever_others_send(system: System) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("good", coordinator)
    with ForeignService(sidecar.socket_path) as good:
        good.send(ATTACH, 1, 1, "", "other/1", [], [])
        good.receive_only(ATTACHED)
        submit(good, 1)
        before = rss_bytes(sidecar.pid)

        frames = mutated(3)
        while frames:
            with socket.socket(socket.AF_UNIX) as bad, contextlib.suppress(OSError):
                bad.settimeout(5.0)
                bad.connect(str(sidecar.socket_path))
                bad.sendall(b"PLN\x01")
                while frames:  # What breaks the protocol ends the connection.
                    frame = frames.pop()
                    bad.sendall(len(frame).to_bytes(4, "big") + frame)

        submit(good, 2)
        assert rss_bytes(sidecar.pid) - before < GROWTH_BYTES_MAX
