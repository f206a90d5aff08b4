"""Tasks per second from a submitter to a handler and back into the store, all processes real."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from benchmarks import limits
from benchmarks.cluster import Cluster, note
from coordinator.core.layout import range_of
from coordinator.core.records import decode_list
from protocol.messages import State

PAYLOAD_BYTES = 100
CONCURRENCY = 256


def run(tasks: int, batch: int) -> dict[str, Any]:
    """Measure; ``batch`` 1 submits one task per call.

    Every submission is acknowledged after its fsync, and every task is granted, run and recorded:
    the store is read afterwards and must hold each task as succeeded.
    """
    with Cluster(concurrency=CONCURRENCY) as cluster:
        note(f"end_to_end: {tasks} tasks, {batch} per call")
        before = cluster.cpu_seconds()
        result = cluster.run(
            "submitter", str(tasks), str(batch), str(PAYLOAD_BYTES), seconds=60 + tasks / 1000
        )
        cpu = {name: used - before[name] for name, used in cluster.cpu_seconds().items()}
        cpu["submitter"] = result["cpu_seconds"]
        cluster.coordinator.terminate()
        recorded = succeeded(cluster.coordinator.data_folder)
    expected = -(-tasks // batch) * batch
    if recorded != expected:
        raise AssertionError(f"{recorded} of {expected} tasks are recorded as succeeded")
    with tempfile.TemporaryDirectory() as folder:
        bare = asyncio.run(limits.store_tasks_per_second(Path(folder), batch=1000))
    rate = expected / result["seconds"]
    return {
        "benchmark": "end_to_end",
        "tasks": expected,
        "batch": batch,
        "payload_bytes": PAYLOAD_BYTES,
        "recorded": recorded,
        "seconds": round(result["seconds"], 3),
        "tasks_per_second": round(rate),
        "submitted_per_second": round(expected / result["submit_seconds"]),
        "cpu_us_per_task": {name: round(used / expected * 1e6, 1) for name, used in cpu.items()},
        "bare_store_tasks_per_second": round(bare),
        "ratio_to_bare_store": round(rate / bare, 3),
    }


def succeeded(folder: Path) -> int:
    """Count the tasks that the store holds as succeeded."""
    return sum(state == State.SUCCEEDED for state in _states(folder))


def stored(folder: Path) -> int:
    """Count the tasks that the store holds."""
    return sum(1 for _ in _states(folder))


def _states(folder: Path) -> Iterator[int]:
    start, end = range_of(b"t")
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as txn:
        cursor = txn.cursor()
        cursor.set_range(start)
        for key, record in cursor:
            if key >= end:
                break
            yield decode_list(key, record)[0]
