"""The spool's store: an LMDB file of the sidecar's own, with one thread and durable commits.

The only importer of lmdb here. It holds what the core hands over (``core.spool``), over restarts of
this process: submissions that the coordinator could not take, outcomes it could not record.

    f                     format
    s number              when it was spooled (wall clock, ms), batch
    o id token            outcome

Each value begins with a checksum of its key and of what follows: LMDB has none of its own.
"""

import asyncio
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import lmdb
from lmdb.verify import VerifyError, verify

from protocol import codec, fields
from protocol.errors import ProtocolError
from protocol.filesystems import OVERLAY, is_forgetful, type_in, why_refused
from protocol.limits import HELD_LEASES_MAX
from protocol.messages import Outcome
from sidecar.core.events import SpoolContents, SpooledBatch, SpoolWork
from sidecar.errors import SpoolUnusable

MAP_SHARE = 4
"""Address space kept for each byte that may be spooled: removed pages are used again late."""
MAP_BYTES_MIN = 64 * 2**20
VERIFY_BYTES_MAX = 64 * 2**20
"""A file up to this size is verified at the start: about a quarter of a second."""
DIRECTORY_MODE = 0o700
_MOUNTINFO = Path("/proc/self/mountinfo")
_FORMAT = b"pillion spool 1"
_LIB_VERSION = 0
_DATA_FILE = "data.mdb"
_NEW_FOLDER = "new"
_CHECKSUM_BYTES = 4
_STAMP_BYTES = 8
_HEAD_BYTES = _CHECKSUM_BYTES + _STAMP_BYTES


class SpoolStore:
    """One spool; belongs to one process at a time.

    Args:
        path: Its folder.
        bytes_max: How much may be spooled.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self._path = path.absolute()
        self._bytes_max = bytes_max
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pillion-spool")
        self._env: lmdb.Environment | None = None
        self._lock = -1
        self.warning = ""
        """What is allowed but should be known: why what is here may be lost, disk or not."""
        self.damaged_outcomes = 0
        """Found at the start, and removed: their tasks run again."""

    async def open(self) -> SpoolContents:
        """Take the folder and return what is in it.

        Raises:
            SpoolUnusable: The folder cannot be used; the text names the fix.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def work(self, work: SpoolWork) -> list[SpooledBatch]:
        """Commit a change durably; return the batches that were to be read.

        Raises:
            SpoolUnusable: The commit failed; nothing of it may be relied on.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    async def close(self) -> None:
        """Give the folder back once work under way is done; may come early, may come twice."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    # What follows runs in the spool's own thread.

    def _open(self) -> SpoolContents:
        try:
            self._take_folder()
            if self._size() == 0:
                self._create()
            self._verify()
            self._env = self._open_environment(self._path)
            with self._env.begin(write=True) as txn:
                contents = self._contents(txn)
            _sync(self._path)  # Also after a start that was killed before it had done so.
            return contents
        except (OSError, lmdb.Error) as error:
            self._close()
            raise SpoolUnusable(
                f"the spool {self._path} cannot be used: {error}; give another --spool-dir, or "
                "run without one by --no-spool"
            ) from None
        except SpoolUnusable:
            self._close()
            raise

    def _take_folder(self) -> None:
        """Make the folder if need be, and lock it; nobody else may change what is in it."""
        made = [folder for folder in (self._path, *self._path.parents) if not folder.exists()]
        self._path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        for folder in made:
            _sync(folder.parent)
        found = self._path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise SpoolUnusable(
                f"the spool {self._path} is a symbolic link; give the folder itself"
            )
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise SpoolUnusable(
                f"the spool {self._path} belongs to another user, or others may write to it; it "
                f"must be this user's own (uid {os.geteuid()}): chown it and chmod 700, or give "
                "another --spool-dir"
            )
        self._check_filesystem()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(self._path / "lock", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolUnusable(
                f"another sidecar uses the spool {self._path}; stop it, or give this one another "
                "--spool-dir"
            ) from None

    def _check_filesystem(self) -> None:
        """Refuse what keeps no store. A container's own layer is the usual place, and may do."""
        kind = filesystem_type(self._path)
        reason = why_refused(kind)
        if reason and kind != OVERLAY:
            raise SpoolUnusable(
                f"{self._path} is no place for a spool: {reason}; give a --spool-dir on a local "
                "disk, or run without one by --no-spool"
            )
        if is_forgetful(kind):
            reason = f"{kind} lives in memory: what is spooled is gone when the machine restarts"
        self.warning = reason

    def _size(self) -> int:
        path = self._path / _DATA_FILE
        return path.stat().st_size if path.exists() else 0

    def _create(self) -> None:
        """Make the file in a folder beside and put it in its place when it is whole and durable.

        Made in its place, it could be there in part after a power cut, and look damaged.
        """
        folder = self._path / _NEW_FOLDER
        _discard(folder)
        folder.mkdir(mode=DIRECTORY_MODE)
        with self._open_environment(folder) as env:
            with env.begin(write=True) as txn:
                txn.put(b"f", _FORMAT)
            env.sync(True)
        (folder / _DATA_FILE).replace(self._path / _DATA_FILE)
        _discard(folder)
        _sync(self._path)

    def _open_environment(self, folder: Path) -> lmdb.Environment:
        return lmdb.open(
            str(folder),
            map_size=max(self._bytes_max * MAP_SHARE, MAP_BYTES_MIN),
            mode=0o600,
            lib_version=_LIB_VERSION,
        )

    def _verify(self) -> None:
        """Look at the file's structure: reading a torn one could end the process by a signal."""
        path = self._path / _DATA_FILE
        if self._size() > VERIFY_BYTES_MAX:
            return
        try:
            problems = verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
        except VerifyError as error:
            problems = [str(error)]
        if problems:
            raise SpoolUnusable(
                f"the spool's file {path} is damaged ({problems[0]}); move it away, since what is "
                "in it cannot be relied on, and start again"
            )

    def _contents(self, txn: "lmdb.Transaction[bytes]") -> SpoolContents:
        if txn.get(b"f") != _FORMAT:
            raise SpoolUnusable(
                f"{self._path} holds no spool, or one of another version of Pillion; give another "
                "--spool-dir"
            )
        count = size = last = 0
        for key, value in _under(txn, b"s"):
            last = int.from_bytes(key[1:], "big")
            count += 1
            size += max(0, len(value) - _HEAD_BYTES)
        return SpoolContents(count, size, last, self._outcomes(txn))

    def _outcomes(self, txn: "lmdb.Transaction[bytes]") -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        damaged: list[bytes] = []
        for key, value in _under(txn, b"o"):
            outcome = _outcome(key, value)
            if outcome is None:
                damaged.append(key)
            elif len(outcomes) < HELD_LEASES_MAX:
                outcomes.append(outcome)
        for key in damaged:
            txn.delete(key)
        self.damaged_outcomes = len(damaged)
        return tuple(outcomes)

    def _work(self, work: SpoolWork) -> list[SpooledBatch]:
        if self._env is None and work.reopen:
            self._open()
        if self._env is None:
            raise SpoolUnusable(f"the spool {self._path} is closed")
        try:
            if work.changes:
                with self._env.begin(write=True) as txn:
                    _change(txn, work)
            if work.load_after is None:
                return []
            with self._env.begin() as txn:
                return list(_load(txn, work.load_after, work.load_bytes_max))
        except (OSError, lmdb.Error) as error:
            self._close()  # After a failed commit only a fresh opening tells what is there.
            raise SpoolUnusable(
                f"the spool {self._path} failed ({error}); mend its disk: what is in it is "
                "submitted when it can be opened again"
            ) from None

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def filesystem_type(folder: Path) -> str:
    """Return the type of the filesystem that holds a folder; empty if unknown."""
    try:
        mounts = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return type_in(mounts, str(folder.resolve()))


def _change(txn: "lmdb.Transaction[bytes]", work: SpoolWork) -> None:
    stamp = _wall_ms().to_bytes(_STAMP_BYTES, "big")
    if work.reopen:
        txn.put(b"f", _FORMAT)  # That it could be opened does not tell that it can be written.
    for number, tasks in work.puts:
        key = _batch_key(number)
        txn.put(key, _sealed(key, stamp + tasks))
    for outcome in work.outcome_puts:
        key = _outcome_key(outcome[0], outcome[1])
        txn.put(key, _sealed(key, codec.pack(outcome)))
    for number in work.removes:
        txn.delete(_batch_key(number))
    for task_id, token in work.outcome_removes:
        txn.delete(_outcome_key(task_id, token))


def _load(txn: "lmdb.Transaction[bytes]", after: int, bytes_max: int) -> Iterator[SpooledBatch]:
    size = 0
    now_ms = _wall_ms()
    for key, value in _under(txn, b"s", after + 1):
        body = _opened(key, value)
        tasks = value[_HEAD_BYTES:]
        spooled_ms = now_ms if body is None else int.from_bytes(body[:_STAMP_BYTES], "big")
        number = int.from_bytes(key[1:], "big")
        yield SpooledBatch(number, tasks, max(0, now_ms - spooled_ms), body is None)
        size += len(tasks)
        if size >= bytes_max:
            return


def _under(
    txn: "lmdb.Transaction[bytes]", kind: bytes, number: int = 0
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one kind, from a number on."""
    cursor = txn.cursor()
    found = cursor.set_range(kind + number.to_bytes(8, "big"))
    while found and cursor.key()[:1] == kind:
        yield cursor.item()
        found = cursor.next()


def _sealed(key: bytes, body: bytes) -> bytes:
    return crc32(body, crc32(key)).to_bytes(_CHECKSUM_BYTES, "big") + body


def _opened(key: bytes, value: bytes) -> bytes | None:
    """Return what was sealed, or None if key or value are not as they were."""
    body = value[_CHECKSUM_BYTES:]
    return body if _sealed(key, body) == value else None


def _outcome(key: bytes, value: bytes) -> Outcome | None:
    """Return a journaled outcome, or None if it is damaged."""
    body = _opened(key, value)
    if body is None:
        return None
    try:
        return fields.outcomes("outcome", [codec.unpack(body)])[0]
    except ProtocolError:
        return None


def _batch_key(number: int) -> bytes:
    return b"s" + number.to_bytes(8, "big")


def _outcome_key(task_id: bytes, token: int) -> bytes:
    return b"o" + task_id + token.to_bytes(8, "big")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _discard(folder: Path) -> None:
    """Remove what an unfinished start has left."""
    if folder.is_dir():
        for name in (_DATA_FILE, "lock.mdb"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
