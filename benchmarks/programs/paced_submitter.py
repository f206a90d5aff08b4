"""Submits one task after the other at a steady rate, each with the clock in its payload.

Usage: paced_submitter.py RATE SECONDS. Prints the percentiles from call to acknowledgement.
"""

import asyncio
import json
import sys
import time

import uvloop

from benchmarks.figures import summary_ms
from sidecar import AsyncClient

RATE, SECONDS = int(sys.argv[1]), int(sys.argv[2])
WARM_UP = 50


async def main() -> None:
    """Submit, wait for the last, print."""
    client = AsyncClient()
    for _ in range(WARM_UP):
        handle = await client.submit("bench.warmup", b"")
    accepted_ms = []
    began = time.perf_counter()
    for i in range(RATE * SECONDS):
        wait = began + i / RATE - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        called = time.perf_counter()
        handle = await client.submit("bench.noop", time.time_ns().to_bytes(8, "big"))
        accepted_ms.append((time.perf_counter() - called) * 1000)
    await handle.wait(timeout=10)
    await client.close()
    print(json.dumps(summary_ms(accepted_ms)))


uvloop.run(main())
