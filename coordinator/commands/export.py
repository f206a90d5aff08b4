"""Write the tasks of a store as lines of JSON, from a backup or a store that nobody serves.

Memory does not grow with the store. What is damaged is left out, named and counted: exit code 1.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from coordinator.commands import offline, portable
from coordinator.commands.output import tell
from coordinator.commands.progress import Progress
from coordinator.core import layout, records
from coordinator.core.effects import GetMany, Scan
from coordinator.core.handler import Handler
from coordinator.core.payloads import content_crc
from coordinator.core.task import Task
from coordinator.errors import Refused
from coordinator.settings import Settings
from coordinator.store.restoring import Occupied
from coordinator.store.snapshot import Snapshot
from protocol import ids

_PAGE = 128
_ALL = 1_000_000
"""More handlers than there can be."""


def export(settings: Settings, file: Path, backup: Path | None, *, ended: bool) -> int:
    """Write the tasks to a file, or to stdout for ``-``, and return the exit code."""
    return offline.run(lambda: _export(settings, file, backup, ended))


def _export(settings: Settings, file: Path, backup: Path | None, ended: bool) -> int:
    began = time.monotonic()
    with _opened(settings, backup) as snapshot:
        if str(file) == "-":
            written, damaged = _write(snapshot, sys.stdout, ended)
        else:
            written, damaged = _write_file(snapshot, file, ended)
    left_out = f", {damaged} left out: they are damaged" if damaged else ""
    tell(f"{written} tasks written in {offline.since(began)} s{left_out}")
    return offline.EXIT_FAILED if damaged else 0


@contextmanager
def _opened(settings: Settings, backup: Path | None) -> Iterator[Snapshot]:
    if backup is not None:
        snapshot = Snapshot(backup)
        try:
            yield snapshot
        finally:
            snapshot.close()
        return
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(offline.held(settings, to_read=True))
        except Refused as error:
            way = "make a backup of it, and export that with --backup"
            raise Refused(f"{error}; or {way}") from None
        yield stack.enter_context(_opened(settings, directory.data_file))


def _write_file(snapshot: Snapshot, file: Path, ended: bool) -> tuple[int, int]:
    """Write to a file that has its name only once it is whole."""
    if file.exists():
        raise Occupied(f"{file} exists; name another file")
    partial = offline.partial_of(file)
    try:
        with partial.open("w", encoding="utf-8", errors="surrogatepass") as target:
            partial.chmod(0o600)
            counts = _write(snapshot, target, ended)
            target.flush()
            os.fsync(target.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(file)
    return counts


def _write(snapshot: Snapshot, target: TextIO, ended: bool) -> tuple[int, int]:
    reader = _Tasks(snapshot)
    written = 0
    progress = Progress("exporting", 0, "tasks")
    for task, payload in reader.tasks(ended):
        target.write(portable.to_line(task, payload))
        written += 1
        progress(written)
    target.flush()
    progress.close()
    return written, reader.damaged


class _Tasks:
    """Reads tasks with their payloads."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._handlers: dict[int, Handler] = {}
        self.damaged = 0
        for letter in (b"h", b"m"):
            [rows] = snapshot.read([Scan(*layout.range_of(letter), _ALL)])
            assert isinstance(rows, list)
            for key, value in rows:
                number = layout.handler_of(key)
                try:
                    name, *_ = records.decode_list(key, value)
                except layout.Damaged:
                    continue
                self._handlers.setdefault(number, Handler(number, name))

    def tasks(self, ended: bool) -> Iterator[tuple[Task, bytes | None]]:
        """Yield the tasks, in the order of their ids; those that have ended if that is wanted."""
        at, end = layout.range_of(b"t")
        while True:
            [rows] = self._snapshot.read([Scan(at, end, _PAGE)])
            assert isinstance(rows, list)
            for key, record in rows:
                try:
                    task = records.decode(key[1:], record, self._handlers.__getitem__)
                    if ended or not task.state.terminal:
                        yield task, self._payload(task)
                except layout.Damaged as damage:
                    self.damaged += 1
                    tell(f"damaged: task {ids.to_text(key[1:])}: {damage}")
            if len(rows) < _PAGE:
                return
            at = layout.after(rows[-1][0])

    def _payload(self, task: Task) -> bytes | None:
        if not task.payload_apart:
            return task.payload
        key = layout.payload_key(task.id)
        [found] = self._snapshot.read([GetMany([key])])
        assert isinstance(found, dict)
        payload = found.get(key)
        if payload is None or content_crc(task.handler.name_crc, payload) != task.content_crc:
            raise layout.Damaged("its payload is not what was submitted")
        return payload
