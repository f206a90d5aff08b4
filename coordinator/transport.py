"""The ROUTER socket to which sidecars connect: bytes in, bytes out, nothing of their meaning.

The only importer of zmq here. The socket is read and written without waiting, on the event loop's
thread: an asyncio future per message would cost more than the message. ZeroMQ's descriptor is
edge-triggered, so every wake-up reads until nothing is left, and every send, which may swallow an
edge, is followed by a look at what has arrived.
"""

import asyncio
from collections.abc import Callable

import zmq

from protocol.limits import FRAME_BYTES_MAX

HANDSHAKE_MS = 5_000
"""A connection that does not finish its handshake holds a descriptor; not for longer than this."""
MESSAGES_PER_PEER_MAX = 2_000
"""Messages that may wait for one sidecar. Each is bounded, and a sidecar that does not read what
answers its own requests is cut off by its session's deadline."""
READ_BATCH = 256
"""Messages taken in one turn, so that timers and commits get their turn under a flood."""
_UNREACHABLE = (zmq.EHOSTUNREACH, zmq.EAGAIN)


class Transport:
    """The coordinator's end of hop S.

    Args:
        receive: Called with the frames of each message, routing id first.
        received: Called when there is nothing more to take at the moment.
    """

    def __init__(
        self, receive: Callable[[list[bytes]], None], received: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._received = received
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._again: asyncio.Handle | None = None
        self.dropped = 0
        """Messages whose peer had gone or did not read; a sidecar asks again for what it misses."""

    def start(self, bind: str) -> str:
        """Bind, begin to receive, and return the address that was bound.

        Raises:
            OSError: The address cannot be bound.
        """
        socket = self._context.socket(zmq.ROUTER)
        self._socket = socket
        socket.linger = 0
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.SNDHWM, MESSAGES_PER_PEER_MAX)
        socket.setsockopt(zmq.RCVHWM, MESSAGES_PER_PEER_MAX)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        try:
            socket.bind(bind)
        except zmq.ZMQError as error:
            self.stop()
            raise OSError(
                error.errno, f"cannot bind {bind}: {error.strerror}; is a coordinator running?"
            ) from None
        asyncio.get_running_loop().add_reader(socket.FD, self._readable)
        self._look_again()
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def stop(self) -> None:
        """Close the socket; may come early, may come twice."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._socket is not None:
            if not self._socket.closed:
                asyncio.get_running_loop().remove_reader(self._socket.FD)
                self._socket.close()
            self._socket = None
        self._context.term()

    def send(self, peer: bytes, data: bytes) -> bool:
        """Send without waiting; return False if the peer has gone or does not read."""
        socket = self._socket
        if socket is None:
            return False
        try:
            socket.send(peer, zmq.SNDMORE | zmq.NOBLOCK)
            socket.send(data, zmq.NOBLOCK, copy=len(data) < 65_536)
        except zmq.ZMQError as error:
            if error.errno not in _UNREACHABLE:
                raise
            self.dropped += 1
            return False
        return True

    def look(self) -> None:
        """Look for messages in the next turn; to be called after a burst of sends, and by timers.

        A wake-up that was swallowed would otherwise leave messages lying until the next one comes.
        """
        self._look_again()

    def _look_again(self) -> None:
        if self._again is None and self._socket is not None:
            self._again = asyncio.get_running_loop().call_soon(self._readable)

    def _readable(self) -> None:
        self._again = None
        socket = self._socket
        if socket is None:
            return
        for _ in range(READ_BATCH):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._receive(parts)
        else:
            self._look_again()
        self._received()
