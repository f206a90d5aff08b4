"""Submits tasks and waits until the last of them have ended; prints JSON.

Usage: submitter.py TASKS BATCH PAYLOAD_BYTES. With BATCH 1 each task is submitted by a call of its
own, many of them at once; the client makes batches of them by itself.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

import uvloop

from sidecar import AsyncClient, NewTask, Task

TASKS, BATCH, PAYLOAD_BYTES = (int(argument) for argument in sys.argv[1:4])
HANDLER = "bench.noop"
OPEN_CALLS = 8
"""Batches submitted at once; with single tasks, that many thousand of them."""
LAST = 200


async def main() -> None:
    """Submit, wait, print."""
    payload = os.urandom(PAYLOAD_BYTES)
    client = AsyncClient()
    await client.inspect()
    began = time.perf_counter()
    handles = await (_batched(client, payload) if BATCH > 1 else _singly(client, payload))
    submitted = time.perf_counter()
    await asyncio.gather(*[handle.wait(timeout=120) for handle in handles[-LAST:]])
    while (await client.inspect())["outcomes_unrecorded"]:
        pass  # Each look is a round trip to the sidecar.
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "submit_seconds": submitted - began,
                "seconds": ended - began,
                "cpu_seconds": time.process_time(),
            }
        )
    )
    await client.close()


async def _batched(client: AsyncClient, payload: bytes) -> list[Task[Any]]:
    tasks = [NewTask(handler="bench.noop", payload=payload)] * BATCH
    left = iter(range(-(-TASKS // BATCH)))
    handles: list[Task[Any]] = []

    async def submit() -> None:
        for _ in left:
            for verdict in await client.submit_many(tasks):
                if not isinstance(verdict, Task):
                    raise verdict
                handles.append(verdict)

    await asyncio.gather(*[submit() for _ in range(OPEN_CALLS)])
    return handles


async def _singly(client: AsyncClient, payload: bytes) -> list[Task[Any]]:
    left = iter(range(TASKS))
    handles: list[Task[Any]] = []

    async def submit() -> None:
        handles.extend([await client.submit(HANDLER, payload) for _ in left])

    await asyncio.gather(*[submit() for _ in range(OPEN_CALLS * 250)])
    return handles


uvloop.run(main())
