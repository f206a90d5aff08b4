"""Commands that change tasks, as real processes, also while the coordinator is killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.commands.api import Api, Place
from protocol.ids import TaskIds, to_text
from protocol.messages import State
from tests.support import commands
from tests.support.commands import Done
from tests.support.filled_store import count_of, fill
from tests.support.process import ROOT
from tests.support.processes import Coordinator, System

TASKS = 20_000
DEAD = count_of(State.DEAD, TASKS)
USAGE, NOT_FOUND, CONFLICT = 2, 3, 4
SECONDS = 60.0


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    """Return a coordinator of which a tenth of the tasks are dead."""
    with System() as system:
        made = system.coordinator(start=False)
        asyncio.run(fill(made.data_folder, TASKS, time.time_ns() // 1_000_000))
        made.start()
        yield made


def _command(coordinator: Coordinator, *arguments: str) -> list[str]:
    place = ("--data-dir", str(coordinator.data_folder))
    return [sys.executable, "-m", "coordinator", *arguments, *place]


def run(coordinator: Coordinator, *arguments: str) -> Done:
    place = ("--data-dir", coordinator.data_folder)
    return commands.run("coordinator", *arguments, *place, environment=os.environ | {"USER": "ada"})


def ids(coordinator: Coordinator, *terms: str, limit: int = 1) -> list[str]:
    return run(coordinator, "tasks", *terms, "--limit", str(limit), "-o", "id").out.split()


def api_of(coordinator: Coordinator) -> Api:
    return Api(Place(coordinator.http_socket, "", 0, ""))


def until_ended(api: Api, number: int) -> dict[str, Any]:
    while (row := api.get(f"/v1/operations/{number}"))["state"] == "running":
        pass
    ended: dict[str, Any] = row
    return ended


def test_single_tasks_are_changed_and_what_cannot_be_is_told(coordinator: Coordinator) -> None:
    [ready] = ids(coordinator, "state=ready")
    [dead] = ids(coordinator, "state=dead")

    tried = run(coordinator, "cancel", ready, "--dry-run")
    assert (tried.code, tried.out.split()[:2]) == (0, ["would", "cancel"])
    moved = run(coordinator, "reschedule", ready, "--in", "1h")
    assert f"rescheduled {ready} of image.h" in moved.out
    done = run(coordinator, "cancel", ready, "--reason", "not wanted")
    assert (done.code, done.out.split()[:2]) == (0, ["cancelled", ready])
    [row] = run(coordinator, "tasks", f"id={ready}", "-o", "ndjson").rows
    assert row["error"] == "cancelled: by ada (not wanted)"

    again = run(coordinator, "cancel", ready)
    assert (again.code, again.out) == (CONFLICT, "")
    assert "it has ended already, as cancelled" in again.err
    unknown = run(coordinator, "cancel", to_text(TaskIds().new()))
    assert unknown.code == NOT_FOUND
    assert "it was never accepted here" in unknown.err

    garbled = run(coordinator, "dead", "requeue", dead, "nonsense")
    assert (garbled.code, garbled.out) == (USAGE, "")  # Nothing was done to the other.
    assert "'nonsense' is not a task id" in garbled.err
    requeued = run(coordinator, "dead", "requeue", dead, ready)
    assert requeued.code == CONFLICT  # One of them was not dead; the other is done.
    assert "attempts and crashes count from 0 again" in requeued.out
    assert "requeued by ada; it was dead: TimeoutError" in run(coordinator, "trace", dead).out
    assert run(coordinator, "dead", "purge", dead).code == CONFLICT
    actions = [row["action"] for row in run(coordinator, "audit", "-o", "ndjson").rows]
    assert actions == ["task.requeue", "task.cancel", "task.reschedule"]


def test_many_tasks_are_changed_only_after_somebody_has_agreed(coordinator: Coordinator) -> None:
    wanted = ("-f", "handler=image.h00")
    count = DEAD // 20

    tried = run(coordinator, "dead", "purge", *wanted, "--dry-run")
    assert tried.out.startswith(f"would purge {count} tasks\n")
    unasked = run(coordinator, "dead", "purge", *wanted)
    assert unasked.code == USAGE
    assert f"this will purge {count} tasks, such as" in unasked.err
    assert "say --yes" in unasked.err
    assert run(coordinator, "operations", "list", "-o", "ndjson").rows == []

    done = run(coordinator, "dead", "purge", *wanted, "--yes")

    assert (done.code, done.out) == (0, f"operation 1 is done: {count} purged\n")
    assert f"number 1, tasks {count}" in run(coordinator, "audit").out
    nobody = run(coordinator, "dead", "purge", *wanted, "--yes")
    assert (nobody.code, nobody.out) == (0, "")
    assert "no task is meant" in nobody.err
    [row] = run(coordinator, "operations", "list", "-o", "ndjson").rows
    assert (row["state"], row["changed"], row["owner"]) == ("done", count, "ada")


def test_dead_letters_are_listed_in_groups(coordinator: Coordinator) -> None:
    rows = run(coordinator, "dead", "list", "-o", "ndjson").rows
    assert len(rows) == 20
    assert sum(row["count"] for row in rows) == DEAD
    assert {row["error_type"] for row in rows} == {"TimeoutError"}
    [row] = run(coordinator, "dead", "list", "mail.h01", "-o", "ndjson").rows
    assert len(ids(coordinator, row["filter"], limit=0)) == row["count"]
    assert run(coordinator, "dead", "list", 'a"b').code == USAGE


def test_operation_goes_on_without_its_command_and_can_be_stopped(
    coordinator: Coordinator,
) -> None:
    following = subprocess.Popen(
        _command(coordinator, *("dead", "requeue", "-f", "state=dead", "--rate", "20", "--yes")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    api = api_of(coordinator)
    assert following.stderr is not None
    while following.stderr.readline() != "operation 1 has begun\n":
        pass
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=SECONDS)
    assert (following.returncode, out) == (130, "")
    assert "operation 1 goes on; follow it with pillion-coordinator operations show 1" in err
    assert api.get("/v1/operations/1")["state"] == "running"

    stopped = run(coordinator, "operations", "stop", "1", "-o", "ndjson").rows

    assert [row["state"] for row in stopped] == ["stopped"]
    assert 0 <= stopped[0]["changed"] < DEAD
    again = run(coordinator, "operations", "stop", "1")
    assert (again.code, "stopped already" in again.err) == (CONFLICT, True)
    assert run(coordinator, "operations", "show", "9").code == NOT_FOUND


@pytest.mark.timeout(180)
def test_killed_coordinator_goes_on_and_changes_no_task_twice(coordinator: Coordinator) -> None:
    dead = ids(coordinator, "state=dead", limit=0)
    begun = run(
        coordinator,
        *("dead", "requeue", "-f", "state=dead", "--rate", "500", "--yes", "--detach"),
        *("-o", "ndjson"),
    )
    [row] = begun.rows
    api = api_of(coordinator)
    for kill in range(1, 4):
        while api.get("/v1/operations/1")["changed"] < kill * DEAD // 5:
            pass
        coordinator.end_expected = True
        coordinator.kill()
        coordinator.start()
    row = until_ended(api, 1)

    assert (row["state"], row["changed"], row["skipped"]) == ("done", DEAD, 0)
    assert row["resumed"] == 3
    assert api.get("/v1/status")["tasks"]["dead"] == 0
    for task_id in dead:
        history = api.get(f"/v1/tasks/{task_id}")["history"]
        assert [entry["error_type"] for entry in history] == ["TimeoutError", "requeued"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cancel"], "name tasks by their id, or say which with -f FILTER"),
        (["cancel", "17"], "is not a task id"),
        (["cancel", "17", "-f", "state=dead"], "name tasks by their id, or say which"),
        (["cancel", "-f", ""], "handler=* means all"),
        (["cancel", "-f", "state=ded"], "did you mean 'dead'?"),
        (["cancel", "-f", "state=ready", "--rate", "0"], "--rate"),
        (["backup", "saved.mdb", "--rate", "0"], "less than 1MiB"),
        (["reschedule", "17", "--in", "soon"], "--in: 'soon' is no time"),
        (["reschedule", "17", "--in", "1h", "--at", "2030-01-01"], "not both"),
        (["reschedule", "17", "--at", "1h"], "--at takes a time in UTC"),
        (["operations", "show", "x"], "'x' is no number of an operation"),
    ],
)
def test_wrong_usage_is_told(small: Coordinator, arguments: list[str], said: str) -> None:
    done = run(small, *arguments)
    assert (done.code, done.out) == (USAGE, "")
    assert said in done.err


@pytest.fixture(scope="module")
def small() -> Iterator[Coordinator]:
    with System() as system:
        yield system.coordinator()
