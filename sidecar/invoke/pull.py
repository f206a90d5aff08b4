"""Invoking a handler when somebody asks for its next task: each waiting request takes one.

What a reader does between taking a task and telling its outcome cannot be seen, so the attempt's
timeout and the handler's heartbeat are all that ends it. Told to stop, it hears so from its next
heartbeat, and has the grace to end.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from protocol.messages import Message, Refused
from sidecar.invoke.handlers import Handler
from sidecar.invoke.host import Attempt, Host, House

LINGER_SECONDS = 60.0
"""A handler that was declared by its first reader is withdrawn so long after its last one."""


class Reader(Protocol):
    """Somebody who waits for a task of any of some handlers."""

    def take(self, attempt: Attempt) -> None:
        """Take an attempt, and wait no more."""

    def refused(self, refused: Refused) -> None:
        """Take note that a handler cannot be served."""


class PullHost(Host):
    """One handler that is asked for.

    Args:
        number: Given by the gateway.
        handler: What is asked for.
        house: What it shares with the other hosts.
        forget: Called when nobody has asked for a while; None for a handler of the settings.
    """

    def __init__(
        self,
        number: int,
        handler: Handler,
        house: House,
        forget: Callable[["PullHost"], None] | None = None,
    ) -> None:
        super().__init__(number, handler, house)
        self._readers: dict[Reader, None] = {}
        self._forget = forget
        self._lingering: asyncio.TimerHandle | None = None

    def room(self) -> int:
        """Return how many readers wait, as far as there are slots."""
        return min(len(self._readers), self.handler.slots - len(self.running))

    def wait(self, reader: Reader) -> None:
        """Add a reader."""
        self._readers[reader] = None
        self.changed()

    def unwait(self, reader: Reader) -> None:
        """Remove a reader."""
        if self._readers.pop(reader, self) is None:
            self.changed()

    def begin(self, attempt: Attempt) -> None:
        """Give the task to who has waited longest."""
        reader = next(iter(self._readers), None)
        if reader is None:
            self.give_back(attempt)  # It left in this very turn.
        else:
            reader.take(attempt)

    def stop(self, attempt: Attempt, grace_ms: int) -> None:
        """Wait for the grace: the next heartbeat tells the reader to stop."""
        if attempt.work is not None:
            attempt.work.cancel()

        def over() -> None:
            attempt.settle(attempt.reason)

        attempt.work = asyncio.get_running_loop().call_later(grace_ms / 1000, over)

    def dismiss(self) -> None:
        """Let all readers go."""
        gone = self.refused or Refused("stopping", "the sidecar stops", 1_000)
        for reader in list(self._readers):
            reader.refused(gone)

    def leave(self) -> None:
        """Let all readers go."""
        if self._lingering is not None:
            self._lingering.cancel()
        for attempt in self.running:
            if attempt.work is not None:
                attempt.work.cancel()
        self.dismiss()

    def deliver(self, messages: list[Message]) -> None:
        """Take what the core tells; a refusal goes to the readers."""
        super().deliver(messages)
        if self.refused is not None:
            self.dismiss()

    def changed(self) -> None:
        """Have the core told; look later whether anybody still asks."""
        super().changed()
        if self._forget is not None and self._lingering is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(LINGER_SECONDS, self._look_for_readers)

    def _look_for_readers(self) -> None:
        self._lingering = None
        if self._readers or self.running:
            self.changed()
        elif self._forget is not None:
            self._forget(self)
            self.close()

    def facts(self) -> str:
        """Return what people may want to know of it."""
        return f"pull, {len(self.running)} run, {len(self._readers)} readers wait"
