"""A store in memory of which one call fails, counted from its opening on."""

from collections.abc import Sequence

from coordinator.core.effects import Read
from coordinator.errors import StoreError, Unknown
from coordinator.store.base import Ownership, Result, Store, StoreStats, Writes
from coordinator.store.memory_store import MemoryDisk, MemoryStore


class FaultyStore(Store):
    """One owner of a disk.

    Args:
        disk: Outlives this store.
        fail_at: Which call fails; 1 is the opening, 0 is none.
        after: Whether the call has its effect before it fails.
    """

    def __init__(self, disk: MemoryDisk, fail_at: int = 0, *, after: bool = False) -> None:
        self.calls = 0
        self.failed = False
        self._inner = MemoryStore(disk)
        self._fail_at = fail_at
        self._after = after

    async def open(self) -> Ownership:
        """Take the disk."""
        self._before()
        ownership = await self._inner.open()
        self._afterwards()
        return ownership

    async def apply(self, writes: Writes, reads: Sequence[Read] = ()) -> list[Result]:
        """Commit and read."""
        self._before()
        results = await self._inner.apply(writes, reads)
        self._afterwards()
        return results

    async def stats(self) -> StoreStats:
        """Return how full it is; not counted: a coordinator asks for it by its own clock."""
        if self.failed:
            raise StoreError("the store has failed before")
        return await self._inner.stats()

    async def close(self) -> None:
        """Give the disk back."""
        await self._inner.close()

    def _before(self) -> None:
        if self.failed:
            raise StoreError("the store has failed before")
        self.calls += 1
        if self.calls == self._fail_at and not self._after:
            self._fail()

    def _afterwards(self) -> None:
        if self.calls == self._fail_at:
            self._fail()

    def _fail(self) -> None:
        self.failed = True
        raise Unknown("a call failed and may or may not have taken place (injected)")
