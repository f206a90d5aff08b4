"""A store's file that nobody writes to, to be read: a backup, or the store of no running process.

It is opened without a lock, so the caller must know that nobody writes: a backup has its name only
once it is whole, and of a store the folder is locked. Each read is one transaction.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from coordinator.core.effects import Read
from coordinator.core.scrubbing import Scrubbing
from coordinator.errors import Corrupt, Refused
from coordinator.store import meta
from coordinator.store.base import Result
from coordinator.store.lmdb_file import bytes_missing
from coordinator.store.lmdb_store import copy_to, open_file, read_in


class Snapshot:
    """One file, opened; closed by whoever has opened it.

    Raises:
        Refused: The file is not there, or holds no store that this build reads.
        Corrupt: It is cut short, or its own record is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise Refused(f"{path}: there is no such file")
        missing = bytes_missing(path)
        if missing:
            raise Corrupt(f"{path} is cut short: {missing} bytes are missing at its end")
        self._env = open_file(path)
        try:
            with self._env.begin() as txn:
                data = txn.get(meta.META_KEY)
                if data is None:
                    raise Refused(f"{path} is an LMDB file, but holds no Pillion store")
                self.meta = meta.decode(data, str(path))
            stat = self._env.stat()
        except BaseException:
            self._env.close()
            raise
        self.entries: int = stat["entries"] - 1
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        self.compact_bytes: int = (pages + 2) * stat["psize"]
        """The size of a copy."""

    def read(self, reads: Sequence[Read]) -> list[Result]:
        """Read in one transaction."""
        with self._env.begin() as txn:
            return [read_in(txn, read) for read in reads]

    def copy(self, descriptor: int) -> None:
        """Write a compact copy."""
        copy_to(self._env, descriptor)

    def scrub(self) -> Iterator[Scrubbing]:
        """Look at everything; yield the walk after each slice, at the end complete."""
        walk = Scrubbing()
        while reads := walk.reads():
            walk.take(self.read(reads))
            yield walk
        yield walk

    def close(self) -> None:
        """Close the file."""
        self._env.close()
