"""The coordinator's disk: commits take time, and may be lost, kept unseen, or refused."""

from collections.abc import Callable, Sequence

from coordinator.core.effects import Read
from coordinator.store.base import Result, Writes
from coordinator.store.memory_store import MemoryDisk
from tests.simulation.world import MS, World

Committed = Callable[[Writes], None]


class Disk:
    """What outlives the coordinator's processes.

    Args:
        world: The world.
        committed: Called with each commit, at the moment when it has become durable.
    """

    def __init__(self, world: World, committed: Committed) -> None:
        self._world = world
        self._committed = committed
        self._memory = MemoryDisk()
        self.uuid = self._memory.uuid
        self.epoch = 0
        self.commit_us = world.rng.choice((100, 500, 2 * MS, 8 * MS))
        self.slow_until = 0
        self.fails_next = False
        self.refusal = ""
        """Why submissions are to be refused: the disk is nearly full."""

    @property
    def pairs(self) -> dict[bytes, bytes]:
        """What is durable."""
        return self._memory.pairs

    def takes_us(self, writes: Writes) -> int:
        """Return how long the next call takes."""
        rng = self._world.rng
        if self._world.now < self.slow_until:
            return self._world.between(50 * MS, 1_500 * MS)
        return int((self.commit_us if writes else 50) * (0.5 + rng.random()))

    def write(self, writes: Writes) -> None:
        """Make a commit durable."""
        self._world.note("commit", len(writes), b"".join(writes))
        self._memory.write(writes)
        self._committed(writes)

    def read(self, reads: Sequence[Read]) -> list[Result]:
        """Do reads."""
        return [self._memory.read(read) for read in reads]

    def fails(self) -> bool:
        """Return whether this commit fails with an unknown outcome."""
        fails, self.fails_next = self.fails_next, False
        return fails
