"""The DEALER socket to the coordinator: bytes in, bytes out, nothing of their meaning.

The only importer of zmq here. ZeroMQ connects again by itself but tells nobody, and what was under
way is lost; a monitor socket tells when a connection stands and when it breaks, so that the core
can greet at once. Both descriptors are edge-triggered: every wake-up reads until nothing is left,
and every burst of sends, which may swallow an edge, is followed by a look.

On one connection nothing that was given to ``send`` is left out: what ZeroMQ does not take waits
here, and if too much waits the connection is replaced. The core relies on it: it says again what
was lost with a connection, and nothing else.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.limits import FRAME_BYTES_MAX

RECONNECT_MS_MIN = 100
RECONNECT_MS_JITTER = 100
"""Drawn anew by each process, so that a thousand sidecars do not come back in step."""
RECONNECT_MS_MAX = 2_000
HANDSHAKE_MS = 5_000
MESSAGES_MAX = 10_000
UNSENT_BYTES_MAX = 32 * 2**20
"""What may wait for ZeroMQ to take it; beyond it the coordinator is not reading."""
READ_BATCH = 256
"""Messages taken in one turn, so that timers and services get theirs under a flood."""
CLOSE_LINGER_MS = 500
"""How long a goodbye may take to leave."""
_EVENTS = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED


class Transport:
    """The sidecar's end of hop S.

    Args:
        address: The coordinator's.
        receive: Called with the frames of each message.
        up: Called when a fresh connection stands.
        down: Called when it has broken.
        turned: Called after each turn in which anything came.
    """

    def __init__(
        self,
        address: str,
        *,
        receive: Callable[[list[bytes]], None],
        up: Callable[[], None],
        down: Callable[[], None],
        turned: Callable[[], None],
    ) -> None:
        self._address = address
        self._receive = receive
        self._up = up
        self._down = down
        self._turned = turned
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._again: asyncio.Handle | None = None
        self._connected = False
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0

    def start(self) -> None:
        """Begin to connect.

        Raises:
            OSError: The address is none.
        """
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        socket.setsockopt(
            zmq.RECONNECT_IVL,
            RECONNECT_MS_MIN + random.randrange(RECONNECT_MS_JITTER),
        )
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.SNDHWM, MESSAGES_MAX)
        socket.setsockopt(zmq.RCVHWM, MESSAGES_MAX)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        monitor = socket.get_monitor_socket(_EVENTS)
        try:
            socket.connect(self._address)
        except zmq.ZMQError as error:
            socket.disable_monitor()
            monitor.close(0)
            socket.close()
            raise OSError(
                error.errno, f"cannot connect to {self._address}: {error.strerror}"
            ) from None
        self._socket, self._monitor = socket, monitor
        loop = asyncio.get_running_loop()
        loop.add_reader(socket.FD, self._readable)
        loop.add_reader(monitor.FD, self._readable)
        self.look()

    def stop(self) -> None:
        """Close, and let a goodbye leave; may come early, may come twice."""
        self._close(CLOSE_LINGER_MS)
        self._context.term()

    def reconnect(self) -> None:
        """Replace the connection by a fresh one: nothing of the old one arrives any more."""
        self._close(0)
        self.start()

    def _close(self, linger_ms: int) -> None:
        self._disconnected()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._socket is not None and self._monitor is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.FD)
            loop.remove_reader(self._monitor.FD)
            self._socket.disable_monitor()
            self._monitor.close(0)  # Not closed by the line above, and the context waits for it.
            self._socket.close(linger_ms)
        self._socket = self._monitor = None

    # --- Out -----------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send without waiting; without a connection the message is dropped."""
        if not self._connected:
            return
        if not self._unsent and self._sent(data):
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > UNSENT_BYTES_MAX:
            self.reconnect()
            self._down()
            self._turned()

    def _sent(self, data: bytes) -> bool:
        assert self._socket is not None
        try:
            self._socket.send(data, zmq.NOBLOCK, copy=len(data) < 65_536)
        except zmq.Again:
            return False
        return True

    def _send_waiting(self) -> None:
        while self._unsent and self._sent(self._unsent[0]):
            self._unsent_bytes -= len(self._unsent.popleft())

    def look(self) -> None:
        """Look for messages in the next turn; to be called after sends, and by timers."""
        if self._again is None and self._socket is not None:
            self._again = asyncio.get_running_loop().call_soon(self._readable)

    # --- In ------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        came = self._watch()
        for _ in range(READ_BATCH):
            parts = self._received()
            if parts is None:
                break
            came = True
            self._receive(parts)
        else:
            self.look()
        self._send_waiting()
        if came:
            self._turned()

    def _received(self) -> list[bytes] | None:
        if self._socket is None:
            return None
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def _watch(self) -> bool:
        """Pass on what the monitor tells; return whether it told anything."""
        came = False
        while self._monitor is not None:
            try:
                parts = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            came = True
            if parse_monitor_message(parts)["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
                self._stands()
            else:
                self._disconnected()
                self._down()
        if not self._connected and self._writable():
            # The monitor may lose an event; only a connection that stands takes messages.
            self._stands()
            came = True
        return came

    def _stands(self) -> None:
        if self._connected:
            return
        self._connected = True
        # Before it is greeted the coordinator says nothing: this is from an earlier connection.
        while self._received() is not None:
            pass
        self._up()

    def _disconnected(self) -> None:
        self._connected = False
        self._unsent.clear()
        self._unsent_bytes = 0

    def _writable(self) -> bool:
        if self._socket is None:
            return False
        events = self._socket.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        return bool(events & zmq.POLLOUT)
