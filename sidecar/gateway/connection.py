"""One connection of an app or service: bytes to messages and back, bounded both ways."""

import asyncio
from typing import Protocol, cast

from protocol import local
from protocol.errors import ProtocolError
from protocol.messages import Message

UNREAD_BYTES_MAX = 16 * 2**20
"""What may wait for a peer that does not read; beyond it the connection is closed."""


class Owner(Protocol):
    """Who is told of a connection's life."""

    def opened(self, connection: "Connection") -> bool:
        """Take a new connection; False turns it away."""

    def received(self, connection: "Connection", message: Message) -> None:
        """Take a message."""

    def broke(self, connection: "Connection", error: ProtocolError) -> None:
        """Take note that the peer broke the protocol."""

    def turned(self) -> None:
        """Something was taken in this turn."""

    def closed(self, connection: "Connection") -> None:
        """Take note that the connection has ended."""


class Connection(asyncio.Protocol):
    """A connection on ``sidecar.sock``.

    Its first bytes decide the protocol. The native one begins with ``LOCAL_MAGIC``; what begins
    otherwise is refused by the reader. Here is the place to look for an HTTP method instead.
    """

    def __init__(self, number: int, owner: Owner) -> None:
        self.number = number
        self._owner = owner
        self._reader: local.Reader | None = local.Reader(expect_magic=True)
        self.transport: asyncio.Transport | None = None
        self._accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the owner, which may turn the connection away."""
        self.transport = cast(asyncio.Transport, transport)
        self._accepted = self._owner.opened(self)
        if not self._accepted:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that the bytes complete."""
        if self._reader is None:
            return
        try:
            messages = self._reader.feed(data)
        except ProtocolError as error:
            self._reader = None
            self._owner.broke(self, error)
        else:
            for message in messages:
                self._owner.received(self, message)
        self._owner.turned()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner."""
        self.transport = None
        if self._accepted:
            self._owner.closed(self)

    def write(self, data: bytes) -> bool:
        """Write; return False if the peer does not read and was cut off."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return True
        transport.write(data)
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            transport.abort()
            return False
        return True

    def close(self) -> None:
        """Close once what was written has left."""
        self._reader = None
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()
