"""A task submitted over HTTP is a task: run, told, kept while the coordinator is away."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.sidecar.http import unix
from tests.support.processes import Coordinator, Sidecar, System

TASKS = f"{unix.BASE_URL}/v1/tasks"
SERVICE = """
from sidecar import Fatal, Service, current

service = Service("email")

@service.handler()
def send(to: str) -> dict[str, object]:
    if to == "nobody":
        raise Fatal("no such address")
    return {"sent": to, "attempt": current().attempt}

service.run()
"""


class Stage:
    """A coordinator, a sidecar, and a session of requests with it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.coordinator: Coordinator = system.coordinator()
        self.sidecar: Sidecar = system.sidecar("email", self.coordinator)
        self.session: requests.Session = unix.session(self.sidecar.socket_path)
        self.wait_ready(200)

    def wait_ready(self, status: int) -> None:
        """Wait until readyz answers so."""
        self.sidecar.wait_until(
            lambda: self.session.get(f"{unix.BASE_URL}/readyz").status_code == status,
            f"says {status} on /readyz",
        )

    def serve(self) -> None:
        """Start the service."""
        self.system.service("mailer", self.sidecar, SERVICE)

    def submit(self, to: str, **headers: str) -> requests.Response:
        """Submit one task."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.post(f"{TASKS}/email.send", json={"to": to}, headers=named)


@pytest.fixture
def stage(system: System) -> Iterator[Stage]:
    made = Stage(system)
    with made.session:
        yield made


def test_client_that_waits_gets_what_the_handler_returned(stage: Stage) -> None:
    stage.serve()

    response = stage.submit("a@b.c", Prefer="wait=10")

    assert (response.status_code, response.json()["state"]) == (200, "succeeded")
    assert response.json()["result"] == {"sent": "a@b.c", "attempt": 1}
    again = stage.session.get(unix.BASE_URL + response.headers["Location"]).json()
    assert again["result"] == response.json()["result"]


def test_task_that_failed_tells_why(stage: Stage) -> None:
    stage.serve()

    made = stage.submit("nobody", Prefer="wait=10").json()

    assert made["state"] == "dead"
    [attempt] = made["history"]
    assert (attempt["outcome"], attempt["message"]) == ("fatal", "no such address")


def test_task_is_followed_from_its_submission_to_its_end(stage: Stage) -> None:
    made = stage.submit("a@b.c").json()
    with stage.session.get(f"{TASKS}/{made['id']}/events", stream=True) as response:
        events = documents(response)
        assert next(events)["state"] == "ready"
        stage.serve()
        states = [event["state"] for event in events]

    assert states[-1] == "succeeded"
    assert response.headers["Content-Type"] == "text/event-stream"


def documents(response: requests.Response) -> Iterator[Any]:
    """Give the document of each event."""
    for line in response.iter_lines():
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


def test_batch_runs_but_for_its_bad_lines(stage: Stage) -> None:
    stage.serve()
    lines = [
        {"handler": "email.send", "payload": {"to": "1"}},
        {"handler": "E"},
        {"handler": "email.send", "payload": {"to": "2"}},
    ]
    body = "\n".join(json.dumps(line) for line in lines)

    response = stage.session.post(TASKS, data=body)
    first, bad, second = (json.loads(line) for line in response.text.splitlines())

    assert (response.status_code, bad["line"], bad["code"]) == (200, 2, "invalid_handler")
    for made, to in ((first, "1"), (second, "2")):
        status = stage.session.get(f"{TASKS}/{made['id']}?wait=10").json()
        assert status["result"]["sent"] == to


def test_submitting_goes_on_while_the_coordinator_is_away(stage: Stage) -> None:
    stage.serve()
    stage.coordinator.kill()
    stage.wait_ready(503)

    response = stage.submit("a@b.c")

    assert (response.status_code, response.headers["Task-Durability"]) == (202, "spooled")
    stage.coordinator.start()
    status = stage.session.get(f"{unix.BASE_URL}{response.headers['Location']}?wait=10").json()
    assert status["state"] == "succeeded"


@pytest.mark.timeout(90)
def test_app_that_insists_on_the_coordinator_is_told_that_it_is_away(stage: Stage) -> None:
    stage.coordinator.kill()
    stage.wait_ready(503)

    response = stage.submit("a@b.c", Task_Durability="accepted", Idempotency_Key="k")

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "1"


def test_key_makes_one_task_of_many_requests(stage: Stage) -> None:
    first = stage.submit("a@b.c", Idempotency_Key="k")
    again = stage.submit("a@b.c", Idempotency_Key="k")
    other = stage.submit("x@y.z", Idempotency_Key="k")

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert again.headers["Task-Duplicate"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert other.json()["code"] == "duplicate_id"


def test_waiting_task_is_cancelled_at_once(stage: Stage) -> None:
    url = unix.BASE_URL + stage.submit("a@b.c").headers["Location"]

    response = stage.session.delete(f"{url}?reason=no%20need")

    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert "no need" in response.json()["error"]
    assert stage.session.delete(url).json()["state"] == "cancelled"
    assert stage.session.get(f"{url}?wait=10").json()["state"] == "cancelled"


def test_unknown_task_is_not_found(stage: Stage) -> None:
    url = f"{TASKS}/018f2b4c-5a3e-7c10-8a44-2f1f0a9b3c5d"
    answers = [
        stage.session.get(url),
        stage.session.delete(url),
        stage.session.get(f"{url}/events"),
    ]
    assert [response.status_code for response in answers] == [404, 404, 404]
