"""The store on one machine: an LMDB file, one writer thread, the default (durable) sync mode.

The only importer of lmdb. Everything runs in one thread of its own, because LMDB binds a write
transaction to its thread, and so that a flush never stops the event loop. The file format is that
of LMDB 0.9; the sync flags stay as they are (``metasync=False`` loses acknowledged commits in a
power cut, ``writemap`` turns a full disk into a SIGBUS).

**The event loop stands still while a commit is staged.** py-lmdb lets go of the interpreter at each
put and each get, and gets it back from a busy event loop only after about 15 µs: 1,000 puts and
1,000 gets took 40 ms, of which 2 are work. So ``apply`` waits, for at most ``HOLD_SECONDS``, until
the thread has done its puts and gets at full speed (2 ms), and goes on during the commit itself,
which is one call and nearly all of the waiting for the disk. Reads are done before the commit, in
the same transaction: they see the same, and are dropped if the commit fails.
"""

import asyncio
import contextlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import lmdb
from lmdb.verify import VerifyError, verify

from coordinator.core.effects import GetMany, Read, Scan
from coordinator.errors import Corrupt, Fenced, Refused, StoreError, Unknown
from coordinator.store import meta
from coordinator.store.base import Ownership, Result, Store, StoreStats, Writes
from coordinator.store.directory import StoreDirectory
from coordinator.store.lmdb_file import bytes_missing

HOLD_SECONDS = 0.05
"""Longest the event loop stands still for one call; longer only means slower staging."""
HERE_KEYS_MAX = 64
"""Keys that are read in the event loop's thread, if nothing else is to be done."""
VERIFY_BYTES_MAX = 64 * 2**20
"""A file up to this size is verified after a crash: about a quarter of a second."""
_READERS_MAX = 16
_LIB_VERSION = 0

T = TypeVar("T")
Environment = lmdb.Environment


class LmdbStore(Store):
    """A store in a folder of its own.

    Invariant: ``_env`` is touched by the process that opened it, and by the writer thread only, but
    for a few reads that the event loop's thread does while that one has nothing to do, and for
    copies, which read in a thread of whoever makes them.
    """

    def __init__(self, path: Path, *, map_bytes: int, allow_filesystem: bool = False) -> None:
        self._directory = StoreDirectory(path.absolute(), allow_filesystem=allow_filesystem)
        self._map_bytes = -(-map_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pillion-store")
        self._thread_id = 0
        self._pid = os.getpid()
        self._under_way = 0
        self._env: lmdb.Environment | None = None
        self._own_record = b""
        self._failure: StoreError | None = None
        self._closed = False
        self._copying = threading.Lock()
        """Held by who copies: the environment is not closed under them."""

    async def open(self) -> Ownership:
        """Lock the folder, open or make the file, and commit the raised epoch."""
        assert self._env is None and not self._closed, "a store is opened once"
        return await self._run(self._open)

    async def apply(self, writes: Writes, reads: Sequence[Read] = ()) -> list[Result]:
        """Commit the writes and do the reads; see ``Store.apply``."""
        if not writes and self._under_way == 0 and _is_small(reads):
            return self._read_here(reads)
        staged = threading.Event()
        hold = self._under_way == 0
        future = self._submit(lambda: self._apply(writes, reads, staged))
        if hold:  # Otherwise the thread is in another call, and this would wait for its commit.
            staged.wait(HOLD_SECONDS)
        return await self._result(future)

    def _read_here(self, reads: Sequence[Read]) -> list[Result]:
        """Do a few reads in the event loop's thread: the way to the other one would cost more."""
        self._check_process()
        if self._closed:
            raise StoreError("the store is closed")
        env = self._opened()
        try:
            with env.begin() as txn:
                return [read_in(txn, read) for read in reads]
        except lmdb.Error as error:
            self._failure = _failure(error, False)
            raise self._failure from error

    async def stats(self) -> StoreStats:
        """Return how full the file, its map and its disk are."""
        return await self._run(self._stats)

    async def close(self) -> None:
        """Close the file and give the folder back."""
        if self._closed:
            return
        self._check_process()
        self._closed = True
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)

    def copy(self, descriptor: int) -> None:
        """Write a compact copy, as of now; see ``Store.copy``."""
        with self._copying:
            env = self._env
            if env is None:
                raise StoreError("the store is closed")
            copy_to(env, descriptor)

    # What follows until the next such line runs in the event loop's thread.

    async def _run(self, function: Callable[[], T]) -> T:
        return await self._result(self._submit(function))

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        self._check_process()
        if self._closed:
            raise StoreError("the store is closed")
        return self._thread.submit(function)

    async def _result(self, future: Future[T]) -> T:
        self._under_way += 1
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._under_way -= 1

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"process {os.getpid()} was forked from process {self._pid}, which has the store "
                "open, and must not use it; start processes with spawn instead"
            )

    # What follows runs in the store's own thread.

    def _open(self) -> Ownership:
        self._thread_id = threading.get_ident()
        _refuse_unpatched()
        self._directory.acquire()
        try:
            if not self._directory.holds_data:
                self._create()
            self._verify()
            self._env = self._open_environment(self._directory.path)
            return self._take_ownership()
        except BaseException as error:
            with contextlib.suppress(OSError):  # What went wrong before is what to tell.
                self._close_environment(clean=self._directory.was_clean)
            if isinstance(error, lmdb.Error | OSError):
                raise Refused(
                    f"{self._directory.data_file} cannot be opened ({error}); look at its disk and "
                    "permissions, or restore it from a backup"
                ) from error
            raise

    def _create(self) -> None:
        """Make a store that nobody has owned yet, so that it is there whole or not at all."""
        env = self._open_environment(self._directory.begin_new())
        try:
            made = meta.Meta(os.urandom(16), 0, time.time_ns() // 1_000_000)
            with env.begin(write=True) as txn:
                txn.put(meta.META_KEY, made.encode())
            env.sync(True)
        finally:
            env.close()
        self._directory.finish_new()

    def _verify(self) -> None:
        """Verify the file after a crash: always a small one, a large one if it is cut short."""
        path = self._directory.data_file
        if self._directory.was_clean:
            return
        if path.stat().st_size > VERIFY_BYTES_MAX and not bytes_missing(path):
            return
        verify_file(path, "restore it from a backup")

    def _open_environment(self, folder: Path) -> lmdb.Environment:
        try:
            return lmdb.open(
                str(folder),
                map_size=self._map_bytes,
                mode=0o600,
                max_readers=_READERS_MAX,
                lib_version=_LIB_VERSION,
            )
        except lmdb.MemoryError as error:
            raise Refused(
                f"no address space for a map of {self._map_bytes} bytes ({error}); lower "
                "store_map_size, or raise the limit (ulimit -v)"
            ) from None
        except (lmdb.VersionMismatchError, lmdb.InvalidError) as error:
            raise Refused(
                f"{self._directory.data_file} is no LMDB 0.9 file ({error}); it was not made by "
                "this coordinator. Move it away, or set data_dir to another folder"
            ) from None

    def _take_ownership(self) -> Ownership:
        assert self._env is not None
        self._env.reader_check()
        with self._env.begin(write=True) as txn:
            data = txn.get(meta.META_KEY)
            if data is None:
                raise Refused(
                    f"{self._directory.data_file} is an LMDB file, but no Pillion store; set "
                    "data_dir to another folder"
                )
            found = meta.decode(data, str(self._directory.data_file))
            owned = meta.Meta(found.uuid, found.epoch + 1, found.created_ms)
            self._own_record = owned.encode()
            txn.put(meta.META_KEY, self._own_record)
        self._directory.confirm(owned.uuid)
        return Ownership(
            uuid=owned.uuid,
            epoch=owned.epoch,
            created=found.epoch == 0,
            clean=self._directory.was_clean,
            warnings=self._directory.warnings,
        )

    def _apply(
        self, writes: Writes, reads: Sequence[Read], staged: threading.Event
    ) -> list[Result]:
        env = self._check_thread()
        try:
            with env.begin(write=bool(writes)) as txn:
                try:
                    self._stage(txn, writes)
                    return [read_in(txn, read) for read in reads]
                finally:
                    staged.set()
        except Fenced as error:
            self._failure = error
            raise
        except lmdb.Error as error:
            self._failure = _failure(error, bool(writes))
            raise self._failure from error
        finally:
            staged.set()

    def _stage(self, txn: "lmdb.Transaction[bytes]", writes: Writes) -> None:
        if not writes:
            return
        assert meta.META_KEY not in writes
        record = txn.get(meta.META_KEY)
        if record != self._own_record:
            raise Fenced("the store has a later owner; this process must stop")
        put, delete = txn.put, txn.delete
        for key, value in writes.items():
            if value is None:
                delete(key)
            else:
                put(key, value)

    def _stats(self) -> StoreStats:
        env = self._check_thread()
        pages, info = env.stat(), env.info()
        used = pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"]
        disk = os.statvfs(self._directory.path)
        return StoreStats(
            entries=pages["entries"] - 1,  # The store's own record is not counted.
            used_bytes=used * pages["psize"],
            map_bytes=info["map_size"],
            file_bytes=(info["last_pgno"] + 1) * pages["psize"],
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            disk_total_bytes=disk.f_blocks * disk.f_frsize,
        )

    def _check_thread(self) -> lmdb.Environment:
        assert threading.get_ident() == self._thread_id
        return self._opened()

    def _opened(self) -> lmdb.Environment:
        if self._failure is not None:
            raise self._failure
        assert self._env is not None, "the store is not open"
        return self._env

    def _close(self) -> None:
        try:
            self._close_environment(clean=self._env is not None and self._failure is None)
        except OSError as error:
            raise StoreError(
                f"{self._directory.path}: it cannot be noted that the store was closed ({error}); "
                "nothing is lost, but look at its disk: the next start verifies the store"
            ) from error

    def _close_environment(self, *, clean: bool) -> None:
        with self._copying:
            if self._env is not None:
                self._env.close()
                self._env = None
        self._directory.release(clean=clean)


def verify_file(path: Path, advice: str) -> None:
    """Look whether the structure of a file is whole; it is only read, and never mapped.

    Raises:
        Corrupt: It is not; the text ends with the advice.
    """
    missing = bytes_missing(path)
    try:
        problems = verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        problems = [str(error)]
    if problems:
        short = f"it is {missing} bytes shorter than its last commit left it; " * bool(missing)
        raise Corrupt(
            f"{path} is damaged ({short}{problems[0]}, {len(problems)} problems in all); {advice}"
        )


def open_file(path: Path, map_bytes: int = 0) -> Environment:
    """Open a file that no other process has open: to read it, or with a map to write to it.

    Raises:
        Refused: It is no file of LMDB, or cannot be read.
    """
    _refuse_unpatched()
    try:
        return lmdb.open(
            str(path),
            subdir=False,
            lock=False,
            create=False,
            readonly=not map_bytes,
            map_size=map_bytes or path.stat().st_size,
            lib_version=_LIB_VERSION,
        )
    except (lmdb.Error, OSError) as error:
        raise Refused(f"{path} cannot be opened as a store ({error})") from None


def copy_to(env: Environment, descriptor: int) -> None:
    """Write what an environment holds now, without what was deleted.

    Raises:
        StoreError: It could not be written, or not be read.
    """
    try:
        env.copyfd(descriptor, compact=True)
    except lmdb.Error as error:
        raise StoreError(f"the copy has failed ({error})") from error


def _is_small(reads: Sequence[Read]) -> bool:
    """Say whether reads take less than the way to the store's thread and back, about 0.2 ms."""
    keys = 0
    for read in reads:
        if isinstance(read, Scan):
            return False
        keys += len(read.keys)
    return keys <= HERE_KEYS_MAX


def read_in(txn: "lmdb.Transaction[bytes]", read: Read) -> Result:
    """Do one read."""
    match read:
        case GetMany(keys):
            get = txn.get
            return {key: value for key in keys if (value := get(key)) is not None}
        case Scan(start, end, limit, True):
            return _read_backwards(txn, start, end, limit)
        case Scan(start, end, limit):
            cursor = txn.cursor()
            pairs: list[tuple[bytes, bytes]] = []
            if limit <= 0 or not cursor.set_range(max(start, b"\1")):
                return pairs
            for pair in cursor.iternext():
                if pair[0] >= end:
                    break
                pairs.append(pair)
                if len(pairs) == limit:
                    break
            return pairs


def _read_backwards(
    txn: "lmdb.Transaction[bytes]", start: bytes, end: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    # From the first key beyond the range one back, or from the last of all.
    found = cursor.prev() if cursor.set_range(max(end, b"\1")) else cursor.last()
    pairs: list[tuple[bytes, bytes]] = []
    if limit <= 0 or not found:
        return pairs
    for pair in cursor.iterprev():
        if pair[0] < max(start, b"\1"):
            break
        pairs.append(pair)
        if len(pairs) == limit:
            break
    return pairs


def _failure(error: lmdb.Error, wrote: bool) -> StoreError:
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
        return Corrupt(f"the store is damaged ({error}); restore it from a backup")
    if not wrote:
        return StoreError(f"the store cannot be read ({error}); look at its disk and its mount")
    if isinstance(error, lmdb.MapFullError):
        return Unknown(
            f"the store has no room left in its map ({error}); raise store_map_size and start again"
        )
    return Unknown(
        f"a commit failed and may or may not have taken place ({error}); free space on the disk or "
        "look at its health, then start again"
    )


def _refuse_unpatched() -> None:
    if lmdb.version(subpatch=True, lib_version=_LIB_VERSION)[3] == 0:
        raise Refused(
            "this build of py-lmdb uses an LMDB without the fixes for damaged files; install the "
            "lmdb wheel from PyPI (pip install --force-reinstall --only-binary lmdb lmdb)"
        )
