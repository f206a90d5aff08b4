"""Memory of a coordinator with very many waiting tasks, and its start with them."""

import time
from typing import Any

from benchmarks.cluster import PROGRAMS, note
from benchmarks.figures import memory
from tests.support.processes import System

MIB = 2**20


def run(tasks: int) -> dict[str, Any]:
    """Measure with tasks for a handler that nobody serves, then serve some of them."""
    with System() as system:
        coordinator = system.coordinator("--log-level", "warning")
        sidecar = system.sidecar("bench", coordinator, "--log-level", "warning")
        source = (PROGRAMS / "piling_submitter.py").read_text()
        note(f"backlog: submitting {tasks} tasks")
        began = time.perf_counter()
        submitter = system.service("piling", sidecar, source, str(tasks), start=False)
        submitter.start(wait=False)
        code = submitter.wait(600)
        if code:
            raise submitter.failure(f"ended with {code}")
        submit_seconds = time.perf_counter() - began
        full = memory(coordinator.pid)
        note("backlog: kill -9, start again")
        coordinator.kill()
        began = time.perf_counter()
        coordinator.start()
        start_seconds = time.perf_counter() - began
        started = memory(coordinator.pid)
        note("backlog: serving the first tasks")
        began = time.perf_counter()
        service = (PROGRAMS / "noop_service.py").read_text()
        stamps = system.folder / "stamps"
        process = system.service("noop", sidecar, service, "64", str(stamps))
        process.wait_until(
            lambda: stamps.exists() and stamps.stat().st_size > 0, "began a task", 60
        )
        first_seconds = time.perf_counter() - began
    return {
        "benchmark": "backlog",
        "tasks": tasks,
        "submitted_per_second": round(tasks / submit_seconds),
        "coordinator_mib": round(full.anonymous / MIB, 1),
        "coordinator_resident_mib_with_the_stores_pages": round(full.resident / MIB, 1),
        "start_seconds_after_kill": round(start_seconds, 3),
        "coordinator_mib_after_start": round(started.anonymous / MIB, 1),
        "first_task_seconds_after_the_service_started": round(first_seconds, 3),
    }
