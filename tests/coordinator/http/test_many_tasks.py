"""The API and the commands with very many tasks in the store.

``PILLION_TEST_TASKS=1000000`` makes it a million; nothing here looks at a clock, which is what
``python -m benchmarks operating`` is for.
"""

import asyncio
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
from tests.support.filled_store import HANDLERS, count_of, fill, handler_name
from tests.support.process import ROOT
from tests.support.processes import Coordinator, System

TASKS = int(os.environ.get("PILLION_TEST_TASKS", "200000"))
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
        ("collection=spring state!=ready", 0),
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


@pytest.mark.timeout(SECONDS)
def test_command_turns_the_pages(coordinator: Coordinator) -> None:
    command = [sys.executable, "-m", "coordinator", "tasks", "state=dead", "--limit", "0"]
    command += ["-o", "id", "--data-dir", str(coordinator.data_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(set(done.stdout.split())) == count_of(State.DEAD, TASKS)


def test_scrape_knows_the_oldest_of_each_handler(api: Api) -> None:
    text = api.get_text("/metrics")
    for number in range(HANDLERS):
        line = f'pillion_oldest_ready_age_seconds{{handler="{handler_name(number)}"}} '
        (_, age) = next(x for x in text.splitlines() if x.startswith(line)).rsplit(" ", 1)
        assert float(age) > 0
