"""The pure core alone, and with its store: what sockets and codec come on top of."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cluster import note
from coordinator.core.config import Config
from coordinator.core.effects import Effects, Now, Read
from coordinator.core.shard import Answered, Received, Sent, Shard
from coordinator.store.base import Store
from coordinator.store.lmdb_store import LmdbStore
from coordinator.store.memory_store import MemoryStore
from protocol import submission
from protocol.ids import TaskIds
from protocol.messages import (
    Batch,
    Declaration,
    Demand,
    Grant,
    Handlers,
    Hello,
    Limit,
    Outcome,
    OutcomeKind,
    Outcomes,
    Submission,
    Submit,
)

BATCH = 500
SLOTS = 1000
PEER = b"peer"
HANDLER = "bench.noop"
Apply = Callable[[dict[bytes, bytes | None], Sequence[Read]], Awaitable[Sequence[Any]]]


def run(tasks: int) -> dict[str, Any]:
    """Take tasks through submission, grant and outcome, with each of three stores."""
    note(f"core: {tasks} tasks")
    alone = asyncio.run(_drive(tasks, _NoStore().apply))
    memory = asyncio.run(_with_store(tasks, MemoryStore()))
    with tempfile.TemporaryDirectory() as folder:
        lmdb = asyncio.run(_with_store(tasks, LmdbStore(Path(folder) / "s", map_bytes=2**32)))
    return {
        "benchmark": "core",
        "tasks": tasks,
        "core_us_per_task": round(alone / tasks * 1e6, 2),
        "core_tasks_per_second": round(tasks / alone),
        "with_memory_store_tasks_per_second": round(tasks / memory),
        "with_lmdb_tasks_per_second": round(tasks / lmdb),
    }


class _NoStore:
    """Forgets what is written; right as long as nothing spills and no id repeats."""

    async def apply(
        self, writes: dict[bytes, bytes | None], reads: Sequence[Read]
    ) -> Sequence[Any]:
        return [{} if hasattr(read, "keys") else [] for read in reads]


async def _with_store(tasks: int, store: Store) -> float:
    await store.open()
    try:
        return await _drive(tasks, store.apply)
    finally:
        await store.close()


async def _drive(tasks: int, apply: Apply) -> float:
    shard = Shard(Config(store=bytes(16), epoch=1))
    granted = finished = number = 0
    batches = _batches(tasks)

    def now() -> Now:
        return Now(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)

    async def carry_out(effects: Effects) -> list[Grant]:
        results = await apply(effects.writes, [ask.read for ask in effects.reads])
        shard.step(now(), Sent(effects))
        for ask, result in zip(effects.reads, results, strict=True):
            shard.step(now(), Answered(ask.number, result))
        return [m.message for m in effects.messages if isinstance(m.message, Grant)]

    while not shard.recovered:
        await carry_out(shard.flush(now()))
    hello = Hello(1, 1, "s", bytes(16), "bench", "", None, 0, 0, [])
    shard.step(now(), Received(PEER, hello))
    shard.step(now(), Received(PEER, Handlers([Declaration(HANDLER, {})])))
    shard.step(now(), Received(PEER, Demand([Limit(HANDLER, SLOTS)])))
    began = time.perf_counter()
    while finished < tasks:
        if batches:
            shard.step(now(), Received(PEER, Submit([Batch(1, batches.pop())])))
        for grant in await carry_out(shard.flush(now())):
            outcomes = [
                Outcome(task.id, task.token, OutcomeKind.SUCCESS, 10, None)
                for group in grant.groups
                for task in group.tasks
            ]
            number += 1
            granted += len(outcomes)
            finished += len(outcomes)
            shard.step(now(), Received(PEER, Outcomes(number, outcomes)))
            shard.step(now(), Received(PEER, Demand([Limit(HANDLER, granted + SLOTS)])))
    await carry_out(shard.flush(now()))
    return time.perf_counter() - began


def _batches(tasks: int) -> list[bytes]:
    ids = TaskIds()
    return [
        submission.encode_batch(
            [Submission(task_id, HANDLER, bytes(100)) for task_id in ids.batch(BATCH)]
        )
        for _ in range(-(-tasks // BATCH))
    ][::-1]
