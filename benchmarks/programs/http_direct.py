"""Calls the peer directly, with the requests that a sidecar makes: the limit of the hop.

Arguments: the peer's socket, how many calls, how many connections. Prints JSON.
"""

import asyncio
import json
import os
import sys
import time
from typing import cast

import httptools
import uvloop

from protocol.ids import TaskIds
from protocol.messages import GrantedTask
from sidecar.invoke.particulars import as_headers, particulars

PATH, CALLS, CONNECTIONS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PAYLOAD_BYTES = 100
TASK = GrantedTask(
    TaskIds().new(), 1, 1, 12, 1, 60_000, 1, 1, None, os.urandom(PAYLOAD_BYTES), None
)
REQUEST = (
    "POST /tasks/bench.noop HTTP/1.1\r\nHost: localhost\r\n"
    f"{as_headers(particulars('bench.noop', TASK, 1))}Content-Length: {PAYLOAD_BYTES}\r\n\r\n"
).encode() + TASK.payload


class Load:
    """The calls that are left, and the answers so far."""

    def __init__(self) -> None:
        self.left = CALLS
        self.answered = 0
        self.done = asyncio.get_running_loop().create_future()

    def answer(self) -> None:
        """Count one."""
        self.answered += 1
        if self.answered == CALLS:
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: a call, its answer, the next call."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpResponseParser(self)
        self.call()

    def call(self) -> None:
        """Send one request, if any is left."""
        if self.load.left:
            self.load.left -= 1
            self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look at a header."""

    def on_message_complete(self) -> None:
        """Take the answer."""
        self.load.answer()
        self.call()


async def main() -> None:
    """Make all calls, and print what it took."""
    loop = asyncio.get_running_loop()
    load = Load()
    began = time.perf_counter()
    for _ in range(CONNECTIONS):
        await loop.create_unix_connection(lambda: Connection(load), PATH)
    await load.done
    seconds = time.perf_counter() - began
    print(json.dumps({"calls_per_second": round(CALLS / seconds)}))


uvloop.run(main())
