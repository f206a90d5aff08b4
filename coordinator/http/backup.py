"""A copy of the store of a serving coordinator, as a stream of bytes that is the file.

It is paced, and ends in the middle rather than to let the store run full: as long as it runs, what
is deleted makes no room in the store's file. A stream that ends early ends without its last chunk,
which every client of HTTP/1.1 sees. One at a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from coordinator.http.access import Access
from coordinator.http.problems import Problem
from coordinator.http.routes import Cut, Parameter, Request
from coordinator.store.base import StoreStats
from coordinator.store.copying import Copying
from protocol import log

MEDIA_TYPE = "application/octet-stream"
RATE_MIB = 32
LOOK_SECONDS = 0.1
"""While it waits, it looks so often at how much the store has grown."""
ROOM_BYTES_MIN = 2**20
RATE_MIB_MAX = 100_000
PARAMETERS = (Parameter("mib_per_second", "How fast to copy", int, RATE_MIB, 1, RATE_MIB_MAX),)


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What a backup takes."""

    bytes: int
    """The size of the copy, about: the store changes until it begins."""
    seconds: float
    grows_by_max: int
    """By how much the store's file may grow meanwhile; then the backup is stopped."""
    possible: bool
    stopped: str
    """Why the latest backup ended before it was whole; empty if it did not."""


async def plan(access: Access, request: Request) -> BackupPlan:
    """Tell what a backup would take."""
    await access.measure()
    stats = access.observation.stats
    room = _room(access, stats)
    return BackupPlan(
        bytes=stats.used_bytes,
        seconds=round(stats.used_bytes / (request.query["mib_per_second"] * 2**20), 1),
        grows_by_max=room,
        possible=room >= ROOM_BYTES_MIN,
        stopped=access.observation.copy_stopped,
    )


def backup(access: Access, request: Request) -> AsyncIterator[bytes]:
    """Return the copy.

    Raises:
        Problem: One is under way, or there is no room for the store to grow meanwhile.
    """
    seen = access.observation
    if seen.copying:
        raise Problem("backup_running", "the store is being copied already")
    room = _room(access, seen.stats)
    if room < ROOM_BYTES_MIN:
        raise Problem(
            "no_room",
            "nothing that is deleted during a backup makes room, and the store's file can grow by "
            f"{room >> 10} KiB only",
        )
    return _stream(access, room, request.query["mib_per_second"] * 2**20)


async def _stream(access: Access, room: int, rate: int) -> AsyncIterator[bytes]:
    seen, logger = access.observation, log.logger("backup")
    allowed = seen.stats.file_bytes + room
    began, size, why = time.monotonic(), 0, "its client has gone, or takes nothing"
    seen.copying = True
    logger.info("backup_began", bytes=seen.stats.used_bytes, store_may_grow_by=room)
    copying = Copying(access.copy)
    reading: asyncio.Future[bytes] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(asyncio.to_thread(copying.read))
            part = await asyncio.shield(reading)
            if not part:
                why = ""
                return
            yield part
            size += len(part)
            due = began + size / rate
            while True:
                await access.measure()
                if seen.stopping or seen.stats.file_bytes > allowed:
                    grown = f"the store has grown by {room >> 20} MiB meanwhile, half of its room"
                    why = "the coordinator stops" if seen.stopping else grown
                    raise Cut(why)
                ahead = due - time.monotonic()
                if ahead <= 0:
                    break
                await asyncio.sleep(min(ahead, LOOK_SECONDS))
    finally:
        if reading is not None and not reading.done():
            await asyncio.wait([reading])
        await asyncio.to_thread(copying.close)
        seen.copying, seen.copy_stopped = False, why
        fields = {"bytes": size, "seconds": round(time.monotonic() - began, 2)}
        if why:
            logger.warning("backup_stopped", detail=why, **fields)
        else:
            logger.info("backup_finished", **fields)
        name = "backup_stopped" if why else "backup_finished"
        seen.events.add(access.now().wall_ms, name, fields | ({"detail": why} if why else {}))


def _room(access: Access, stats: StoreStats) -> int:
    """Return by how much the file may grow during a backup: half of what it can grow by."""
    rooms = [stats.map_bytes - stats.file_bytes] if stats.map_bytes else []
    if stats.disk_total_bytes:
        rooms.append(stats.disk_free_bytes - access.settings.disk_free_bytes_min)
    return max(0, min(rooms)) // 2 if rooms else 2**62
