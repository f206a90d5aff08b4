"""Submits tasks that nobody serves. Usage: piling_submitter.py TASKS."""

import asyncio
import os
import sys

import uvloop

from sidecar import AsyncClient, NewTask, Task

TASKS = int(sys.argv[1])
BATCH = 1000
OPEN_CALLS = 4


async def main() -> None:
    """Submit in batches, a few at once."""
    tasks = [NewTask(handler="bench.noop", payload=os.urandom(100))] * BATCH
    left = iter(range(-(-TASKS // BATCH)))
    async with AsyncClient() as client:

        async def submit() -> None:
            for _ in left:
                for verdict in await client.submit_many(tasks):
                    if not isinstance(verdict, Task):
                        raise verdict

        await asyncio.gather(*[submit() for _ in range(OPEN_CALLS)])


uvloop.run(main())
