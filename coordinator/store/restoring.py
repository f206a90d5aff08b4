"""Exchange the file of a store that no process has open: for a backup, or a copy of itself.

The new file is made beside the old one, is durable and verified, and takes its place in one step: a
crash leaves the one or the other. What a restore replaces is kept under another name.

**A restored store must not be taken for the present one.** Tokens and row numbers have grown since
the backup, and follow the epoch: so the epoch jumps beyond any that the store can have had since.
And sidecars may hold leases from after the backup, of which it knows nothing: so a row says that
nothing is granted until they have all given them up (``layout.RESTORED_KEY``).
"""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from coordinator.core import layout
from coordinator.core.ledger import ROW_BITS
from coordinator.errors import CoordinatorError, Corrupt, Refused
from coordinator.store import meta
from coordinator.store.copying import Copying
from coordinator.store.directory import DATA_FILE, StoreDirectory, sync_directory
from coordinator.store.lmdb_store import open_file
from coordinator.store.snapshot import Snapshot

EPOCH_JUMP = 2**14
"""More starts than a store has between a backup and its restore; leaves room for 1,000 restores."""
EPOCH_MAX = 2 ** (64 - ROW_BITS) - EPOCH_JUMP
SPARE_BYTES = 16 * 2**20
"""Space that a copy leaves on its disk."""
Progress = Callable[[int], None]
"""Told how many bytes are copied."""


class Occupied(CoordinatorError):
    """Raised when something is in the way that nobody has said may be replaced."""


class NoRoom(CoordinatorError):
    """Raised when a disk has no room for a copy."""


def need_room(folder: Path, size: int) -> None:
    """Refuse a copy of so many bytes that would not fit.

    Raises:
        NoRoom: The disk has not so much free.
    """
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise NoRoom(
            f"{folder} has {free >> 20} MiB free; the copy takes {size >> 20} MiB. Free some "
            "space, or name another folder"
        )


def write_durably(parts: Iterable[bytes], path: Path, progress: Progress) -> int:
    """Write a copy to a file, flushed now and then so that no flush is long; return its size."""
    size = 0
    with _create(path) as file:
        for part in parts:
            file.write(part)
            size += len(part)
            if size % (8 * 2**20) < len(part):
                file.flush()
                os.fdatasync(file.fileno())
            progress(size)
        file.flush()
        os.fsync(file.fileno())
    return size


def compact(directory: StoreDirectory, progress: Progress) -> tuple[int, int]:
    """Exchange the file of a store, whose folder is held, for a compact one.

    Returns:
        The sizes before and after.

    Raises:
        CoordinatorError: It cannot be done; the store is as it was.
    """
    before = directory.data_file.stat().st_size
    made = directory.begin_new() / DATA_FILE
    old = Snapshot(directory.data_file)
    try:
        need_room(directory.path, old.compact_bytes)
        copying = Copying(old.copy)
        try:
            after = write_durably(copying.parts(), made, progress)
        finally:
            copying.close()
        _same(old, made)
    finally:
        old.close()
    directory.finish_new()
    return before, after


def _same(old: Snapshot, made: Path) -> None:
    new = Snapshot(made)
    try:
        if (new.entries, new.meta) != (old.entries, old.meta):
            raise Corrupt(
                f"the copy holds {new.entries} rows of {old.entries}; nothing was changed"
            )
    finally:
        new.close()


def restore(
    backup: Snapshot,
    directory: StoreDirectory,
    *,
    replace: bool,
    map_bytes: int,
    progress: Progress,
) -> tuple[int, Path | None]:
    """Put a verified backup in the place of a store whose folder is held.

    Returns:
        The store's epoch, and where the file is kept that was replaced.

    Raises:
        Occupied: There is a store, and it may not be replaced.
        CoordinatorError: It cannot be done; nothing was changed.
    """
    if directory.holds_data and not replace:
        raise Occupied(
            f"{directory.path} holds a store; name another folder with --data-dir, or add "
            "--replace to restore over it (its file is kept beside)"
        )
    epoch = max(backup.meta.epoch, _present_epoch(directory, backup.meta.uuid)) + EPOCH_JUMP
    if epoch > EPOCH_MAX:
        raise Refused(f"{backup.path}: this store was restored too often; export and import it")
    size = backup.path.stat().st_size
    need_room(directory.path, size)
    made = directory.begin_new() / DATA_FILE
    _copy(backup.path, made, progress)
    _mark_restored(made, meta.Meta(backup.meta.uuid, epoch, backup.meta.created_ms), map_bytes)
    kept = directory.keep_old() if directory.holds_data else None
    directory.finish_new()
    directory.mark(backup.meta.uuid)
    return epoch, kept


def _present_epoch(directory: StoreDirectory, uuid: bytes) -> int:
    """Return the epoch of the store that is replaced, if it is the same one and can be read."""
    if not directory.holds_data:
        return 0
    try:
        present = Snapshot(directory.data_file)
    except CoordinatorError:
        return 0  # Damage is why one restores.
    present.close()
    return present.meta.epoch if present.meta.uuid == uuid else 0


def _copy(source: Path, target: Path, progress: Progress) -> None:
    copied = 0
    with source.open("rb") as read, _create(target) as write:
        while part := read.read(2**20):
            write.write(part)
            copied += len(part)
            progress(copied)
        write.flush()
        os.fsync(write.fileno())
    sync_directory(target.parent)


def _mark_restored(path: Path, owned: meta.Meta, map_bytes: int) -> None:
    """Raise the epoch in a copy, and let it say that it was restored."""
    env = open_file(path, max(map_bytes, path.stat().st_size + 2**20))
    try:
        with env.begin(write=True) as txn:
            txn.put(meta.META_KEY, owned.encode())
            txn.put(layout.RESTORED_KEY, layout.seal(layout.RESTORED_KEY, b"1"))
        env.sync(True)
    finally:
        env.close()


def _create(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")
