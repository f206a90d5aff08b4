"""One connection to the sidecar's socket: bytes to messages and back, on asyncio.

Knows no rule of the protocol beyond its frames; what the messages mean is told by ``Link``.
"""

import asyncio
from typing import Protocol, cast

from protocol.errors import ProtocolError
from protocol.local import Reader
from protocol.messages import Message


class Receiver(Protocol):
    """What a connection tells its owner."""

    def received(self, messages: list[Message]) -> None:
        """Messages have arrived."""

    def drained(self) -> None:
        """The connection is writable again."""

    def lost(self, reason: str) -> None:
        """The connection is gone; nothing more will be told."""


class Connection(asyncio.Protocol):
    """Frames out, messages in, until either side closes.

    The transport's own buffer is kept empty: ``writable`` is False while the kernel has not taken
    everything, and nothing may be written then. So what was written while it is True has reached
    the kernel, which the order of outcomes and slots relies on.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._reader = Reader(expect_magic=False)
        self._transport: asyncio.Transport | None = None
        self._reason = "the sidecar closed the connection"
        self.writable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance.
        self._transport.set_write_buffer_limits(high=0)
        self.writable = True

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            messages = self._reader.feed(data)
        except ProtocolError as error:
            self.abort(f"the sidecar broke the protocol: {error}")
            return
        if messages:
            self._receiver.received(messages)

    def pause_writing(self) -> None:
        """Called by the loop when the kernel did not take everything."""
        self.writable = False

    def resume_writing(self) -> None:
        """Called by the loop when the kernel has taken everything."""
        self.writable = True
        self._receiver.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.writable = False
        self._transport = None
        self._receiver.lost(self._reason if exc is None else f"{type(exc).__name__}: {exc}")

    def write(self, data: bytes) -> bool:
        """Write whole frames, only while ``writable``; return whether the kernel has them all."""
        assert self.writable
        assert self._transport is not None
        self._transport.write(data)
        return self.writable

    def close(self) -> None:
        """Close when everything is written."""
        self._reason = "closed"
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once."""
        self._reason = reason
        self.writable = False
        if self._transport is not None:
            self._transport.abort()
