"""What operators wait for with very many tasks in the store: status, pages, scrapes."""

import asyncio
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.cluster import note
from coordinator.commands.api import Api, Place
from tests.support.filled_store import fill, handler_name
from tests.support.process import ROOT
from tests.support.processes import System

TIMES = 9
FILTERS = {
    "all": "",
    "dead": "state=dead",
    "dead of a handler, by its error": f"state=dead handler={handler_name(3)} error~answer",
    "ready of some handlers": "state=ready handler=mail.*",
    "scheduled": "state=scheduled",
    "collection": "collection=spring",
    "nothing, by all records": "error~nowhere",
}


def run(tasks: int) -> dict[str, Any]:
    """Measure with so many tasks stored."""
    tasks = -(-tasks // 200) * 200
    with System() as system:
        coordinator = system.coordinator("--log-level", "warning", start=False)
        note(f"operating: writing {tasks} tasks")
        began = time.perf_counter()
        asyncio.run(fill(coordinator.data_folder, tasks, time.time_ns() // 1_000_000))
        filled = time.perf_counter() - began
        began = time.perf_counter()
        coordinator.start()
        started = time.perf_counter() - began
        note("operating: asking")
        api = Api(Place(coordinator.http_socket, "", 0, ""))
        command = [sys.executable, "-m", "coordinator", "status"]
        command += ["--data-dir", str(coordinator.data_folder)]
        pages = {
            name: _ms(partial(api.get, "/v1/tasks", {"filter": text}))
            for name, text in FILTERS.items()
        }
        return {
            "benchmark": "operating",
            "tasks": tasks,
            "fill_seconds": round(filled, 1),
            "start_seconds": round(started, 3),
            "status_command_ms": _ms(
                lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            ),
            "status_command_cpu_ms": _cpu_ms(command),
            "status_answer_ms": _ms(lambda: api.get("/v1/status")),
            "scrape_ms": _ms(lambda: api.get_text("/metrics")),
            "handlers_ms": _ms(lambda: api.get("/v1/handlers")),
            "page_ms": pages,
            "pages_and_seconds_to_find_nothing": _all_pages(
                api, FILTERS["nothing, by all records"]
            ),
        }


def _ms(ask: Callable[[], Any]) -> dict[str, float]:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    return {"median": round(statistics.median(taken), 1), "max": round(max(taken), 1)}


def _cpu_ms(command: list[str]) -> float:
    """Return what a command costs, however busy the machine is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(TIMES):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(used * 1000 / TIMES, 1)


def _all_pages(api: Api, text: str) -> list[float]:
    began = time.perf_counter()
    pages, query = 0, {"filter": text}
    while True:
        pages += 1
        page = api.get("/v1/tasks", query)
        if page["cursor"] is None:
            return [pages, round(time.perf_counter() - began, 1)]
        query["cursor"] = page["cursor"]
