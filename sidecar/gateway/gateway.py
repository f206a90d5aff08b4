"""The server on ``sidecar.sock``: numbers its connections, and writes what they are sent."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from protocol import local
from protocol.errors import LimitExceeded, ProtocolError
from protocol.messages import Message
from sidecar.core.events import Event, FromLocal, LocalClosed, LocalOpened, LocalRefused
from sidecar.gateway.connection import Connection
from sidecar.gateway.socket_file import SocketFile, may_connect, peer_pid

CONNECTIONS_MAX = 4096
"""Connections at one time; the sidecar needs descriptors for other things as well."""
CLOSE_SECONDS = 1.0
"""How long peers have, when the sidecar ends, to read what was written to them."""


class Gateway:
    """The local side of a sidecar.

    Args:
        path: Of the socket.
        step: Called with each event, for the core.
        turned: Called after a turn in which anything came.
        alarm: Called with an event's name and facts, for the log.
        process_of: Returns the number of the supervised process that a pid belongs to, or 0.
    """

    def __init__(
        self,
        path: Path,
        *,
        step: Callable[[Event], None],
        turned: Callable[[], None],
        alarm: Callable[[str, dict[str, int | str]], None],
        process_of: Callable[[int], int] | None = None,
    ) -> None:
        self._file = SocketFile(path)
        self._step = step
        self.turned = turned
        self._alarm = alarm
        self._process_of = process_of
        self._server: asyncio.Server | None = None
        self._connections: dict[int, Connection] = {}
        self._number = 0
        self._group = -1
        self._empty = asyncio.Event()

    async def start(self) -> None:
        """Listen.

        Raises:
            SocketRefused: The path cannot be served.
        """
        listening = self._file.listen()
        self._group = os.stat(self._file.path).st_gid
        self._server = await asyncio.get_running_loop().create_unix_server(
            self._connection, sock=listening
        )

    async def stop(self) -> None:
        """Close everything; may come early, may come twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._file.remove()
        for connection in list(self._connections.values()):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        for connection in list(self._connections.values()):
            connection.abort()

    def _connection(self) -> Connection:
        self._number += 1
        return Connection(self._number, self)

    def send(self, messages: list[tuple[int, Message]]) -> None:
        """Write messages, those of one connection together."""
        frames: dict[int, list[bytes]] = {}
        for number, message in messages:
            try:
                frames.setdefault(number, []).append(local.frame(message))
            except LimitExceeded as error:
                self._alarm("message_too_large", {"connection": number, "detail": error.detail})
        for number, parts in frames.items():
            connection = self._connections.get(number)
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            if connection is not None and not connection.write(data):
                self._alarm("connection_does_not_read", {"connection": number})

    def close(self, numbers: list[int]) -> None:
        """Close connections once what was written to them has left."""
        for number in numbers:
            connection = self._connections.get(number)
            if connection is not None:
                connection.close()

    # What connections tell

    def opened(self, connection: Connection) -> bool:
        """Take a new connection, unless its peer may not or there are too many."""
        assert connection.transport is not None
        peer = connection.transport.get_extra_info("socket")
        if len(self._connections) >= CONNECTIONS_MAX:
            self._alarm("connection_refused", {"detail": f"{CONNECTIONS_MAX} are open"})
            return False
        if not may_connect(peer, group=self._group):
            self._alarm("connection_refused", {"detail": "its user may not use this socket"})
            return False
        self._connections[connection.number] = connection
        process = 0 if self._process_of is None else self._process_of(peer_pid(peer))
        self._step(LocalOpened(connection.number, process))
        return True

    def received(self, connection: Connection, message: Message) -> None:
        """Take a message."""
        self._step(FromLocal(connection.number, message))

    def broke(self, connection: Connection, error: ProtocolError) -> None:
        """Take note that a peer broke the protocol."""
        self._step(LocalRefused(connection.number, error))

    def closed(self, connection: Connection) -> None:
        """Take note that a connection has ended."""
        del self._connections[connection.number]
        self._step(LocalClosed(connection.number))
        self._empty.set()
        self.turned()
