"""A store in memory, for tests and the simulator: the same contract, and faults on request.

A ``MemoryDisk`` outlives the ``MemoryStore`` that uses it, as a file outlives a process: a second
store on the same disk takes it over, and the first one is fenced from then on. Every call finishes
without waiting; a simulator adds its own delays.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

from coordinator.core.effects import GetMany, Read, Scan
from coordinator.errors import Fenced, StoreError, Unknown
from coordinator.store.base import KEY_BYTES_MAX, Ownership, Result, Store, StoreStats, Writes


class MemoryDisk:
    """What would be on a disk: pairs in key order, and the number of the present ownership."""

    def __init__(self, uuid: bytes = bytes(range(16))) -> None:
        self.uuid = uuid
        self.epoch = 0
        self.clean = True
        self.pairs: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def write(self, writes: Writes) -> None:
        """Put and delete."""
        for key, value in writes.items():
            if value is not None:
                if key not in self.pairs:
                    insort(self.keys, key)
                self.pairs[key] = value
            elif self.pairs.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]

    def read(self, read: Read) -> Result:
        """Do one read."""
        match read:
            case GetMany(keys):
                return {key: self.pairs[key] for key in keys if key in self.pairs}
            case Scan(start, end, limit, reverse):
                first, last = bisect_left(self.keys, start), bisect_left(self.keys, end)
                limit = max(limit, 0)
                if reverse:
                    keys = self.keys[max(first, last - limit) : last][::-1]
                else:
                    keys = self.keys[first : min(last, first + limit)]
                return [(key, self.pairs[key]) for key in keys]


class MemoryStore(Store):
    """One owner of a disk in memory."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self.commits = 0
        self._epoch = 0
        self._failure: StoreError | None = None
        self._fault: tuple[int, bool] | None = None

    def fail_commit(self, number: int, *, committed: bool) -> None:
        """Let the ``number``-th commit from now (1 is the next) fail with ``Unknown``.

        Args:
            number: Which commit; calls without writes are not counted.
            committed: The writes took place, and only the answer was lost.
        """
        assert number >= 1
        self._fault = (self.commits + number, committed)

    async def open(self) -> Ownership:
        """Take the disk; whoever had it is fenced."""
        assert self._epoch == 0, "a store is opened once"
        disk = self.disk
        created, clean = disk.epoch == 0, disk.clean
        disk.epoch += 1
        disk.clean = False
        self._epoch = disk.epoch
        return Ownership(uuid=disk.uuid, epoch=disk.epoch, created=created, clean=clean)

    async def apply(self, writes: Writes, reads: Sequence[Read] = ()) -> list[Result]:
        """Commit the writes and do the reads; see ``Store.apply``."""
        self._check()
        if writes:
            self._commit(writes)
        return [self.disk.read(read) for read in reads]

    async def stats(self) -> StoreStats:
        """Return the bytes of all pairs as used; there is no disk to be full."""
        self._check()
        pairs = self.disk.pairs
        used = sum(len(key) + len(value) for key, value in pairs.items())
        return StoreStats(len(pairs), used, 0, used, 0, 0)

    async def close(self) -> None:
        """Give the disk back."""
        if self._epoch == self.disk.epoch and self._failure is None:
            self.disk.clean = True
        self._failure = self._failure or StoreError("the store is closed")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        assert self._epoch, "the store is not open"

    def _commit(self, writes: Writes) -> None:
        # As strict as the strictest store, so that tests in memory find what LMDB would refuse.
        for key, value in writes.items():
            assert 1 <= len(key) <= KEY_BYTES_MAX and key[0], key
            assert value is None or type(value) is bytes, key
        if self.disk.epoch != self._epoch:
            self._failure = Fenced("the store has a later owner; this process must stop")
            raise self._failure
        self.commits += 1
        fails = self._fault is not None and self._fault[0] == self.commits
        if not fails or (self._fault is not None and self._fault[1]):
            self.disk.write(writes)
        if fails:
            self._failure = Unknown(
                "a commit failed and may or may not have taken place (injected)"
            )
            raise self._failure
