"""The spool's store: an LMDB file of the sidecar's own, with one thread and durable commits.

The only importer of lmdb here. It holds what the core hands over (``core.spool``), over restarts of
this process: submissions that the coordinator could not take, outcomes it could not record.

    s number              when it was spooled (wall clock, ms), checksum, batch
    o id token            checksum, outcome
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import lmdb

from protocol import codec, fields
from protocol.errors import ProtocolError
from protocol.limits import HELD_LEASES_MAX
from protocol.messages import Outcome
from sidecar.core.events import SpoolContents, SpoolWork
from sidecar.errors import SidecarError

MAP_SHARE = 4
"""Address space kept for each byte that may be spooled: removed pages are used again late."""
MAP_BYTES_MIN = 64 * 2**20
LOAD_BYTES_MAX = 8 * 2**20
DIRECTORY_MODE = 0o700
_NUMBER = slice(1, 9)


class SpoolUnusable(SidecarError):
    """Raised when the spool cannot be opened; the text names the fix."""


class SpoolStore:
    """One spool; belongs to one process at a time.

    Args:
        path: Its folder.
        bytes_max: How much may be spooled.
        age_ms_max: A batch that has waited longer is not replayed: the coordinator may have
            forgotten that it ran.
    """

    def __init__(self, path: Path, *, bytes_max: int, age_ms_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._age_ms_max = age_ms_max
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pillion-spool")
        self._env: lmdb.Environment | None = None
        self._lock = -1
        self.too_old = 0
        """Batches left alone because of their age; they stay in the file."""

    async def open(self) -> SpoolContents:
        """Take the folder and return what is in it.

        Raises:
            SpoolUnusable: The folder cannot be used.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def work(self, work: SpoolWork) -> list[tuple[int, bytes]]:
        """Commit a change durably; return the batches that were to be read.

        Raises:
            SpoolUnusable: The commit failed; nothing of it may be relied on.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    async def close(self) -> None:
        """Give the folder back; may come early, may come twice."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    # What follows runs in the spool's own thread.

    def _open(self) -> SpoolContents:
        try:
            self._path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._env = lmdb.open(
                str(self._path),
                map_size=max(self._bytes_max * MAP_SHARE, MAP_BYTES_MIN),
                mode=0o600,
                max_dbs=0,
            )
            return self._contents(self._env)
        except BlockingIOError:
            raise SpoolUnusable(
                f"another sidecar uses the spool {self._path}; give this one --spool-dir"
            ) from None
        except (OSError, lmdb.Error) as error:
            self._close()
            raise SpoolUnusable(
                f"the spool {self._path} cannot be used: {error}; give another --spool-dir, or "
                "run without one by --no-spool"
            ) from None

    def _contents(self, env: lmdb.Environment) -> SpoolContents:
        count = size = last = 0
        outcomes: list[Outcome] = []
        with env.begin() as txn:
            for key, value in txn.cursor():
                if key[:1] == b"s":
                    last = int.from_bytes(key[_NUMBER], "big")
                    tasks = self._batch(value)
                    if tasks is not None:
                        count += 1
                        size += len(tasks)
                elif len(outcomes) < HELD_LEASES_MAX:
                    outcome = _outcome(value)
                    if outcome is not None:
                        outcomes.append(outcome)
        return SpoolContents(count, size, last, tuple(outcomes))

    def _batch(self, value: bytes) -> bytes | None:
        """Return a batch, or None if it is damaged or too old to be replayed."""
        tasks = bytes(value[12:])
        if crc32(tasks) != int.from_bytes(value[8:12], "big"):
            return None
        if time.time_ns() // 1_000_000 - int.from_bytes(value[:8], "big") > self._age_ms_max:
            self.too_old += 1
            return None
        return tasks

    def _work(self, work: SpoolWork) -> list[tuple[int, bytes]]:
        if self._env is None:
            raise SpoolUnusable("the spool is closed")
        stamp = (time.time_ns() // 1_000_000).to_bytes(8, "big")
        try:
            with self._env.begin(write=True) as txn:
                for number, tasks in work.puts:
                    txn.put(_key(number), stamp + crc32(tasks).to_bytes(4, "big") + tasks)
                for outcome in work.outcome_puts:
                    body = codec.pack(outcome)
                    txn.put(
                        _outcome_key(outcome[0], outcome[1]), crc32(body).to_bytes(4, "big") + body
                    )
                for number in work.removes:
                    txn.delete(_key(number))
                for task_id, token in work.outcome_removes:
                    txn.delete(_outcome_key(task_id, token))
            return [] if work.load_after is None else list(self._load(self._env, work.load_after))
        except lmdb.Error as error:
            self._close()  # After a failed commit only a fresh opening tells what is there.
            raise SpoolUnusable(f"the spool {self._path} failed: {error}") from None

    def _load(self, env: lmdb.Environment, after: int) -> Iterator[tuple[int, bytes]]:
        size = 0
        with env.begin() as txn:
            cursor = txn.cursor()
            found = cursor.set_range(_key(after + 1))
            while found and cursor.key()[:1] == b"s" and size < LOAD_BYTES_MAX:
                tasks = self._batch(cursor.value())
                if tasks is not None:
                    size += len(tasks)
                    yield int.from_bytes(cursor.key()[_NUMBER], "big"), tasks
                found = cursor.next()

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _key(number: int) -> bytes:
    return b"s" + number.to_bytes(8, "big")


def _outcome_key(task_id: bytes, token: int) -> bytes:
    return b"o" + task_id + token.to_bytes(8, "big")


def _outcome(value: bytes) -> Outcome | None:
    """Return a journaled outcome, or None if it is damaged."""
    body = bytes(value[4:])
    if crc32(body) != int.from_bytes(value[:4], "big"):
        return None
    try:
        return fields.outcomes("outcome", [codec.unpack(body)])[0]
    except ProtocolError:
        return None
