"""The server on ``sidecar.sock``: numbers its peers, and gives them what they are sent.

Not all peers come by the socket: what in this process stands for a service (one that is invoked
over HTTP, say) joins as one, and the core does not know the difference.
"""

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from protocol.errors import ProtocolError
from protocol.messages import Message
from sidecar.core.events import Event, FromLocal, LocalClosed, LocalOpened, LocalRefused
from sidecar.gateway.connection import Connection
from sidecar.gateway.peer import Owner, Peer
from sidecar.gateway.socket_file import SocketFile, may_connect, peer_pid

CONNECTIONS_MAX = 4096
"""Connections at one time, if the system allows so many descriptors."""
DESCRIPTORS_KEPT = 100
"""For everything else: the coordinator, the spool, processes, services that are called."""
CONNECTIONS_MIN = 16
CLOSE_SECONDS = 1.0
"""How long peers have, when the sidecar ends, to read what was written to them."""

P = TypeVar("P", bound=Peer)


def connections_max() -> int:
    """Return how many connections may be open, given the limit of descriptors (``ulimit -n``)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(soft - DESCRIPTORS_KEPT, CONNECTIONS_MIN))


class HttpServer(Protocol):
    """Who serves the connections that speak HTTP."""

    def take(self, number: int, owner: Owner, transport: asyncio.Transport, data: bytes) -> Peer:
        """Take over a connection that began with ``data``; return the peer it is from now on."""


class Gateway:
    """The local side of a sidecar.

    Args:
        path: Of the socket.
        step: Called with each event, for the core.
        turned: Called after a turn in which anything came.
        alarm: Called with an event's name and facts, for the log.
        process_of: Returns the number of the supervised process that a pid belongs to, or 0.
        http: Serves the connections that speak HTTP.
    """

    def __init__(  # noqa: PLR0913 (where, who serves HTTP, and who is told of four things)
        self,
        path: Path,
        *,
        step: Callable[[Event], None],
        turned: Callable[[], None],
        alarm: Callable[[str, dict[str, int | str]], None],
        process_of: Callable[[int], int] | None = None,
        http: HttpServer,
    ) -> None:
        self._file = SocketFile(path)
        self._step = step
        self.turned = turned
        self.alarm = alarm
        self._process_of = process_of
        self._http = http
        self._server: asyncio.Server | None = None
        self._peers: dict[int, Peer] = {}
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
        for peer in list(self._peers.values()):
            peer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._peers:
                    self._empty.clear()
                    await self._empty.wait()
        for peer in list(self._peers.values()):
            peer.abort()

    def _connection(self) -> Connection:
        self._number += 1
        return Connection(self._number, self)

    def join(self, make: Callable[[int], P]) -> P:
        """Make a peer of this process out of its number, and return it.

        It may tell something once this has returned, and not before.
        """
        self._number += 1
        peer = make(self._number)
        self._peers[peer.number] = peer
        self._step(LocalOpened(peer.number))
        return peer

    def send(self, messages: list[tuple[int, Message]]) -> None:
        """Deliver messages, those of one peer together."""
        mail: dict[int, list[Message]] = {}
        for number, message in messages:
            mail.setdefault(number, []).append(message)
        for number, together in mail.items():
            peer = self._peers.get(number)
            if peer is not None:
                peer.deliver(together)

    def close(self, numbers: list[int]) -> None:
        """Close peers once what was delivered to them has left."""
        for number in numbers:
            peer = self._peers.get(number)
            if peer is not None:
                peer.close()

    # What peers tell

    def opened(self, connection: Connection) -> bool:
        """Take a new connection, unless its peer may not or there are too many."""
        assert connection.transport is not None
        peer = connection.transport.get_extra_info("socket")
        most = connections_max()
        if len(self._peers) >= most:
            self.alarm("connection_refused", {"detail": f"{most} are open"})
            return False
        if not may_connect(peer, group=self._group):
            self.alarm("connection_refused", {"detail": "its user may not use this socket"})
            return False
        self._peers[connection.number] = connection
        process = 0 if self._process_of is None else self._process_of(peer_pid(peer))
        self._step(LocalOpened(connection.number, process))
        return True

    def speaks_http(self, connection: Connection, data: bytes) -> None:
        """Give a connection to the server of HTTP; its number stays."""
        assert connection.transport is not None
        number = connection.number
        self._peers[number] = self._http.take(number, self, connection.transport, data)

    def received(self, peer: Peer, message: Message) -> None:
        """Take a message."""
        self._step(FromLocal(peer.number, message))

    def broke(self, peer: Peer, error: ProtocolError) -> None:
        """Take note that a peer broke the protocol."""
        self._step(LocalRefused(peer.number, error))

    def closed(self, peer: Peer) -> None:
        """Take note that a peer is gone."""
        del self._peers[peer.number]
        self._step(LocalClosed(peer.number))
        self._empty.set()
        self.turned()
