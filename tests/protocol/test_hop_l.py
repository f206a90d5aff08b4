"""A service and an app written from the document work with the real sidecar."""

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.protocol.examples import CARRIED
from tests.protocol.peers import ForeignService
from tests.support.builders import task_id
from tests.support.processes import Sidecar, System

ATTACH, ATTACHED, TASKS, RECALL, INSPECT, INSPECTED = 32, 33, 34, 35, 36, 37
DEMAND, SUBMIT, ACCEPTED, OUTCOMES, QUERY, ANSWER = 3, 48, 49, 50, 51, 52
REVOKE, REFUSED, GOODBYE, PROGRESS, CANCEL = 53, 54, 55, 56, 57
SUCCESS, RETRY, RETURNED = 0, 1, 4
SUCCEEDED, CANCELLED = 4, 6


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    with System() as system:
        yield system.sidecar("email", system.coordinator())


def service(sidecar: Sidecar, handler: str, slots: int = 1, **policy: int) -> ForeignService:
    """Attach a service that serves one handler."""
    connection = ForeignService(sidecar.socket_path)
    connection.send(ATTACH, 1, 1, "email", "other/1", [[handler, policy]], [[handler, slots]])
    version, name, frame_bytes_max = connection.receive_only(ATTACHED)
    assert version == 1
    assert name
    assert frame_bytes_max == 4_194_304
    return connection


def app(sidecar: Sidecar) -> ForeignService:
    """Attach an app that only submits."""
    connection = ForeignService(sidecar.socket_path)
    connection.send(ATTACH, 1, 1, "", "other/1", [], [])
    connection.receive_only(ATTACHED)
    return connection


def submit(connection: ForeignService, handler: str, *numbers: int) -> None:
    tasks = msgpack.packb([[task_id(number), handler, b"{}"] for number in numbers])
    connection.send(SUBMIT, [[42, tasks, False]])
    assert connection.receive_only(ACCEPTED) == [[[42, None, "", 0, [], []]]]


def take(connection: ForeignService) -> list[list[Any]]:
    """Return the tasks of the next TASKS."""
    [[[_, tasks]]] = connection.receive_only(TASKS)
    return list(tasks)


def state_of(connection: ForeignService, number: int, wait_ms: int = 10_000) -> list[Any]:
    """Wait for a task to end and return its status."""
    connection.send(QUERY, [[5, task_id(number), wait_ms, -1]])
    [[[request, code, status]]] = connection.receive_only(ANSWER)
    assert (request, code) == (5, None)
    return list(status)


def test_task_goes_from_the_app_to_the_service_and_its_result_back(sidecar: Sidecar) -> None:
    with service(sidecar, "email.send") as worker, app(sidecar) as client:
        worker.send(DEMAND, [["email.send", 1]])
        submit(client, "email.send", 1_000)
        [task] = take(worker)
        assert task[0] == task_id(1_000)
        assert task[9] == b"{}"
        worker.send(OUTCOMES, 0, [[task[0], task[1], SUCCESS, 900, [None, b'"sent"']]])
        status = state_of(client, 1_000)
        assert status[2] == SUCCEEDED
        assert status[14] == [None, b'"sent"']


def test_tasks_are_handed_over_in_order_and_only_on_demand(sidecar: Sidecar) -> None:
    with service(sidecar, "email.order", slots=2) as worker, app(sidecar) as client:
        submit(client, "email.order", *range(1_100, 1_106))
        worker.send(DEMAND, [["email.order", 4]])
        tasks: list[list[Any]] = []
        while len(tasks) < 4:
            tasks += take(worker)
        assert [task[0] for task in tasks] == [task_id(n) for n in range(1_100, 1_104)]
        worker.send(INSPECT)
        worker.receive_only(INSPECTED)  # No fifth task comes before it.


def test_unfinished_tasks_beyond_the_slots_are_returned_when_the_connection_ends(
    sidecar: Sidecar,
) -> None:
    with app(sidecar) as client:
        submit(client, "email.crash", 1_200, 1_201)
        with service(sidecar, "email.crash", slots=1) as worker:
            worker.send(DEMAND, [["email.crash", 2]])
            tasks: list[list[Any]] = []
            while len(tasks) < 2:
                tasks += take(worker)
        with service(sidecar, "email.crash", slots=2) as worker:
            worker.send(DEMAND, [["email.crash", 2]])
            again: list[list[Any]] = []
            while len(again) < 2:
                again += take(worker)
            attempts = {task[0]: task[2] for task in again}
            assert attempts == {task_id(1_200): 2, task_id(1_201): 1}
            worker.send(OUTCOMES, 0, [[task[0], task[1], SUCCESS, 1, None] for task in again])
            assert state_of(client, 1_200)[2] == SUCCEEDED


def test_attempt_that_runs_too_long_is_revoked_and_its_outcome_is_taken(sidecar: Sidecar) -> None:
    with (
        service(sidecar, "email.slow", timeout_ms=50, attempts_max=1) as worker,
        app(sidecar) as client,
    ):
        worker.send(DEMAND, [["email.slow", 1]])
        submit(client, "email.slow", 1_300)
        [task] = take(worker)
        assert worker.receive_only(REVOKE) == [[[task[0], task[1], "timeout"]]]
        failure = ["timeout", "stopped", "", None]
        worker.send(OUTCOMES, 0, [[task[0], task[1], RETRY, 50_000, failure]])
        status = state_of(client, 1_300)
        assert "timeout: stopped" in status[15]


def test_checkpoint_is_saved_before_the_connection_breaks(sidecar: Sidecar) -> None:
    with app(sidecar) as client:
        submit(client, "email.steps", 1_350)
        with service(sidecar, "email.steps") as worker:
            worker.send(DEMAND, [["email.steps", 1]])
            [task] = take(worker)
            for page in range(9):
                worker.send(PROGRESS, [[task[0], task[1], page, "", b"page %d" % page]])
        with service(sidecar, "email.steps") as worker:
            worker.send(DEMAND, [["email.steps", 1]])
            [task] = take(worker)
            assert (task[2], task[10]["checkpoint"]) == (2, b"page 8")


def test_cancelled_attempt_is_revoked_and_the_task_ends_when_it_has_answered(
    sidecar: Sidecar,
) -> None:
    with service(sidecar, "email.stop", slots=1) as worker, app(sidecar) as client:
        submit(client, "email.stop", 1_360)
        worker.send(DEMAND, [["email.stop", 1]])
        [task] = take(worker)
        client.send(CANCEL, [[8, task_id(1_360), "not wanted"]])
        [[[request, code, status]]] = client.receive_only(ANSWER)
        assert (request, code, status[20]) == (8, None, True)
        assert worker.receive_only(REVOKE) == [[[task[0], task[1], "cancelled"]]]
        worker.send(OUTCOMES, 0, [[task[0], task[1], RETRY, 1, ["Cancelled", "", "", None]]])
        status = state_of(client, 1_360)
        assert (status[2], status[15]) == (CANCELLED, "cancelled: not wanted")


def test_what_the_submitter_gives_for_the_handler_reaches_it(sidecar: Sidecar) -> None:
    with service(sidecar, "email.carry") as worker, app(sidecar) as client:
        task_of = [task_id(1_370), "email.carry", b"{}", None, CARRIED]
        client.send(SUBMIT, [[42, msgpack.packb([task_of]), False]])
        assert client.receive_only(ACCEPTED) == [[[42, None, "", 0, [], []]]]
        worker.send(DEMAND, [["email.carry", 1]])
        [task] = take(worker)
        assert task[10] == CARRIED


def test_service_that_leaves_in_order_loses_nothing(sidecar: Sidecar) -> None:
    with app(sidecar) as client:
        submit(client, "email.leave", 1_400)
        with service(sidecar, "email.leave") as worker:
            worker.send(DEMAND, [["email.leave", 1]])
            [task] = take(worker)
            worker.send(OUTCOMES, 0, [[task[0], task[1], RETURNED, 0, None]])
            worker.send(GOODBYE, "stopping")
            assert worker.closed()
        with service(sidecar, "email.leave") as worker:
            worker.send(DEMAND, [["email.leave", 1]])
            [task] = take(worker)
            assert (task[2], task[4]) == (1, 2)
            worker.send(OUTCOMES, 0, [[task[0], task[1], SUCCESS, 1, None]])
            assert state_of(client, 1_400)[2] == SUCCEEDED


@pytest.mark.parametrize(
    ("attach", "code"),
    [
        ([2, 9, "", "x", [], []], "unsupported_version"),
        ([1, 1, "sms", "x", [], []], "not_owner"),
        ([1, 1, "email", "x", [["sms.send", {}]], [["sms.send", 1]]], "not_owner"),
        ([1, 1, "email", "x", [["email.a", {}]], [["email.a", 0]]], "invalid_option"),
        ([1, 1, "email", "x", [["email.a", {"retries": 1}]], [["email.a", 1]]], "invalid_option"),
        ([1, 1, "email", "x", [["email.a", {}]], []], "malformed"),
        ([1, 1, "email", "x", []], "malformed"),
    ],
)
def test_attach_that_cannot_be_taken_is_refused_and_the_connection_closed(
    sidecar: Sidecar, attach: list[Any], code: str
) -> None:
    with ForeignService(sidecar.socket_path) as connection:
        connection.send(ATTACH, *attach)
        assert connection.receive_only(REFUSED)[0] == code
        assert connection.closed()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\x00\x00\x01\xc1", "malformed"),
        (b"\x00\x00\x00\x00", "malformed"),
        (b"\x00\x00\x00\x02\x91\x24", "malformed"),  # INSPECT before ATTACH.
        (b"\x00\x00\x00\x02\x91\x7f", "unknown_message"),
        (b"\x00\x40\x00\x01", "limit_exceeded"),
        (b"\x00\x00\x13\x88" + b"\xdd\x00\x02\x49\xf0" * 1_000, "malformed"),
    ],
    ids=["garbage", "empty", "not-attached", "unknown", "too-long", "bomb"],
)
def test_hostile_bytes_are_refused_and_the_connection_closed(
    sidecar: Sidecar, data: bytes, code: str
) -> None:
    with ForeignService(sidecar.socket_path) as connection, app(sidecar) as other:
        connection.send_bytes(data)
        assert connection.receive_only(REFUSED)[0] == code
        assert connection.closed()
        other.send(INSPECT)
        other.receive_only(INSPECTED)


def test_connection_without_the_magic_is_closed(sidecar: Sidecar) -> None:
    with ForeignService(sidecar.socket_path, magic=b"\x00\x01\x02\x03") as connection:
        assert connection.rest().startswith(b"HTTP/1.1 400 ")
