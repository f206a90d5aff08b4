"""Submits tasks that are due at known times, each with its due time in the payload.

Usage: delaying_submitter.py TASKS SECONDS.
"""

import json
import sys
import time

import uvloop

from sidecar import AsyncClient, NewTask, Task

TASKS, SECONDS = int(sys.argv[1]), int(sys.argv[2])
HEAD_START_MS = 3_000


async def main() -> None:
    """Submit everything at once, then wait for the last."""
    client = AsyncClient()
    start_ms = time.time_ns() // 1_000_000 + HEAD_START_MS
    tasks = []
    for i in range(TASKS):
        due_ms = start_ms + i * SECONDS * 1000 // TASKS
        payload = (due_ms * 1_000_000).to_bytes(8, "big")
        tasks.append(NewTask(handler="bench.noop", payload=payload, at=due_ms / 1000))
    verdicts = await client.submit_many(tasks)
    for verdict in verdicts:
        if not isinstance(verdict, Task):
            raise verdict
        await verdict.wait(timeout=SECONDS + 30)
    await client.close()
    print(json.dumps({}))


uvloop.run(main())
