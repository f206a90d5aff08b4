"""The sidecar as a process: signals, drain, and coordinators that come and go."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.protocol.peers import ForeignService
from tests.support.builders import task_id
from tests.support.processes import Coordinator, Sidecar, System

ATTACH, ATTACHED, TASKS, RECALL, INSPECT, INSPECTED = 32, 33, 34, 35, 36, 37
VALIDITY = 38
DEMAND, SUBMIT, ACCEPTED, OUTCOMES, QUERY, ANSWER, GOODBYE = 3, 48, 49, 50, 51, 52, 55
SUCCESS, RETURNED = 0, 4
READY, SUCCEEDED = 1, 4
DEADLINE_SECONDS = 20.0


@pytest.fixture
def coordinator(system: System) -> Iterator[Coordinator]:
    yield system.coordinator("--session-timeout", "3s")


def receive(connection: ForeignService, number: int) -> list[Any]:
    """Return the fields of the next message, but for what is told unasked, of this number."""
    while (message := connection.receive())[0] == VALIDITY:
        pass
    assert message[0] == number, message
    return message[1:]


def attach(sidecar: Sidecar, *handlers: str) -> ForeignService:
    connection = ForeignService(sidecar.socket_path)
    declared = [[handler, {}] for handler in handlers]
    slots = [[handler, 1] for handler in handlers]
    connection.send(ATTACH, 1, 1, "email" if handlers else "", "other/1", declared, slots)
    receive(connection, ATTACHED)
    return connection


def submit(connection: ForeignService, *numbers: int) -> None:
    tasks = msgpack.packb([[task_id(number), "email.send", b"{}"] for number in numbers])
    connection.send(SUBMIT, [[1, tasks, False]])
    [[[_, code, *_]]] = receive(connection, ACCEPTED)
    assert code is None


def take(connection: ForeignService, count: int) -> list[list[Any]]:
    """Return so many tasks."""
    tasks: list[list[Any]] = []
    while len(tasks) < count:
        for group in receive(connection, TASKS)[0]:
            tasks += group[1]
    return tasks


def settle(connection: ForeignService, kind: int, *tasks: list[Any]) -> None:
    connection.send(OUTCOMES, 0, [[task[0], task[1], kind, 5, None] for task in tasks])


def state_of(connection: ForeignService, number: int, wait_ms: int = 0) -> int:
    connection.send(QUERY, [[5, task_id(number), wait_ms, -1]])
    [[[_, code, status]]] = receive(connection, ANSWER)
    assert code is None
    return int(status[2])


def ends(sidecar: Sidecar) -> int | None:
    """Wait for the process to end and return its exit code."""
    sidecar.end_expected = True
    sidecar.wait_until(lambda: not sidecar.running, "has ended", DEADLINE_SECONDS)
    return sidecar.returncode


def test_sigterm_lets_what_runs_finish_and_gives_the_rest_back(
    system: System, coordinator: Coordinator
) -> None:
    sidecar = system.sidecar("email", coordinator)
    other = system.sidecar("email", coordinator, name="other")
    with attach(sidecar, "email.send") as service, attach(other) as app:
        submit(app, 1, 2)
        service.send(DEMAND, [["email.send", 2]])
        first, second = take(service, 2)

        sidecar.end_expected = True
        sidecar.signal(signal.SIGTERM)
        assert receive(service, RECALL) == [[second[:2]]]
        settle(service, RETURNED, second)
        settle(service, SUCCESS, first)

        assert receive(service, GOODBYE) == ["stopping"]
        assert service.closed()
        assert ends(sidecar) == 0
        assert state_of(app, 1) == SUCCEEDED
        assert state_of(app, 2) == READY
    assert not sidecar.socket_path.exists()


def test_drain_that_takes_too_long_is_cut_and_costs_no_attempt(
    system: System, coordinator: Coordinator
) -> None:
    sidecar = system.sidecar("email", coordinator, "--drain", "100ms")
    other = system.sidecar("email", coordinator, name="other")
    with attach(sidecar, "email.send") as service, attach(other) as app:
        submit(app, 1)
        service.send(DEMAND, [["email.send", 1]])
        take(service, 1)

        sidecar.end_expected = True
        sidecar.signal(signal.SIGTERM)

        assert ends(sidecar) == 0
        with attach(other, "email.send") as heir:
            heir.send(DEMAND, [["email.send", 1]])
            [again] = take(heir, 1)
            assert (again[2], again[4]) == (1, 2)  # The first attempt, the second delivery.
            settle(heir, SUCCESS, again)
            assert state_of(app, 1, 5_000) == SUCCEEDED


def test_second_signal_ends_it_at_once(system: System, coordinator: Coordinator) -> None:
    sidecar = system.sidecar("email", coordinator)
    with attach(sidecar, "email.send") as service:
        submit(service, 1)
        service.send(DEMAND, [["email.send", 1]])
        take(service, 1)
        began = time.monotonic()

        sidecar.end_expected = True
        sidecar.signal(signal.SIGTERM)
        sidecar.wait_until(lambda: "drain_began" in sidecar.output(), "drains", DEADLINE_SECONDS)
        sidecar.signal(signal.SIGINT)

        ends(sidecar)
        assert time.monotonic() - began < DEADLINE_SECONDS / 2


def test_sidecar_and_service_wait_for_a_coordinator_that_starts_later(system: System) -> None:
    coordinator = system.coordinator()
    coordinator.kill()
    sidecar = system.sidecar("email", coordinator)
    with attach(sidecar, "email.send") as service:
        service.send(DEMAND, [["email.send", 1]])
        tasks = msgpack.packb([[task_id(1), "email.send", b"{}"]])
        service.send(SUBMIT, [[1, tasks, False]])

        coordinator.start()

        [task] = take_after_accepted(service, 1)
        settle(service, SUCCESS, task)
        assert state_of(service, 1, 5_000) == SUCCEEDED


def test_attempt_goes_on_over_a_restart_of_the_coordinator(
    system: System, coordinator: Coordinator
) -> None:
    sidecar = system.sidecar("email", coordinator)
    with attach(sidecar, "email.send") as service:
        submit(service, 1)
        service.send(DEMAND, [["email.send", 1]])
        [task] = take(service, 1)

        coordinator.kill()
        coordinator.start()
        settle(service, SUCCESS, task)

        assert state_of(service, 1, 10_000) == SUCCEEDED
        assert "leases_lost" not in sidecar.output()


def test_log_has_no_line_for_a_task_and_no_payload(
    system: System, coordinator: Coordinator
) -> None:
    sidecar = system.sidecar("email", coordinator)
    with attach(sidecar, "email.send") as service:
        canary = "canary-8714"
        payload = b'"' + canary.encode() + b'"'
        numbers = range(1, 101)
        tasks = msgpack.packb([[task_id(n), "email.send", payload] for n in numbers])
        service.send(DEMAND, [["email.send", 100]])
        service.send(SUBMIT, [[1, tasks, False]])
        settle(service, SUCCESS, *take_after_accepted(service, 100))
        assert state_of(service, 100, 5_000) == SUCCEEDED

    assert canary not in sidecar.output()
    assert len(sidecar.output().splitlines()) < 10


def take_after_accepted(connection: ForeignService, count: int) -> list[list[Any]]:
    """Return so many tasks, whichever of them and the verdict comes first."""
    tasks: list[list[Any]] = []
    accepted = False
    while len(tasks) < count or not accepted:
        number, *fields = connection.receive()
        if number == TASKS:
            for group in fields[0]:
                tasks += group[1]
        elif number == ACCEPTED:
            [[[_, code, *_]]] = fields
            assert code is None
            accepted = True
    return tasks
