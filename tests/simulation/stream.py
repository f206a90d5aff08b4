"""Hop L: a stream in order in both directions, which breaks when one of its processes dies."""

from typing import TYPE_CHECKING, Protocol

from protocol import codec
from protocol.messages import Message
from tests.simulation.world import MS, Action, World

if TYPE_CHECKING:
    from tests.simulation.sidecar_process import SidecarProcess


class Client(Protocol):
    """An app or a service at its end of a stream."""

    name: str

    def run(self, action: Action) -> None:
        """Do something in its process."""

    def received(self, message: Message) -> None:
        """Take a message."""

    def closed(self) -> None:
        """Take note that the sidecar's end has gone."""


class Stream:
    """One connection to ``sidecar.sock``."""

    def __init__(self, world: World, number: int, sidecar: "SidecarProcess", client: Client):
        self._world = world
        self.number = number
        self.sidecar = sidecar
        self.client = client
        self.client_end = True
        self.sidecar_end = True
        self._last_up = self._last_down = 0

    def _note(self, what: str, message: Message) -> None:
        data = codec.encode(message) if self._world.traced else b""
        self._world.note(what, message, data)

    def _arrival(self, last: int) -> int:
        return max(last, self._world.now + self._world.rng.randrange(20, MS))

    def to_sidecar(self, message: Message) -> None:
        """Write at the client's end."""
        if not self.client_end:
            return
        self._note(f"{self.client.name} >", message)
        self._last_up = self._arrival(self._last_up)
        self._world.at(self._last_up, lambda: self.sidecar.run(lambda: self._up_arrived(message)))

    def _up_arrived(self, message: Message) -> None:
        if self.sidecar_end:
            self.sidecar.from_local(self, message)

    def to_client(self, message: Message) -> None:
        """Write at the sidecar's end."""
        self._note(f"> {self.client.name}", message)
        self._last_down = self._arrival(self._last_down)
        self._world.at(
            self._last_down, lambda: self.client.run(lambda: self._down_arrived(message))
        )

    def _down_arrived(self, message: Message) -> None:
        if self.client_end:
            self.client.received(message)

    def close_client(self, *, loses: bool = False) -> None:
        """Close the client's end, or lose it with its process.

        Args:
            loses: What was written and not read is lost, as when the kernel resets a stream.
        """
        self.client_end = False
        if loses:
            self.sidecar_end = False
        self._last_up = self._arrival(self._last_up)
        self._world.at(self._last_up, lambda: self.sidecar.run(self._client_gone))

    def _client_gone(self) -> None:
        self.sidecar_end = False
        self.sidecar.stream_closed(self)

    def close_sidecar(self) -> None:
        """Close the sidecar's end, or lose it with its process; what it wrote still arrives."""
        self.sidecar_end = False
        self._last_down = self._arrival(self._last_down)
        self._world.at(self._last_down, lambda: self.client.run(self._sidecar_gone))

    def _sidecar_gone(self) -> None:
        if self.client_end:
            self.client_end = False
            self.client.closed()
