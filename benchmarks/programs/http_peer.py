"""The least a service can be that is pushed to: reads each request whole and answers 200.

Arguments: the path of its socket.
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to parse."""
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look at a header, as any service does."""

    def on_body(self, data: bytes) -> None:
        """Look at the payload."""

    def on_message_complete(self) -> None:
        """Answer."""
        self.transport.write(ANSWER)


async def main() -> None:
    """Serve until the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(Connection, sys.argv[1])
    async with server:
        await server.serve_forever()


uvloop.run(main())
