"""One connection of an app or service: bytes to messages and back, bounded both ways."""

import asyncio
from typing import Protocol, cast

from protocol import local
from protocol.errors import LimitExceeded, ProtocolError
from protocol.messages import Message
from protocol.version import LOCAL_MAGIC
from sidecar.gateway.peer import Owner

UNREAD_BYTES_MAX = 16 * 2**20
"""What may wait for a peer that does not read; beyond it the connection is closed."""


class Host(Owner, Protocol):
    """Who owns the connections of a socket."""

    def opened(self, connection: "Connection") -> bool:
        """Take a new connection; False turns it away."""

    def speaks_http(self, connection: "Connection", data: bytes) -> None:
        """Go on with a connection that began with ``data``, which is not the native magic."""


class Connection(asyncio.Protocol):
    """A connection on ``sidecar.sock``.

    Its first bytes decide the protocol: the native one begins with ``LOCAL_MAGIC``; what begins
    otherwise is given up to whoever speaks HTTP.
    """

    def __init__(self, number: int, owner: Host) -> None:
        self.number = number
        self._owner = owner
        self._first: bytes | None = b""
        """What has come so far, until it tells the protocol."""
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
        if self._first is not None:
            self._first = data = self._first + data
            if not LOCAL_MAGIC.startswith(data[: len(LOCAL_MAGIC)]):
                self._reader = None
                self._owner.speaks_http(self, data)
                return
            if len(data) < len(LOCAL_MAGIC):
                return
            self._first = None
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

    def deliver(self, messages: list[Message]) -> None:
        """Write messages, all in one piece; cut off a peer that does not read."""
        frames = []
        for message in messages:
            try:
                frames.append(local.frame(message))
            except LimitExceeded as error:
                facts: dict[str, int | str] = {"connection": self.number, "detail": error.detail}
                self._owner.alarm("message_too_large", facts)
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            transport.abort()
            self._owner.alarm("connection_does_not_read", {"connection": self.number})

    def close(self) -> None:
        """Close once what was written has left."""
        self._reader = None
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()
