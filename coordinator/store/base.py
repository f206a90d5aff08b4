"""The store interface: an ordered key-value space with an atomic, durable, fenced commit.

Batch-sized and asynchronous, so that an engine across a network fits behind it as well as a file.
It knows nothing of tasks: keys and values are bytes, and their layout belongs to the caller.

Keys have 1 to ``KEY_BYTES_MAX`` bytes and do not begin with a zero byte, where stores keep what is
their own. A store belongs to one owner at a time; taking ownership raises the epoch, and a commit
by an earlier owner is refused inside its transaction.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.core.effects import Read
from coordinator.errors import StoreError

KEY_BYTES_MAX = 511
"""What LMDB 0.9 takes; other stores keep to it, so that one layout serves all."""
FORMAT = 2
"""The version of everything in a store: its own record, key layout and record encoding."""


Pair = tuple[bytes, bytes]
Result = dict[bytes, bytes] | list[Pair]
Writes = Mapping[bytes, bytes | None]
"""What one commit changes: a value to put, or None to delete (a missing key is fine)."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What taking a store gave: who it is, and the number of this ownership."""

    uuid: bytes
    """16 random bytes made with the store; they tell a restored or exchanged store apart."""
    epoch: int
    """Grows with each opening; durable before ``open`` returns."""
    created: bool = False
    """The store is new and empty."""
    clean: bool = True
    """The owner before this one closed the store; False after a crash, and worth a log line."""
    warnings: tuple[str, ...] = ()
    """What is allowed but should be known, such as a filesystem that forgets."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How full a store is. Zero means that the store has no such bound."""

    entries: int
    used_bytes: int
    """Pages in use; deleting makes it smaller, unlike the file."""
    map_bytes: int
    """What ``used_bytes`` can never exceed; commits fail before that."""
    file_bytes: int
    disk_free_bytes: int
    """What the coordinator's user may still write on the store's disk."""
    disk_total_bytes: int


class Store(ABC):
    """One durable, ordered key-value space with one owner.

    Calls run one after the other in the order made. Once a call raised ``StoreError``, each later
    one raises it again: the process must stop, and start from what the store holds.
    """

    @abstractmethod
    async def open(self) -> Ownership:
        """Take ownership and commit the raised epoch; called once.

        Raises:
            Refused: The store cannot be opened; the text names the fix.
            Corrupt: The store's own record is damaged.
        """

    @abstractmethod
    async def apply(self, writes: Writes, reads: Sequence[Read] = ()) -> list[Result]:
        """Commit all writes or none, durably, then do the reads in order, which see the writes.

        Without writes nothing is committed. The caller must not change ``writes`` before this
        returns. Cancelling the wait does not undo the commit.

        Returns:
            One result per read: a dictionary for ``GetMany``, pairs for ``Scan``.

        Raises:
            Fenced: The store has a later owner; nothing was written.
            Unknown: The commit failed and may or may not have taken place.
        """

    @abstractmethod
    async def stats(self) -> StoreStats:
        """Return how full the store is; cheap, but meant for about once a second."""

    def copy(self, descriptor: int) -> None:
        """Write a consistent copy of everything, compact, while commits go on.

        Takes long and blocks: call it in a thread of its own. The state that it copies cannot be
        given up meanwhile, so what is deleted makes no room until it ends.

        Raises:
            StoreError: It could not be written, or this kind of store cannot be copied.
        """
        raise StoreError("this kind of store has a backup of its own")

    @abstractmethod
    async def close(self) -> None:
        """Give the store back once calls under way are done; may come early, may come twice."""
