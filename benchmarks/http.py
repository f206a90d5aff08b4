"""What HTTP costs: pushing and submitting, beside the native path and the bare hop, in one run."""

from typing import Any

from benchmarks import end_to_end
from benchmarks.cluster import Cluster, note
from tests.support.processes import Coordinator

PAYLOAD_BYTES = 100
CONCURRENCY = 64
"""Attempts at one time, and so connections to the service."""
SUBMITTERS = 32
"""Connections that submit one by one."""


def run(tasks: int, batch: int) -> dict[str, Any]:
    """Measure; the store is read after each part, and must hold every task as it should."""
    push = _end_to_end(tasks, batch, push=True)
    native = _end_to_end(tasks, batch, push=False)
    return {
        "benchmark": "http",
        "tasks": tasks,
        "payload_bytes": PAYLOAD_BYTES,
        "connections": CONCURRENCY,
        "push_tasks_per_second": push["rate"],
        "push_cpu_us_per_task": push["cpu"],
        "native_tasks_per_second": native["rate"],
        "native_cpu_us_per_task": native["cpu"],
        **push["direct"],
        "ratio_push_to_direct": round(push["rate"] / push["direct"]["direct_calls_per_second"], 3),
        **_submit(tasks),
    }


def _end_to_end(tasks: int, batch: int, *, push: bool) -> dict[str, Any]:
    with Cluster(concurrency=CONCURRENCY, push=push) as cluster:
        note(f"http: {tasks} tasks, {'pushed' if push else 'native'}")
        before = cluster.cpu_seconds()
        result = cluster.run(
            "submitter", str(tasks), str(batch), str(PAYLOAD_BYTES), seconds=60 + tasks / 500
        )
        cpu = {name: used - before[name] for name, used in cluster.cpu_seconds().items()}
        cpu["submitter"] = result["cpu_seconds"]
        made: dict[str, Any] = {
            "rate": round(tasks / result["seconds"]),
            "cpu": {name: round(used / tasks * 1e6, 1) for name, used in cpu.items()},
        }
        if push:
            note("http: the peer called directly")
            direct = cluster.run(
                "http_direct", str(cluster.app), str(tasks), str(CONCURRENCY), seconds=120
            )
            made["direct"] = {"direct_calls_per_second": direct["calls_per_second"]}
        _check(cluster.coordinator, tasks)
    return made


def _submit(tasks: int) -> dict[str, Any]:
    """Submit one by one for a handler that nobody serves, so that nothing else runs."""
    with Cluster(concurrency=CONCURRENCY) as cluster:
        note(f"http: {tasks} tasks submitted one by one over {SUBMITTERS} connections")
        handler = "bench.waiting"
        result = cluster.run("http_submit", str(tasks), str(SUBMITTERS), handler, seconds=120)
        _check(cluster.coordinator, tasks, ended=False)
    return {f"submit_{name}": value for name, value in result.items()}


def _check(coordinator: Coordinator, tasks: int, *, ended: bool = True) -> None:
    coordinator.terminate()
    folder = coordinator.data_folder
    found = end_to_end.succeeded(folder) if ended else end_to_end.stored(folder)
    if found != tasks:
        raise AssertionError(f"{found} of {tasks} tasks are in the store as they should be")
