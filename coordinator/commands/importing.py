"""Submit the tasks of an export to a store that nobody serves.

The core does it, as it would for a sidecar: it checks each task, looks its id up, and writes what
it always writes. So an import may be stopped and begun again: what is there already is skipped. A
batch is durable before the next is read.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from coordinator.commands import offline, portable
from coordinator.commands.output import tell
from coordinator.commands.progress import Progress
from coordinator.core.config import Config
from coordinator.core.effects import Now
from coordinator.core.shard import Answered, Received, Sent, Shard
from coordinator.settings import Settings
from coordinator.store.base import Store
from coordinator.store.lmdb_store import LmdbStore
from coordinator.store.restoring import NoRoom
from protocol import messages as m
from protocol import version
from protocol.submission import encode_batch

BATCH_TASKS, BATCH_BYTES = 500, 2**20
LINE_BYTES_MAX = 4 * 2**20
"""A payload of the largest size in base64, with whatever stands beside it."""
TOLD_MAX = 20
"""Lines that are named when they are not taken; the others are counted."""
_PEER = b"import"
_ROOM_BATCHES = 64
"""How often to look whether the store has room."""
Line = tuple[int, m.Submission]


def run(settings: Settings, file: Path, form: str) -> int:
    """Import a file, or stdin for ``-``, and return the exit code."""
    return offline.run(lambda: _run(settings, file, form))


def _run(settings: Settings, file: Path, form: str) -> int:
    began = time.monotonic()
    store = LmdbStore(
        settings.data_dir,
        map_bytes=settings.store_map_bytes,
        allow_filesystem=settings.allow_filesystem,
    )
    if str(file) == "-":
        importing = asyncio.run(_import(settings, store, sys.stdin.buffer))
    else:
        with file.open("rb") as source:
            importing = asyncio.run(_import(settings, store, source))
    facts = {**importing.counts, "seconds": offline.since(began)}
    counts = {name.replace("_", " "): count for name, count in importing.counts.items()}
    shown = ", ".join(f"{count} {name}" for name, count in counts.items())
    offline.told(form, facts, [f"{settings.data_dir}: {shown}, in {facts['seconds']} s"])
    return offline.EXIT_FAILED if importing.counts["refused"] else 0


async def _import(settings: Settings, store: Store, source: BinaryIO) -> "Importing":
    importing = Importing(settings, store)
    await importing.start()
    try:
        await importing.take(source)
        await importing.leave()
    finally:
        await store.close()
    return importing


class Importing:
    """One import: a core, its store, and a session in which tasks are submitted."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._shard: Shard | None = None
        self._verdicts: list[m.Verdict] = []
        self.counts = {"accepted": 0, "there_already": 0, "ended": 0, "refused": 0}

    async def start(self) -> None:
        """Open the store, made if there is none, and begin a session.

        Raises:
            Refused: It cannot be opened, or a coordinator serves it.
        """
        ownership = await self._store.open()
        self._shard = Shard(Config(ownership.uuid, ownership.epoch, **self._settings.durations))
        while not self._shard.recovered:
            await self._carry_out()
        hello = m.Hello(
            version_min=version.VERSION_MIN,
            version_max=version.VERSION_MAX,
            sidecar="import",
            incarnation=os.urandom(16),
            service="import",
            software=version.SOFTWARE,
            store=ownership.uuid,
            epoch=ownership.epoch,
            session=0,
            held=[],
        )
        await self._say(hello)

    async def leave(self) -> None:
        """End the session."""
        await self._say(m.Goodbye("done"))

    async def take(self, source: BinaryIO) -> None:
        """Submit all tasks of a file.

        Raises:
            NoRoom: The store is full; what was taken before is durable.
        """
        progress = Progress("importing", 0, "tasks")
        for number, batch in enumerate(self._batches(source)):
            if number % _ROOM_BATCHES == 0:
                await self._check_room()
            await self._submit(number, batch)
            progress(self.counts["accepted"])
        progress.close()

    def _batches(self, source: BinaryIO) -> Iterator[list[Line]]:
        batch: list[Line] = []
        size = 0
        for place, line in _lines(source):
            try:
                fields = portable.read(line)
                if fields.get("state") in portable.ENDED:
                    self.counts["ended"] += 1
                    continue
                submission = portable.to_submission(fields, _now())
            except portable.Unreadable as error:
                self._refuse(place, str(error))
                continue
            batch.append((place, submission))
            size += len(submission.payload)
            if len(batch) == BATCH_TASKS or size > BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    async def _submit(self, number: int, batch: list[Line]) -> None:
        encoded = encode_batch([submission for _, submission in batch])
        await self._say(m.Submit([m.Batch(number, encoded)]))
        [verdict] = self._verdicts
        self._verdicts = []
        if verdict.code is not None:
            raise NoRoom(f"{verdict.detail}; import the file again when there is room")
        for place, code, detail in verdict.rejections:
            line, _ = batch[place]
            self._refuse(line, f"{detail} ({code})")
        self.counts["there_already"] += len(verdict.duplicates)
        self.counts["accepted"] += len(batch) - len(verdict.rejections) - len(verdict.duplicates)

    def _refuse(self, line: int, why: str) -> None:
        self.counts["refused"] += 1
        if self.counts["refused"] <= TOLD_MAX:
            tell(f"line {line}: {why}")

    async def _check_room(self) -> None:
        stats, settings = await self._store.stats(), self._settings
        if stats.used_bytes > settings.store_bytes_max:
            raise NoRoom("the store is over store_bytes_max; raise it and import the file again")
        if stats.disk_total_bytes and stats.disk_free_bytes < settings.disk_free_bytes_min:
            raise NoRoom("the disk has less than disk_free_min; free some and import again")

    # The core

    async def _say(self, message: m.Message) -> None:
        """Let the core take a message, and carry out what it wants until it is done."""
        assert self._shard is not None
        self._shard.step(_now(), Received(_PEER, message))
        while await self._carry_out():
            pass

    async def _carry_out(self) -> bool:
        assert self._shard is not None
        effects = self._shard.flush(_now())
        if not effects:
            return False
        results: list[Any] = []
        if effects.writes or effects.reads:
            results = await self._store.apply(effects.writes, [ask.read for ask in effects.reads])
        self._shard.step(_now(), Sent(effects))
        for _, message, _ in effects.messages:
            if isinstance(message, m.Accepted):
                self._verdicts += message.verdicts
        for ask, result in zip(effects.reads, results, strict=True):
            self._shard.step(_now(), Answered(ask.number, result))
        return True


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with something in them and their numbers; one that is too long is cut."""
    number = 0
    while line := source.readline(LINE_BYTES_MAX):
        number += 1
        rest = line
        while len(rest) == LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = source.readline(LINE_BYTES_MAX)  # What was cut is no JSON, and is told as such.
        if not line.isspace():
            yield number, line


def _now() -> Now:
    return Now(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, time.time_ns() // 1_000_000)
