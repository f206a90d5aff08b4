"""Submitting, asking and cancelling over HTTP: what the core is told, and what the client is."""

from typing import Any

import pytest

from protocol.errors import CODES, Code
from protocol.ids import is_id, keyed_id, to_text
from protocol.limits import CONTENT_TYPE_CHARS_MAX
from protocol.messages import Cancel, Query, Rejection, Result, State, Submit
from tests.sidecar.http.wire import Wire
from tests.support.builders import a_status, task_id

URL = "/v1/tasks/email.send"
ID = to_text(task_id())
BODY = b'{"to": "a@b.c"}'


def submitted(wire: Wire, target: str, body: bytes, **headers: str) -> list[Any]:
    """Submit, and return the one task as it travels."""
    wire.request("POST", target, body, **headers)
    [task] = wire.batch()
    assert isinstance(task, list)
    return task


def test_payload_travels_byte_for_byte(wire: Wire) -> None:
    task = submitted(wire, URL, BODY)

    assert is_id(task[0])
    assert task[1:] == ["email.send", BODY]
    assert wire.last(Submit).batches[0].spool


def test_task_that_was_taken_is_accepted_with_its_address(wire: Wire) -> None:
    task = submitted(wire, URL, BODY)
    assert wire.responses() == []  # Not before it is durable.
    wire.verdict()

    response = wire.response()
    assert response.status == 202
    assert response.headers["location"] == f"/v1/tasks/{to_text(task[0])}"
    assert response.headers["task-durability"] == "accepted"
    made = response.json
    assert (made["id"], made["handler"]) == (to_text(task[0]), "email.send")
    assert (made["state"], made["durability"]) == ("ready", "accepted")
    assert made["run_at"].endswith("Z")


def test_options_come_by_query_and_by_header(wire: Wire) -> None:
    target = f"{URL}?delay=10m&priority=low&collection=c1&timeout=5s&attempts=3&backoff=exp(1s,5m)"
    task = submitted(wire, target, BODY, Task_Meta_Tenant="acme", Idempotency_Key="k")
    wire.verdict()

    assert task[0] == keyed_id("email.send", "k")
    assert task[4] == {
        "delay_ms": 600_000,
        "priority": 3,
        "collection": "c1",
        "timeout_ms": 5_000,
        "attempts_max": 3,
        "backoff_ms_min": 1_000,
        "backoff_ms_max": 300_000,
        "key": "k",
        "meta": {"tenant": "acme"},
    }
    assert wire.response().json["state"] == "scheduled"


@pytest.mark.parametrize(
    ("given", "body", "kind"),
    [
        ("application/json", BODY, None),
        ("application/x-www-form-urlencoded", BODY, None),
        ("application/x-www-form-urlencoded", b"to=a", "application/x-www-form-urlencoded"),
        ("text/plain; charset=utf-8", BODY, "text/plain; charset=utf-8"),
    ],
    ids=["json", "curl -d with json", "a form", "text"],
)
def test_content_type_is_kept_but_for_what_curl_says(
    wire: Wire, given: str, body: bytes, kind: str | None
) -> None:
    task = submitted(wire, URL, body, Content_Type=given)
    assert task[3:] == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    ("target", "headers", "code"),
    [
        ("/v1/tasks/E.Mail", {}, "invalid_handler"),
        ("/v1/tasks/" + "a" * 65, {}, "invalid_handler"),
        (f"{URL}?dealy=1s", {}, "unknown_option"),
        (f"{URL}?delay=1", {}, "invalid_option"),
        (f"{URL}?delay=9999d", {}, "due_out_of_range"),
        (f"{URL}?at=2030-01-01T00:00:00Z&delay=1s", {}, "invalid_option"),
        (f"{URL}?attempts=0", {}, "invalid_option"),
        (f"{URL}?collection=A", {}, "invalid_option"),
        (f"{URL}?key=", {}, "invalid_option"),
        (f"{URL}?key=a", {"Idempotency_Key": "b"}, "invalid_option"),
        (URL, {"Task_Durability": "eternal"}, "invalid_option"),
        (URL, {"Task_Meta_A": "x" * 257}, "invalid_option"),
        (URL, {"Content_Type": "x" * (CONTENT_TYPE_CHARS_MAX + 1)}, "invalid_option"),
    ],
)
def test_what_is_wrong_is_told_at_once_and_nothing_is_submitted(
    wire: Wire, target: str, headers: dict[str, str], code: str
) -> None:
    wire.request("POST", target, BODY, **headers)

    response = wire.response()
    assert (response.status, response.json["code"]) == (400, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json["detail"]
    assert not wire.all(Submit)


def test_app_may_insist_that_the_coordinator_has_it(wire: Wire) -> None:
    submitted(wire, URL, BODY, Task_Durability="accepted")
    assert not wire.last(Submit).batches[0].spool


def test_task_in_the_spool_says_so_and_is_not_waited_for(wire: Wire) -> None:
    submitted(wire, URL, BODY, Prefer="wait=10")
    wire.verdict(code=Code.SPOOLED)

    response = wire.response()
    assert (response.status, response.headers["task-durability"]) == (202, "spooled")
    assert response.json["durability"] == "spooled"
    assert not wire.all(Query)


def test_task_that_was_there_already_is_told_as_a_duplicate(wire: Wire) -> None:
    submitted(wire, URL, BODY, Idempotency_Key="k")
    wire.verdict(duplicates=[0])

    response = wire.response()
    assert (response.status, response.headers["task-duplicate"]) == (200, "true")
    assert response.json["id"] == to_text(keyed_id("email.send", "k"))


def test_key_of_another_task_is_a_conflict(wire: Wire) -> None:
    submitted(wire, URL, BODY, Idempotency_Key="k")
    wire.verdict(rejections=[Rejection(0, Code.DUPLICATE_ID, "another task has this id")])
    assert wire.response().status == 422


@pytest.mark.parametrize(
    ("code", "retry_ms", "status", "retry_after"),
    [
        (Code.BUSY, 200, 429, "1"),
        (Code.BUSY, 1_500, 429, "2"),
        (Code.STORE_FULL, 5_000, 503, "5"),
        (Code.UNAVAILABLE, 0, 503, "1"),
        (Code.BATCH_TOO_LARGE, 0, 413, None),
    ],
)
def test_what_cannot_be_taken_now_says_when_to_come_again(
    wire: Wire, code: str, retry_ms: int, status: int, retry_after: str | None
) -> None:
    submitted(wire, URL, BODY)
    wire.verdict(code=code, retry_after_ms=retry_ms)

    response = wire.response()
    assert response.status == status
    assert response.headers.get("retry-after") == retry_after
    assert response.json["type"] == f"urn:pillion:problem:{code}"
    assert response.json["hint"]


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_status_of_an_error(wire: Wire, code: str) -> None:
    wire.request("GET", f"/v1/tasks/{ID}")
    wire.reply(code=code)
    assert 400 <= wire.response().status < 600


def test_client_that_prefers_to_wait_gets_the_result(wire: Wire) -> None:
    task = submitted(wire, URL, BODY, Prefer="respond-async, wait=10")
    wire.verdict()
    [question] = wire.last(Query).questions
    assert (question.id, question.wait_ms, question.revision) == (task[0], 10_000, -1)
    wire.reply(a_status(state=State.SUCCEEDED, result=Result(None, b"[1]")))

    response = wire.response()
    assert (response.status, response.json["result"]) == (200, [1])
    assert response.headers["preference-applied"] == "wait=10"


def test_client_that_has_waited_in_vain_knows_where_to_ask(wire: Wire) -> None:
    submitted(wire, URL, BODY, Prefer="wait=1")
    wire.verdict()
    wire.reply(a_status(state=State.RUNNING))

    response = wire.response()
    assert (response.status, response.json["state"]) == (202, "ready")
    assert response.headers["location"]


def test_preference_that_is_none_is_not_served(wire: Wire) -> None:
    submitted(wire, URL, BODY, Prefer="wait=soon")
    wire.verdict()
    assert "preference-applied" not in wire.response().headers


def test_status_is_asked_for_at_once_or_with_a_wait(wire: Wire) -> None:
    wire.request("GET", f"/v1/tasks/{ID}?wait=30")
    [question] = wire.last(Query).questions
    wire.reply(a_status(state=State.READY))

    assert (question.id, question.wait_ms) == (task_id(), 30_000)
    response = wire.response()
    assert (response.status, response.json["state"]) == (200, "ready")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (f"/v1/tasks/{ID}?wait=never", "invalid_option"),
        (f"/v1/tasks/{ID}?wiat=3", "unknown_option"),
        ("/v1/tasks/email.send", "invalid_id"),
    ],
)
def test_wrong_question_is_told_so(wire: Wire, target: str, code: str) -> None:
    wire.request("GET", target)
    assert (wire.response().json["code"], wire.all(Query)) == (code, [])


def test_unknown_task_is_not_found(wire: Wire) -> None:
    wire.request("GET", f"/v1/tasks/{ID}")
    wire.reply(code=Code.UNKNOWN_TASK)
    response = wire.response()
    assert response.status == 404
    assert "it never existed, or it has ended" in response.json["detail"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": State.CANCELLED}, 200),
        ({"state": State.RUNNING, "cancelling": True}, 202),
        ({"state": State.SUCCEEDED}, 200),
    ],
)
def test_cancelling_tells_whether_it_has_stopped(
    wire: Wire, changes: dict[str, Any], status: int
) -> None:
    wire.request("DELETE", f"/v1/tasks/{ID}?reason=no%20need")
    [asked] = wire.last(Cancel).requests
    wire.reply(a_status(**changes))

    assert (asked.id, asked.reason) == (task_id(), "no need")
    assert wire.response().status == status


def test_long_reason_is_refused(wire: Wire) -> None:
    wire.request("DELETE", f"/v1/tasks/{ID}?reason={'x' * 257}")
    assert wire.response().status == 400
