"""Who may be at the other end of a connection number, whatever protocol it speaks."""

from typing import Protocol

from protocol.errors import ProtocolError
from protocol.messages import Message


class Peer(Protocol):
    """One app or service: on a native connection, on one that speaks HTTP, or in this process."""

    number: int
    """Given by the gateway, and never used twice."""

    def deliver(self, messages: list[Message]) -> None:
        """Take what the sidecar tells it; called at most once per turn of the loop."""

    def close(self) -> None:
        """Close once what was delivered has left."""

    def abort(self) -> None:
        """Close at once."""


class Owner(Protocol):
    """Who is told of a peer's life: the gateway."""

    def received(self, peer: Peer, message: Message) -> None:
        """Take a message."""

    def broke(self, peer: Peer, error: ProtocolError) -> None:
        """Take note that the peer broke the protocol."""

    def turned(self) -> None:
        """Something was taken in this turn."""

    def closed(self, peer: Peer) -> None:
        """Take note that the peer is gone."""

    def alarm(self, name: str, facts: dict[str, int | str]) -> None:
        """Take note of what an operator may want to read."""
