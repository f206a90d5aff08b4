"""Gates, policies and the audit as real processes: a coordinator, a sidecar, a service, an app."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar import Client, TaskDropped
from tests.scenarios.stage import wait_for_services
from tests.support import commands
from tests.support.commands import Done
from tests.support.processes import Coordinator, System

SERVICE = """
from sidecar import Service

service = Service("mail")

@service.handler()
async def send(to: str) -> str:
    return f"sent to {to}"

service.run()
"""
USAGE, NOT_FOUND = 2, 3
SECONDS = 30.0


class Stage:
    """What runs."""

    def __init__(self, coordinator: Coordinator, client: Client) -> None:
        self.coordinator = coordinator
        self.client = client

    def ask(self, *arguments: str) -> Done:
        place = ("--data-dir", self.coordinator.data_folder)
        return commands.run("coordinator", *arguments, *place)

    def told(self, *arguments: str) -> Any:
        done = self.ask(*arguments, "-o", "json")
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("mail", coordinator)
        system.service("mail", sidecar, SERVICE)
        with Client(sidecar.socket_path) as client:
            wait_for_services(sidecar, client)
            yield Stage(coordinator, client)


def test_gate_holds_over_a_restart_and_lets_all_go(stage: Stage) -> None:
    done = stage.ask("pause", "mail.send", "--as", "ada", "--reason", "a trial")
    assert (done.code, done.err) == (0, "")
    assert done.out == "pause is set: hold mail.send (0 ready tasks now)\n"
    tasks = [stage.client.submit("mail.send", {"to": f"{n}@b.c"}) for n in range(20)]
    stage.coordinator.kill()
    stage.coordinator.start()
    with pytest.raises(TimeoutError):
        stage.client.wait(tasks[0].id, timeout=1.0)

    [row] = stage.told("gates")
    assert (row["scope"], row["owner"], row["held"]) == ("mail.send", "ada", 20)
    trace = stage.ask("trace", tasks[0].id).out
    assert "waits for a gate to be lifted: pause of mail.send by ada (a trial)" in trace
    assert "warning: gates hold tasks: mail.send" in stage.ask("status").out

    assert stage.ask("resume", "mail.send").code == 0
    for number, task in enumerate(tasks):
        assert stage.client.wait(task.id, timeout=SECONDS) == f"sent to {number}@b.c"
    assert stage.told("gates") == []


def test_collection_that_is_dropped_is_told_to_its_app_and_spares_the_others(stage: Stage) -> None:
    assert stage.ask("pause", "mail.send/red").code == 0
    held = [stage.client.submit("mail.send", {"to": "a"}, collection="red") for _ in range(3)]
    assert stage.client.wait(stage.client.submit("mail.send", {"to": "b"}).id, timeout=SECONDS)

    asked = stage.ask("drop", "mail.send/red")
    assert (asked.code, asked.out) == (USAGE, "")
    assert "this will end mail.send/red (3 ready tasks now)" in asked.err
    assert "say --yes, or try --dry-run" in asked.err
    tried = stage.ask("drop", "mail.send/red", "--dry-run")
    assert tried.out == "would end mail.send/red (3 ready tasks now)\n"
    assert [row["kind"] for row in stage.told("gates")] == ["pause"]

    assert stage.ask("drop", "mail.send/red", "--yes", "--reason", "wrong list").code == 0
    for task in held:
        with pytest.raises(TaskDropped, match="wrong list"):
            stage.client.wait(task.id, timeout=SECONDS)


def test_gate_on_what_nobody_has_named_is_set_and_that_is_said(stage: Stage) -> None:
    done = stage.ask("pause", "mail")
    assert (done.code, done.out) == (0, "pause is set: hold mail (0 ready tasks now)\n")
    assert "nothing is held yet: no task of 'mail' was submitted" in done.err
    assert done.err.endswith("; there are mail.send\n")


def test_gate_ends_by_itself_at_its_time(stage: Stage) -> None:
    assert stage.ask("pause", "--all", "--until", "2s").code == 0
    task = stage.client.submit("mail.send", {"to": "a"})
    assert stage.client.wait(task.id, timeout=SECONDS) == "sent to a"
    assert [row["action"] for row in stage.told("audit")] == ["gate.end", "gate.pause"]


def test_policy_is_tried_before_it_is_changed(stage: Stage) -> None:
    done = stage.ask(
        *("policy", "set", "mail.send", "timeout_ms=30s", "--dry-run", "--as", "ada", "-o", "json")
    )
    assert done.code == 0, done.err
    assert "nothing was changed" in done.err
    [row] = [row for row in json.loads(done.out) if row["owner"]]
    assert (row["field"], row["effective"], row["declared"]) == ("timeout_ms", 30_000, 60_000)
    assert not [row for row in stage.told("policy", "show", "mail.send") if row["owner"]]
    assert stage.told("audit") == []


def test_policy_is_changed_shown_and_reverted(stage: Stage) -> None:
    done = stage.ask("policy", "set", "mail.send", "concurrency=5", "--as", "ada")
    assert done.code == 0, done.err
    [row] = [row for row in stage.told("policy", "show", "mail.send") if row["owner"]]
    assert (row["field"], row["effective"], row["declared"]) == ("concurrency", 5, 0)
    assert stage.ask("policy", "revert", "mail.send", "concurrency").code == 0
    table = stage.ask("audit").out
    assert "concurrency 0→5" in table
    assert "concurrency 5→0" in table


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pause"], USAGE, "name a handler, a HANDLER/COLLECTION, or say --all"),
        (["pause", "a.b", "--all"], USAGE, "or say --all"),
        (["pause", "a.b", "--until", "tomorrow"], USAGE, "'tomorrow' is no time"),
        (["pause", "a.b", "--until", "2001-01-01"], USAGE, "no time to come"),
        (["pause", "A B"], USAGE, "a name of [a-z0-9._-]"),
        (["resume", "a.b"], NOT_FOUND, "there is no gate on a.b"),
        (["policy", "set", "a.b", "x"], USAGE, "expected FIELD=NUMBER"),
        (["policy", "set", "a.b", "timeout_ms=soon"], USAGE, "timeout_ms: "),
        (["policy", "set", "a.b", "attempts_max=1"], NOT_FOUND, "no task of 'a.b'"),
        (["policy", "revert", "mail.send", "foo"], USAGE, "policy has no field 'foo'"),
        (["policy", "revert", "mail.send"], NOT_FOUND, "no operator has changed"),
    ],
)
def test_what_cannot_be_done_is_told(
    one_stage: Stage, arguments: list[str], code: int, said: str
) -> None:
    done = one_stage.ask(*arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


@pytest.fixture(scope="module")
def one_stage() -> Iterator[Stage]:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("mail", coordinator)
        system.service("mail", sidecar, SERVICE)
        with Client(sidecar.socket_path) as client:
            wait_for_services(sidecar, client)
            yield Stage(coordinator, client)
