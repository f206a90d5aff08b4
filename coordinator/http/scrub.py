"""Look at the rows of a serving coordinator's store for damage, a bounded slice at a time.

Whoever asks goes on from where the slice before has ended, and so decides how fast it goes. Nothing
is kept in between, and no transaction is held.
"""

import asyncio
import time
from dataclasses import dataclass

from coordinator.core.scrubbing import FIRST, Scrubbing
from coordinator.http.access import Access
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request
from coordinator.store.base import KEY_BYTES_MAX

SLICE_SECONDS = 0.05
"""How long a slice may take; then it ends, with a key to go on from."""
PARAMETERS = (Parameter("after", "Where the slice before has ended"),)


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """One row that is not what was written."""

    kind: str
    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class Slice:
    """What a slice has found."""

    rows: int
    tasks: int
    payloads: int
    bytes: int
    damaged: int
    findings: list[DamagedRow]
    after: str | None
    """Where to go on; null when all was looked at."""


async def scrub(access: Access, request: Request) -> Slice:
    """Look at some rows."""
    walk = Scrubbing(access.ledger.handlers_by_number, _start(request.query["after"]))
    began = time.monotonic()
    while reads := walk.reads():
        walk.take(list(await access.read(reads)))
        if walk.between and time.monotonic() - began > SLICE_SECONDS:
            break
        await asyncio.sleep(0)  # Others must have their turn.
    at = walk.resume_at
    return Slice(
        rows=walk.rows,
        tasks=walk.tasks,
        payloads=walk.payloads,
        bytes=walk.bytes,
        damaged=walk.damaged,
        findings=[DamagedRow(*finding) for finding in walk.findings],
        after=at.hex() if at is not None else None,
    )


def _start(text: str) -> bytes:
    if not text:
        return FIRST
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if not key >= FIRST or len(key) > KEY_BYTES_MAX + 1:
        raise Problem("invalid_cursor", f"after={text[:40]!r} is no key in hex")
    return key
