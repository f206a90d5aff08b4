"""The physical limits that figures are compared with, measured on this machine, in this run."""

import os
import tempfile
import time
from pathlib import Path

from coordinator.core.layout import task_key
from coordinator.store.lmdb_store import LmdbStore
from protocol.ids import TaskIds

RECORD_BYTES = 250
"""About a record with a payload of 100 bytes."""


async def store_tasks_per_second(folder: Path, *, batch: int, seconds: float = 1.0) -> float:
    """Return how many task lives per second the bare store could keep: two puts each, fsynced."""
    store = LmdbStore(folder / "limit", map_bytes=2**30)
    await store.open()
    ids = TaskIds()
    tasks = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        keys = [task_key(task_id) for task_id in ids.batch(batch)]
        await store.apply(dict.fromkeys(keys, bytes(RECORD_BYTES)))
        await store.apply(dict.fromkeys(keys, bytes(RECORD_BYTES + 1)))
        tasks += batch
    elapsed = time.perf_counter() - began
    await store.close()
    return tasks / elapsed


def fsync_ms(folder: Path, *, times: int = 100) -> float:
    """Return the median time of a small write and its fdatasync, in milliseconds."""
    took = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(times):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[times // 2]
