"""What all HTTP connections share: the routes, room for bodies, and one timer."""

import asyncio
from collections.abc import Iterable

from protocol.limits import MIB
from sidecar.gateway.peer import Owner
from sidecar.http import index
from sidecar.http.connection import NEVER, HttpConnection
from sidecar.http.exchange import Route
from sidecar.http.reader import Room
from sidecar.http.router import Router

BODIES_BYTES_MAX = 64 * MIB
"""Bodies that are arriving, of all connections together."""


class HttpServer:
    """The HTTP side of ``sidecar.sock``.

    Args:
        routes: What it serves.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.router = Router(routes)
        self.router.add(index.routes(self.router))
        self.room = Room(BODIES_BYTES_MAX)
        self._connections: dict[int, HttpConnection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = NEVER

    def take(
        self, number: int, owner: Owner, transport: asyncio.Transport, data: bytes
    ) -> HttpConnection:
        """Take over a connection that began with ``data``."""
        connection = HttpConnection(number, owner, self, transport)
        self._connections[number] = connection
        transport.set_protocol(connection)
        connection.attach()
        connection.data_received(data)
        return connection

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def due(self, at: float) -> None:
        """Look at the connections at this time, or earlier."""
        if at >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = at
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def forget(self, connection: HttpConnection) -> None:
        """Take note that a connection has ended."""
        del self._connections[connection.number]
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._due = NEVER

    def _look(self) -> None:
        self._timer = None
        self._due = NEVER
        now = self.now()
        for connection in list(self._connections.values()):
            connection.look(now)
        first = min([c.due for c in self._connections.values()], default=NEVER)
        if first < NEVER:
            self.due(first)
