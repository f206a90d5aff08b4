"""The folder of a store: who may use it, and whether it holds what it held before.

    data.mdb          the store
    lock.mdb          LMDB's own
    pillion.lock      locked for the life of the process; holds its pid
    pillion.store     the marker: this folder holds a store, and which
    pillion.clean     the last owner closed the store, whose file then had this size; gone in use
    new/              where a new store's file is made; gone once it is whole and in its place
    data.mdb.before-restore   what a restore has replaced, until somebody deletes it

The marker is what keeps an empty store from being made over one whose file got lost, for instance
because a disk was not mounted.
"""

import fcntl
import os
import socket
from pathlib import Path

from coordinator.errors import Refused
from coordinator.store import filesystems
from protocol.filesystems import is_forgetful, why_refused

DATA_FILE = "data.mdb"
_MAP_FILE = "lock.mdb"
_LOCK_FILE = "pillion.lock"
_MARKER_FILE = "pillion.store"
_CLEAN_FILE = "pillion.clean"
_NEW_FOLDER = "new"
OLD_FILE = "data.mdb.before-restore"
_LOCK_BYTES_MAX = 200


def holds_a_store(folder: Path) -> bool:
    """Return whether a folder is that of a store, served or not: its files are no place for others.

    A file that replaces the store's own would go unseen until the coordinator starts again, and
    all since then would be lost.
    """
    return (folder / _MARKER_FILE).exists()


class StoreDirectory:
    """One store's folder, held by this process between ``acquire`` and ``release``."""

    def __init__(self, path: Path, *, allow_filesystem: bool) -> None:
        self.path = path
        self.data_file = path / DATA_FILE
        self.was_clean = False
        self.warnings: tuple[str, ...] = ()
        self._allow_filesystem = allow_filesystem
        self._lock_fd = -1

    def acquire(self, *, to_restore: bool = False) -> None:
        """Make the folder if need be, check it, and lock it for this process.

        Args:
            to_restore: A store's file that is gone is what one has come for.

        Raises:
            Refused: The folder cannot be used; nothing was changed in a store.
        """
        try:
            self._make()
            self._check_filesystem()
            self._lock()
            if not to_restore:
                self._check_marker()
            self.was_clean = self._take_clean()
        except OSError as error:
            self.release(clean=False)
            raise Refused(
                f"{self.path} cannot be used: {error.strerror}; make it a folder that the user "
                "of this process may write to, or set data_dir to another one"
            ) from None
        except Refused:
            self.release(clean=False)
            raise

    @property
    def holds_data(self) -> bool:
        """Whether there is a store's file, whole or not."""
        return self.data_file.exists() and self.data_file.stat().st_size > 0

    def begin_new(self) -> Path:
        """Return an empty folder in which a new store's file can be made.

        In its own place it would be there before it is whole, and a power cut at that moment would
        leave something that looks like a damaged store.
        """
        self._discard_new()
        folder = self.path / _NEW_FOLDER
        folder.mkdir(mode=0o700)
        return folder

    def keep_old(self) -> Path:
        """Give the store's file a second name, under which it stays; return that."""
        kept = self.path / OLD_FILE
        kept.unlink(missing_ok=True)
        kept.hardlink_to(self.data_file)
        return kept

    def finish_new(self) -> None:
        """Put the file that was made, and is durable, in its place."""
        (self.path / _MAP_FILE).unlink(missing_ok=True)  # It tells of readers of another file.
        (self.path / _NEW_FOLDER / DATA_FILE).replace(self.data_file)
        self._discard_new()
        sync_directory(self.path)

    def _discard_new(self) -> None:
        folder = self.path / _NEW_FOLDER
        if folder.is_dir():
            for name in (DATA_FILE, _MAP_FILE):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()

    def mark(self, uuid: bytes) -> None:
        """Note durably that the folder holds the store ``uuid``, whatever it held before."""
        sync_directory(self.path.parent)
        self._write(_MARKER_FILE, f"{uuid.hex()}\n")

    def confirm(self, uuid: bytes) -> None:
        """Note durably that the folder holds the store ``uuid``.

        Raises:
            Refused: It holds the marker of another store.
        """
        marker = self._marker()
        if marker is None:
            sync_directory(self.path)
            sync_directory(self.path.parent)
            self._write(_MARKER_FILE, f"{uuid.hex()}\n")
        elif marker != uuid.hex():
            raise Refused(
                f"{self.path} is marked as store {marker}, but its {DATA_FILE} is store "
                f"{uuid.hex()}: files of two stores are mixed. Put the right {DATA_FILE} back; "
                f"if this one is right, delete {self.path / _MARKER_FILE} and start again"
            )

    def release(self, *, clean: bool) -> None:
        """Give the folder back; ``clean`` says that the store was closed as it should be.

        Raises:
            OSError: That could not be noted; the folder is given back all the same.
        """
        if self._lock_fd < 0:
            return
        try:
            if clean and self.holds_data:
                self._write(_CLEAN_FILE, f"{self.data_file.stat().st_size}\n")
        finally:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _make(self) -> None:
        """Make the folder and those above it, so that their names outlive a power cut."""
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in made:
            sync_directory(folder.parent)

    def _check_filesystem(self) -> None:
        kind = filesystems.filesystem_type(self.path)
        reason = why_refused(kind)
        if reason and not self._allow_filesystem:
            raise Refused(
                f"{self.path} is no place for a store: {reason}. Set data_dir to a folder on a "
                "local disk, or set allow_filesystem if you accept the risk"
            )
        if is_forgetful(kind):
            reason = f"{kind} lives in memory: the store is gone when the machine restarts"
        self.warnings = (f"{self.path}: {reason}",) if reason else ()

    def _lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path / _LOCK_FILE, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _LOCK_BYTES_MAX, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Refused(
                f"{self.path} is in use by {holder or 'another process'}; stop that process, or "
                "set data_dir to another folder"
            ) from None
        self._lock_fd = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _check_marker(self) -> None:
        marker = self._marker()
        if marker is not None and not self.holds_data:
            raise Refused(
                f"{self.path} held store {marker}, but {DATA_FILE} is gone; mount its disk or "
                "restore a backup. To lose all its tasks and begin with an empty store, delete "
                f"{self.path / _MARKER_FILE}"
            )

    def _marker(self) -> str | None:
        try:
            return (self.path / _MARKER_FILE).read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None

    def _take_clean(self) -> bool:
        file = self.path / _CLEAN_FILE
        if not self.holds_data:
            file.unlink(missing_ok=True)
            return True
        try:
            size = file.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return False
        file.unlink()
        sync_directory(self.path)
        # A file of another size was exchanged or cut short since.
        return size == str(self.data_file.stat().st_size)

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f"{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, text.encode("ascii"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self.path / name)
        sync_directory(self.path)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
