"""Submits tasks over HTTP, one by one, each connection waiting for its answer; prints JSON.

Arguments: how many tasks, how many connections, the handler.
"""

import asyncio
import json
import os
import sys
import time
from typing import cast

import uvloop

TASKS, CONNECTIONS = int(sys.argv[1]), int(sys.argv[2])
PAYLOAD = b'{"to": "someone@example.com", "template": "welcome"}'
REQUEST = (
    b"POST /v1/tasks/%b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (sys.argv[3].encode(), len(PAYLOAD), PAYLOAD)
)


class Load:
    """The tasks that are left to submit, and the answers so far."""

    def __init__(self) -> None:
        self.left = TASKS
        self.answered = 0
        self.latencies_ms: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def answer(self, began: float, data: bytes) -> None:
        """Take an answer, which arrives in one piece."""
        if not data.startswith(b"HTTP/1.1 202"):
            self.done.set_exception(RuntimeError(data.decode()))
            return
        self.latencies_ms.append((time.perf_counter() - began) * 1000)
        self.answered += 1
        if self.answered == TASKS:
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.began = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.submit()

    def submit(self) -> None:
        """Send one request, if any is left."""
        if self.load.left:
            self.load.left -= 1
            self.began = time.perf_counter()
            assert self.transport is not None
            self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Take the answer."""
        self.load.answer(self.began, data)
        self.submit()


async def main() -> None:
    """Submit everything, and print what it took."""
    loop = asyncio.get_running_loop()
    load = Load()
    began = time.perf_counter()
    for _ in range(CONNECTIONS):
        path = os.environ["PILLION_SIDECAR_SOCKET"]
        await loop.create_unix_connection(lambda: Connection(load), path)
    await load.done
    seconds = time.perf_counter() - began
    ordered = sorted(load.latencies_ms)
    print(
        json.dumps(
            {
                "tasks_per_second": round(TASKS / seconds),
                "p50_ms": round(ordered[len(ordered) // 2], 3),
                "p99_ms": round(ordered[len(ordered) * 99 // 100], 3),
            }
        )
    )


uvloop.run(main())
