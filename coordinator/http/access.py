"""What endpoints may use of a running coordinator: they look, and ask the core for changes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.core.effects import Now, Read
from coordinator.core.ledger import Ledger
from coordinator.core.operations import Done, Operation, Refusal
from coordinator.core.shard import Shard
from coordinator.observation import Observation
from coordinator.settings import Settings
from coordinator.store.base import Ownership


@dataclass(frozen=True, slots=True)
class Access:
    """A coordinator, as its HTTP side sees it."""

    settings: Settings
    ownership: Ownership
    shard: Shard
    observation: Observation
    now: Callable[[], Now]
    read: Callable[[Sequence[Read]], Awaitable[Sequence[Any]]]
    """Read from the store, after what is under way."""
    copy: Callable[[int], None]
    """Write a copy of the store to a descriptor; blocks."""
    measure: Callable[[], Awaitable[None]]
    """Look how full the store is."""
    operate: Callable[[Operation], Awaitable[Done | Refusal]]
    """Ask the core for something; the answer comes when it is durable."""
    address: str
    """Where sidecars connect."""

    @property
    def ledger(self) -> Ledger:
        """Memory of the core."""
        return self.shard.ledger
