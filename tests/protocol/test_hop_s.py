"""A sidecar written from the document works with the real coordinator."""

import os
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.protocol.peers import ForeignSidecar
from tests.support.builders import task_id
from tests.support.processes import Coordinator, System

HELLO, HANDLERS, DEMAND, HEARTBEAT = 1, 2, 3, 4
WELCOME, GRANT, RECORDED, BEAT = 16, 17, 18, 19
SUBMIT, ACCEPTED, OUTCOMES, QUERY, ANSWER, REVOKE = 48, 49, 50, 51, 52, 53
REFUSED, GOODBYE, PROGRESS, CANCEL = 54, 55, 56, 57
SUCCESS, RETRY, RETURNED = 0, 1, 4
LEASED, SUCCEEDED, CANCELLED = 2, 4, 6


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Coordinator]:
    with System() as system:
        yield system.coordinator()


@pytest.fixture
def sidecar(coordinator: Coordinator) -> Iterator[ForeignSidecar]:
    with ForeignSidecar(coordinator.address) as sidecar:
        yield sidecar


def hello(sidecar: ForeignSidecar, incarnation: bytes = b"", **changes: Any) -> list[Any]:
    """Open a session and return the WELCOME's fields."""
    sidecar.send(HELLO, *hello_fields(incarnation, **changes))
    return sidecar.receive_only(WELCOME)


def hello_fields(incarnation: bytes = b"", **changes: Any) -> list[Any]:
    fields = {
        "version_min": 1,
        "version_max": 1,
        "sidecar": "foreign-1",
        "incarnation": incarnation or os.urandom(16),
        "service": "email",
        "software": "other/1",
        "store": None,
        "epoch": 0,
        "session": 0,
        "held": [],
    }
    return list((fields | changes).values())


def submit(
    sidecar: ForeignSidecar, handler: str, *numbers: int, duplicates: tuple[int, ...] = ()
) -> None:
    tasks = msgpack.packb([[task_id(number), handler, b"{}"] for number in numbers])
    sidecar.send(SUBMIT, [[7, tasks, False]])
    assert sidecar.receive_only(ACCEPTED) == [[[7, None, "", 0, [], list(duplicates)]]]


def test_task_goes_from_submit_to_recorded_outcome(sidecar: ForeignSidecar) -> None:
    version, session, resumed, epoch, store, timeout_ms, lost, _ = hello(sidecar)
    assert (version, resumed, lost, len(store)) == (1, False, [], 16)
    assert session > 0
    assert epoch > 0
    assert timeout_ms >= 500

    submit(sidecar, "email.send", 100)
    sidecar.send(HANDLERS, [["email.send", {"attempts_max": 3}]])
    sidecar.send(DEMAND, [["email.send", 1]])
    granted_session, number, [[handler, [task]]] = sidecar.receive_only(GRANT)
    assert (granted_session, number, handler) == (session, 1, "email.send")
    assert task[0] == task_id(100)
    assert task[2:6] == [1, 3, 1, 60_000]
    assert task[9] == b"{}"

    sidecar.send(OUTCOMES, 1, [[task[0], task[1], SUCCESS, 1500, [None, b'"sent"']]])
    assert sidecar.receive_only(RECORDED) == [1, []]
    sidecar.send(QUERY, [[3, task_id(100), 1_000, -1]])
    [[[request, code, status]]] = sidecar.receive_only(ANSWER)
    assert (request, code, status[2]) == (3, None, SUCCEEDED)
    assert status[14] == [None, b'"sent"']


def test_heartbeat_is_answered_with_its_clock_and_the_last_grant(sidecar: ForeignSidecar) -> None:
    _, session, *_ = hello(sidecar)
    sidecar.send(HEARTBEAT, 123_456, [], [])
    assert sidecar.receive_only(BEAT) == [session, 123_456, 0]


def test_resumed_session_keeps_what_it_names_and_gives_back_the_rest(
    sidecar: ForeignSidecar, coordinator: Coordinator
) -> None:
    incarnation = os.urandom(16)
    first = hello(sidecar, incarnation)
    submit(sidecar, "resume.it", 200, 201)
    sidecar.send(HANDLERS, [["resume.it", {}]])
    sidecar.send(DEMAND, [["resume.it", 2]])
    _, _, [[_, tasks]] = sidecar.receive_only(GRANT)
    [kept, dropped] = [task[:2] for task in tasks]

    with ForeignSidecar(coordinator.address) as again:
        foreign = [task_id(999), 5]
        welcome = hello(again, incarnation, session=first[1], held=[kept, foreign])
        assert welcome[2] is True
        assert welcome[6] == [foreign]
        again.send(DEMAND, [["resume.it", 1]])
        session, number, [[_, [task]]] = again.receive_only(GRANT)
        assert (session, number) == (welcome[1], 1)
        assert task[0] == dropped[0]
        assert task[1] > dropped[1]
        assert task[2] == 1, "what was lost on the way is not charged"

        stale = [*dropped, SUCCESS, 1, None]
        live = [*kept, SUCCESS, 1, None]
        again.send(OUTCOMES, 9, [stale, live])
        assert again.receive_only(RECORDED) == [9, [[0, "stale_token"]]]


def test_outcome_sent_again_is_recorded_again(sidecar: ForeignSidecar) -> None:
    hello(sidecar, service="again")
    submit(sidecar, "again.it", 300)
    sidecar.send(HANDLERS, [["again.it", {}]])
    sidecar.send(DEMAND, [["again.it", 1]])
    _, _, [[_, [task]]] = sidecar.receive_only(GRANT)
    for _ in range(2):
        sidecar.send(OUTCOMES, 1, [[task[0], task[1], SUCCESS, 0, None]])
        assert sidecar.receive_only(RECORDED) == [1, []]


def test_submission_sent_again_is_accepted_and_another_task_with_its_id_is_not(
    sidecar: ForeignSidecar,
) -> None:
    hello(sidecar)
    submit(sidecar, "twice.it", 400)
    submit(sidecar, "twice.it", 400, duplicates=(0,))
    sidecar.send(SUBMIT, [[8, msgpack.packb([[task_id(400), "twice.it", b"other"]]), False]])
    [[[request, code, _, _, [[place, rejection, _]], _]]] = sidecar.receive_only(ACCEPTED)
    assert (request, code, place, rejection) == (8, None, 0, "duplicate_id")


def test_checkpoint_goes_to_the_next_attempt(sidecar: ForeignSidecar) -> None:
    hello(sidecar, service="steps")
    submit(sidecar, "steps.do", 600)
    sidecar.send(HANDLERS, [["steps.do", {"backoff_ms_min": 0, "backoff_ms_max": 0}]])
    sidecar.send(DEMAND, [["steps.do", 2]])
    _, _, [[_, [task]]] = sidecar.receive_only(GRANT)
    assert task[10] is None
    sidecar.send(PROGRESS, [[task[0], task[1], 500, "half of them", b"page 7"]])
    sidecar.send(QUERY, [[3, task_id(600), 0, -1]])
    [[[_, _, status]]] = sidecar.receive_only(ANSWER)
    assert status[17:20] == [500, "half of them", b"page 7"]

    sidecar.send(OUTCOMES, 1, [[task[0], task[1], RETRY, 1500, ["E", "", "", None]]])
    assert sidecar.receive_only(RECORDED) == [1, []]
    _, _, [[_, [task]]] = sidecar.receive_only(GRANT)
    assert task[10] == {"last_error": "E", "checkpoint": b"page 7"}


def test_cancelled_task_ends_when_its_attempt_has_stopped(sidecar: ForeignSidecar) -> None:
    hello(sidecar, service="stop")
    submit(sidecar, "stop.it", 700)
    sidecar.send(HANDLERS, [["stop.it", {}]])
    sidecar.send(DEMAND, [["stop.it", 1]])
    _, _, [[_, [task]]] = sidecar.receive_only(GRANT)
    sidecar.send(CANCEL, [[4, task_id(700), "not wanted"], [5, task_id(998), ""]])
    assert sidecar.receive_only(REVOKE) == [[[task[0], task[1], "cancelled"]]]
    [[[_, _, status]]] = sidecar.receive_only(ANSWER)
    assert (status[2], status[20]) == (LEASED, True)
    assert sidecar.receive_only(ANSWER) == [[[5, "unknown_task", None]]]

    sidecar.send(OUTCOMES, 1, [[task[0], task[1], RETRY, 1500, ["Cancelled", "", "", None]]])
    assert sidecar.receive_only(RECORDED) == [1, []]
    sidecar.send(QUERY, [[6, task_id(700), 0, -1]])
    [[[_, _, status]]] = sidecar.receive_only(ANSWER)
    assert (status[2], status[15], status[20]) == (CANCELLED, "cancelled: not wanted", False)


def test_question_that_knows_a_revision_is_answered_when_it_has_changed(
    sidecar: ForeignSidecar,
) -> None:
    hello(sidecar, service="watch")
    submit(sidecar, "watch.it", 800)
    sidecar.send(QUERY, [[1, task_id(800), 0, -1]])
    [[[_, _, status]]] = sidecar.receive_only(ANSWER)
    sidecar.send(QUERY, [[2, task_id(800), 60_000, status[21]]])
    sidecar.send(HANDLERS, [["watch.it", {}]])
    sidecar.send(DEMAND, [["watch.it", 1]])
    answers = {sidecar.receive()[0] for _ in range(2)}
    assert answers == {GRANT, ANSWER}


def test_goodbye_gives_everything_back(sidecar: ForeignSidecar, coordinator: Coordinator) -> None:
    hello(sidecar)
    submit(sidecar, "bye.it", 500)
    sidecar.send(HANDLERS, [["bye.it", {}]])
    sidecar.send(DEMAND, [["bye.it", 1]])
    sidecar.receive_only(GRANT)
    sidecar.send(GOODBYE, "stopping")
    with ForeignSidecar(coordinator.address) as other:
        hello(other)
        other.send(HANDLERS, [["bye.it", {}]])
        other.send(DEMAND, [["bye.it", 1]])
        _, _, [[_, [task]]] = other.receive_only(GRANT)
        assert (task[0], task[2], task[4]) == (task_id(500), 1, 2)


def test_message_without_a_session_is_refused(sidecar: ForeignSidecar) -> None:
    sidecar.send(HEARTBEAT, 1, [], [])
    assert sidecar.receive_only(REFUSED)[0] == "unknown_session"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version_min": 2, "version_max": 9}, "unsupported_version"),
        ({"store": bytes(16)}, "wrong_store"),
        ({"service": "Email"}, "malformed"),
        ({"incarnation": b"short"}, "malformed"),
    ],
)
def test_hello_that_cannot_be_taken_is_refused(
    sidecar: ForeignSidecar, changes: dict[str, Any], code: str
) -> None:
    sidecar.send(HELLO, *hello_fields(**changes))
    assert sidecar.receive_only(REFUSED)[0] == code
    assert hello(sidecar)[0] == 1, "the connection is still of use"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\xc1"], "malformed"),
        ([b""], "malformed"),
        ([b"\xdd\x00\x02\x49\xf0" * 1_000], "malformed"),
        ([b"\x91\x7f"], "unknown_message"),
        ([b"\x91\x24"], "unknown_message"),
        ([b"\x94\x13\x01", b"\x01\x01"], "malformed"),
        ([b"\x91\x24"] * 50, "malformed"),
    ],
    ids=["garbage", "empty", "bomb", "unknown", "other-hop", "two-frames", "many-frames"],
)
def test_hostile_bytes_are_refused_and_harm_nothing(
    sidecar: ForeignSidecar, frames: list[bytes], code: str
) -> None:
    _, session, *_ = hello(sidecar)
    sidecar.send_bytes(*frames)
    assert sidecar.receive_only(REFUSED)[0] == code
    sidecar.send(HEARTBEAT, 5, [], [])
    assert sidecar.receive_only(BEAT) == [session, 5, 0]
