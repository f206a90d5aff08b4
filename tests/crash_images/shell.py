"""A shard and its store, with the order of ``coordinator.runtime`` and clocks moved by hand.

Sends go into a list instead of a socket; everything else is real. ``Witness`` is told of each
commit before it is begun and after it is done, and of each message that leaves.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from coordinator.core.config import Config
from coordinator.core.effects import Effects, GetMany, Note, Now, Outgoing, Read
from coordinator.core.layout import payload_key
from coordinator.core.payloads import fill
from coordinator.core.shard import Answered, Event, NotFilled, Received, Sent, Shard, Tick
from coordinator.store.base import Ownership, Result, Store, Writes
from protocol.messages import Message

ROUNDS_MAX = 2_000


class Witness(Protocol):
    """Whoever wants to know what becomes durable, and what is told to others."""

    def opening(self) -> None:
        """The store is about to be opened."""

    def opened(self, ownership: Ownership) -> None:
        """The store has been opened."""

    def begins(self, writes: Writes) -> None:
        """A commit is about to be made."""

    def done(self) -> None:
        """The commit has been made."""

    def leaves(self, outgoing: Outgoing) -> None:
        """A message leaves; payloads stored apart are in it."""


class Shell:
    """One life of a coordinator's shard.

    Args:
        store: Not opened yet.
        now: Returns both clocks.
        witness: Told of everything that counts.
        config: Settings of the shard beside store and epoch.
    """

    def __init__(
        self, store: Store, now: Callable[[], Now], witness: Witness | None = None, **config: Any
    ) -> None:
        self.store = store
        self.sent: list[Outgoing] = []
        """What has left since this was last emptied."""
        self.notes: list[Note] = []
        self.ownership: Ownership
        self.shard: Shard
        self._now = now
        self.witness = witness
        self._config = config

    async def start(self) -> None:
        """Open the store and recover."""
        await self.open()
        await self.recover()

    async def open(self) -> None:
        """Open the store."""
        if self.witness is not None:
            self.witness.opening()
        self.ownership = ownership = await self.store.open()
        if self.witness is not None:
            self.witness.opened(ownership)

    async def recover(self) -> None:
        """Bring the shard's memory back from the store."""
        owned = self.ownership
        self.shard = Shard(Config(store=owned.uuid, epoch=owned.epoch, **self._config))
        for _ in range(ROUNDS_MAX):
            if self.shard.recovered:
                return
            await self._carry_out(self.shard.flush(self._now()))
        raise AssertionError("recovery does not end")

    async def say(self, peer: bytes, *messages: Message) -> None:
        """Let messages of one peer arrive together, and do all that follows."""
        for message in messages:
            self.step(Received(peer, message))
        await self.settle()

    async def tick(self) -> None:
        """Do what is due."""
        for _ in range(ROUNDS_MAX):
            await self.settle()
            if self.shard.next_due_ms(self._now()) != 0:
                return
            self.step(Tick())
        raise AssertionError("the shard ticks for ever")

    def step(self, event: Event) -> None:
        """Apply an event; what may leave at once leaves."""
        answer = self.shard.step(self._now(), event)
        if answer is not None:
            self._send(answer)

    async def settle(self) -> None:
        """Carry out effects until nothing is left to do."""
        for _ in range(ROUNDS_MAX):
            effects = self.shard.flush(self._now())
            if not effects:
                return
            await self._carry_out(effects)
        raise AssertionError("the shard never comes to rest")

    async def _carry_out(self, effects: Effects) -> None:
        self.notes += effects.notes
        grants = [outgoing for outgoing in effects.messages if outgoing.payloads]
        reads: list[Read] = [ask.read for ask in effects.reads]
        reads += [GetMany([payload_key(i) for i in outgoing.payloads]) for outgoing in grants]
        results: Any = await self.apply(effects.writes, reads)
        payloads: dict[bytes, bytes] = {}
        for found in results[len(effects.reads) :]:
            payloads.update(found)
        after: list[Event] = []
        for outgoing in effects.messages:
            message = outgoing
            if outgoing.payloads:
                message, session, spoiled = fill(outgoing, payloads)
                if spoiled:
                    after.append(NotFilled(session, spoiled))
            self._send(message)
        if effects.messages:
            self.step(Sent(effects))
        for event in after:
            self.step(event)
        for ask, result in zip(effects.reads, results, strict=False):
            self.step(Answered(ask.number, result))

    async def apply(self, writes: Writes, reads: Sequence[Read]) -> Sequence[Result]:
        """Commit, and let the witness know."""
        if not writes and not reads:
            return []
        if not writes or self.witness is None:
            return await self.store.apply(writes, reads)
        self.witness.begins(writes)
        results = await self.store.apply(writes, reads)
        self.witness.done()
        return results

    def _send(self, outgoing: Outgoing) -> None:
        self.sent.append(outgoing)
        if self.witness is not None:
            self.witness.leaves(outgoing)
