"""The API and the commands, as real processes, with a million tasks in the store.

``PILLION_TEST_TASKS=200000`` makes it fewer; nothing here looks at a clock, which is what
``python -m benchmarks operating`` is for.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.commands.api import Api, Place
from coordinator.core.layout import ROW_ENTRIES_MAX
from coordinator.core.listing import CHUNK, ROWS, SCANNED_MAX
from protocol.messages import State
from tests.support import commands
from tests.support.commands import Done
from tests.support.filled_store import HANDLERS, count_of, fill, handler_name
from tests.support.process import ROOT
from tests.support.processes import Coordinator, System
from tests.support.terminal import Terminal

TASKS = int(os.environ.get("PILLION_TEST_TASKS", "1000000"))
SECONDS = 600


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Coordinator]:
    with System() as system:
        made = system.coordinator(start=False)
        asyncio.run(fill(made.data_folder, TASKS, time.time_ns() // 1_000_000))
        made.start()
        yield made


@pytest.fixture
def api(coordinator: Coordinator) -> Api:
    return Api(Place(coordinator.http_socket, "", 0, ""))


def pages(api: Api, text: str) -> Iterator[dict[str, Any]]:
    query = {"filter": text, "limit": "1000"}
    while True:
        page = api.get("/v1/tasks", query)
        yield page
        if page["cursor"] is None:
            return
        query["cursor"] = page["cursor"]


@pytest.mark.timeout(SECONDS)
def test_store_is_taken_as_it_was_written(coordinator: Coordinator, api: Api) -> None:
    told = api.get("/v1/status")
    assert told["tasks"] == {
        "ready": count_of(State.READY, TASKS),
        "scheduled": count_of(State.SCHEDULED, TASKS),
        "leased": 0,
        "dead": count_of(State.DEAD, TASKS),
    }
    assert told["handlers"] == HANDLERS
    assert told["oldest"] is not None
    assert not {"row_damaged", "record_corrupt", "count_corrected"} & set(told["counts"])
    assert "damaged" not in coordinator.output()


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("state=dead", count_of(State.DEAD, TASKS)),
        (f"state=dead handler={handler_name(3)}", count_of(State.DEAD, TASKS) // HANDLERS),
        (f"state=ready handler={handler_name(4)}", count_of(State.READY, TASKS) // HANDLERS),
        ("collection=spring state=dead", 0),
        ("collection=spring", TASKS // 50),
    ],
)
def test_pages_hold_all_that_is_meant_and_each_is_bounded(api: Api, text: str, count: int) -> None:
    found: set[str] = set()
    total = 0
    for page in pages(api, text):
        ids = [task["id"] for task in page["tasks"]]
        assert len(ids) <= 1_000
        assert page["scanned"] <= SCANNED_MAX + max(CHUNK, ROWS * ROW_ENTRIES_MAX)
        found.update(ids)
        total += len(ids)
    assert len(found) == total == count


@pytest.mark.timeout(SECONDS)
def test_first_page_of_the_dead_looks_at_no_others(api: Api) -> None:
    page = next(pages(api, "state=dead"))
    assert page["scanned"] == len(page["tasks"]) > 0


def command(coordinator: Coordinator, *arguments: str) -> Done:
    """Run a command to its end."""
    place = ("--data-dir", coordinator.data_folder)
    return commands.run("coordinator", *arguments, *place, seconds=SECONDS)


def answer(coordinator: Coordinator, *arguments: str) -> Any:
    """Return what a command tells as JSON."""
    done = command(coordinator, *arguments, "-o", "json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.timeout(SECONDS)
def test_command_turns_the_pages(coordinator: Coordinator) -> None:
    wanted = ["state=dead", f"handler={handler_name(3)}"]
    done = command(coordinator, "tasks", *wanted, "--limit", "0", "-o", "id")
    assert done.code == 0, done.err
    assert len(set(done.out.split())) == count_of(State.DEAD, TASKS) // HANDLERS


def test_status_and_check_are_of_all_tasks(coordinator: Coordinator) -> None:
    screen = command(coordinator, "status")
    assert screen.code == 0, screen.err
    assert f"{count_of(State.READY, TASKS)} ready" in screen.out
    assert f"and {HANDLERS - 10} more" in screen.out

    checked = command(coordinator, "check", "--dead", "10")
    assert checked.code == 2
    assert f"{count_of(State.DEAD, TASKS)} dead tasks" in checked.out


def test_handlers_are_counted(coordinator: Coordinator) -> None:
    rows = answer(coordinator, "handlers")
    assert len(rows) == HANDLERS
    for row in rows:
        assert row["ready"] == count_of(State.READY, TASKS) // HANDLERS
        assert row["dead"] == count_of(State.DEAD, TASKS) // HANDLERS
        assert row["oldest_ready_ms"] > 0


@pytest.mark.parametrize(
    ("terms", "state"),
    [
        (("state=ready", "priority=normal"), "ready"),
        (("handler=mail.*", "state=scheduled"), "scheduled"),
        (("state=dead", "error~answer", "since=1h"), "dead"),
        (("collection=spring", "state=ready"), "ready"),
    ],
    ids=" ".join,
)
def test_tasks_are_found_by_filter(
    coordinator: Coordinator, terms: tuple[str, ...], state: str
) -> None:
    rows = answer(coordinator, "tasks", *terms, "--limit", "20")
    assert [row["state"] for row in rows] == [state] * 20


def test_trace_tells_of_one_of_a_million(coordinator: Coordinator) -> None:
    (task_id,) = command(coordinator, "tasks", "state=dead", "--limit", "1", "-o", "id").out.split()
    done = command(coordinator, "trace", task_id)
    assert done.code == 0, done.err
    assert "fatal, TimeoutError: the other side did not answer" in done.out


def test_dead_letters_are_one_group_for_each_handler(coordinator: Coordinator) -> None:
    (group,) = answer(coordinator, "dead", "list", handler_name(3))
    assert group["error_type"] == "TimeoutError"
    assert 0 < group["count"] <= count_of(State.DEAD, TASKS) // HANDLERS


def test_dry_run_counts_and_changes_nothing(coordinator: Coordinator, api: Api) -> None:
    told = answer(coordinator, "dead", "requeue", "-f", "state=dead", "--dry-run")
    assert 0 < told["matched"] <= count_of(State.DEAD, TASKS)
    assert told["exact"] == (told["matched"] == count_of(State.DEAD, TASKS))
    assert api.get("/v1/status")["tasks"]["dead"] == count_of(State.DEAD, TASKS)


def test_gate_holds_a_handler_with_all_its_tasks(coordinator: Coordinator) -> None:
    held = count_of(State.READY, TASKS) // HANDLERS
    done = command(coordinator, "pause", handler_name(4), "--reason", "a test")
    assert done.code == 0, done.err
    assert f"({held:,} ready tasks now)" in done.out
    try:
        (gate,) = answer(coordinator, "gates")
        assert (gate["kind"], gate["reason"]) == ("pause", "a test")
    finally:
        assert command(coordinator, "resume", handler_name(4)).code == 0


def test_top_shows_a_snapshot(coordinator: Coordinator) -> None:
    words = ["top", "mail.*", "--data-dir", str(coordinator.data_folder)]
    with Terminal([sys.executable, "-m", "coordinator", *words]) as terminal:
        terminal.wait_for(f"{HANDLERS // 2} handlers of {HANDLERS}")
        assert f"{count_of(State.READY, TASKS)} ready" in terminal.rows[0]
        terminal.press("q")
        assert terminal.wait() == 0


def test_scrape_knows_the_oldest_of_each_handler(api: Api) -> None:
    text = api.get_text("/metrics")
    for number in range(HANDLERS):
        line = f'pillion_oldest_ready_age_seconds{{handler="{handler_name(number)}"}} '
        (_, age) = next(x for x in text.splitlines() if x.startswith(line)).rsplit(" ", 1)
        assert float(age) > 0


@pytest.mark.timeout(SECONDS)
def test_a_few_are_changed_by_filter(coordinator: Coordinator) -> None:
    """The last but one: there are fewer dead letters after it."""
    (task_id,) = command(
        *(coordinator, "tasks", f"handler={handler_name(5)}", "state=dead", "--limit", "1"),
        *("-o", "id"),
    ).out.split()

    wanted = f"handler={handler_name(5)} state=dead id={task_id}"
    (row,) = answer(coordinator, "dead", "requeue", "-f", wanted, "--yes", "--reason", "a test")

    assert (row["state"], row["changed"]) == ("done", 1)
    assert answer(coordinator, "tasks", f"id={task_id}")[0]["state"] == "ready"
    assert answer(coordinator, "audit", "--limit", "1")[0]["reason"] == "a test"


@pytest.mark.timeout(SECONDS)
def test_export_writes_tasks_of_a_store_that_nobody_serves(coordinator: Coordinator) -> None:
    """The last one: it needs the coordinator stopped. A reader that has seen a page may leave."""
    assert coordinator.terminate() == 0
    exporting = subprocess.Popen(
        [
            *(sys.executable, "-m", "coordinator", "export", "--allow-filesystem"),
            *("--data-dir", str(coordinator.data_folder)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert exporting.stdout is not None
    assert exporting.stderr is not None
    page = [json.loads(exporting.stdout.readline()) for _ in range(1_000)]
    exporting.stdout.close()
    assert exporting.wait(SECONDS) in (0, 1)
    assert "Traceback" not in exporting.stderr.read()
    exporting.stderr.close()

    assert len({task["id"] for task in page}) == 1_000
    assert {task["state"] for task in page} <= {"ready", "scheduled"}
