"""The service at ``app.sock`` (or a port of loopback): whether it is there, and connections to it.

The service listens and the sidecar dials. While nobody listens no task is asked for, and it is
looked again and again with growing waits. Connections are kept for the next call, but not long: a
server closes what is idle, and a request that meets the closing is in doubt.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable

from sidecar.gateway.socket_file import peer_pid
from sidecar.invoke.address import Address
from sidecar.invoke.connection import Call, Connection
from sidecar.invoke.window import Backoff

IDLE_SECONDS = 2.0
"""Below the 5 s after which common servers close an idle connection."""
CONNECT_SECONDS = 5.0
LOOK_MS_MIN, LOOK_MS_MAX = 50, 2_000


def _is_open(connection: Connection) -> bool:
    """Look whether the service has left a connection open, and has sent nothing unasked on it.

    The end may lie there unread: over TCP a request would still be sent, and seem lost.
    """
    transport, sock = connection.transport, connection.socket
    if transport is None or transport.is_closing() or sock is None:
        return False
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        pass
    connection.abort()
    return False


class App:
    """The service, as one that is called.

    Args:
        address: Where it listens.
        turned: Called when it has come or gone.
        served_by: Called with the pid of who listens, when it is another one.
    """

    def __init__(
        self,
        address: Address,
        turned: Callable[[], None],
        served_by: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.address = address
        self.there = False
        """Whether it accepted the last connection."""
        self.since = time.monotonic()
        """Since when it has been there, or away."""
        self.why = "it was not looked for yet"
        self._turned = turned
        self._served_by = served_by
        self._pid = 0
        self._backoff = Backoff(LOOK_MS_MIN, LOOK_MS_MAX)
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Look for the service."""
        self._look()

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for timer in (self._looking, self._sweeping):
            if timer is not None:
                timer.cancel()
        for task in list(self._opening):
            task.cancel()
        for connection in list(self._connections):
            connection.abort()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    # --- Calls ---------------------------------------------------------------------------------

    def call(self, call: Call, request: bytes, body: bytes = b"", *, fresh: bool = False) -> None:
        """Send a request on a connection that is free, or on a new one.

        Args:
            call: Told of the answer.
            request: Its head.
            body: What stands behind it.
            fresh: Whether a connection that was used before is not good enough.
        """
        while self._idle and not fresh:
            connection = self._idle.pop()
            if _is_open(connection):
                if call.connected(connection):
                    connection.call(call, request, body)
                else:
                    self.free(connection)
                return
        self._open(call, request, body)

    def _open(self, call: Call | None, request: bytes = b"", body: bytes = b"") -> None:
        task = asyncio.get_running_loop().create_task(self._connect(call, request, body))
        self._opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.result()

    async def _connect(self, call: Call | None, request: bytes, body: bytes) -> None:
        try:
            connection = await self._connection()
        except (OSError, TimeoutError) as error:
            # Not the error's own text, which for a port is the loop's and not the system's.
            self._gone(os.strerror(error.errno) if error.errno else "no connection in time")
            if call is not None:
                call.failed("refused", "")
            return
        self._came()
        if call is None:
            self.free(connection)
        elif connection.transport is None:
            call.failed("closed", "")
        elif call.connected(connection):
            connection.call(call, request, body)
        else:
            connection.abort()

    async def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        unix = bool(self.address.path)
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            sock.setblocking(False)
            if unix:
                sock.connect(self.address.path)  # Never waits: accepted, or refused.
                self._see(peer_pid(sock))
                _, connection = await loop.create_unix_connection(self._make, sock=sock)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.sock_connect(sock, (self.address.host, self.address.port))
                _, connection = await loop.create_connection(self._make, sock=sock)
        except BaseException:
            sock.close()
            raise
        connection.socket = sock
        return connection

    def _see(self, pid: int) -> None:
        if pid != self._pid:
            self._pid = pid
            self._served_by(pid)

    def _make(self) -> Connection:
        connection = Connection(self)
        self._connections.add(connection)
        return connection

    # --- The pool ------------------------------------------------------------------------------

    def free(self, connection: Connection) -> None:
        """Keep a connection for the next call."""
        connection.free_since = time.monotonic()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweep_in(IDLE_SECONDS)

    def lost(self, connection: Connection) -> None:
        """Take note that a connection has ended."""
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _sweep_in(self, seconds: float) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long; the last used is taken first, so these are few."""
        self._sweeping = None
        until = time.monotonic() - IDLE_SECONDS
        kept = []
        for connection in self._idle:
            if connection.free_since > until:
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept
        if kept:
            self._sweep_in(max(0.01, kept[0].free_since - until))

    # --- Whether it is there -------------------------------------------------------------------

    def _look(self) -> None:
        self._looking = None
        self._open(None)

    def _came(self) -> None:
        self._backoff.reset()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if not self.there:
            self.there, self.since = True, time.monotonic()
            self._turned()

    def _gone(self, why: str) -> None:
        self.why = why
        if self._closed:
            return
        if self._looking is None:
            wait_ms = self._backoff.take()
            self._looking = asyncio.get_running_loop().call_later(wait_ms / 1000, self._look)
        if self.there:
            self.there, self.since = False, time.monotonic()
            self._turned()

    def facts(self) -> str:
        """Return what people may want to know of it."""
        seconds = int(time.monotonic() - self.since)
        if self.there:
            return f"answers at {self.address}"
        return f"waiting for {self.address} ({seconds} s): {self.why}"
