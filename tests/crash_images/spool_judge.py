"""Open an image of a spool with the real spool, and say what is wrong with it."""

import random
from pathlib import Path

import msgpack

from sidecar.core.events import SpoolContents, SpooledBatch, SpoolWork
from sidecar.errors import SpoolUnusable
from sidecar.spool import SpoolStore
from tests.crash_images.inline import Inline
from tests.crash_images.recording import Expected, Pairs, Recording
from tests.crash_images.spool_workload import BYTES_MAX, batch_key, outcome_key
from tests.crash_images.wrong import Wrong, commit_of

EVERYTHING = SpoolWork(load_after=0, load_bytes_max=2**40)


class InlineSpool(SpoolStore):
    """The real spool, with its own thread's work done in the caller's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, bytes_max=BYTES_MAX)
        self._thread = Inline()  # type: ignore[assignment]


async def judge(folder: Path, expected: Expected, recording: Recording, rng: random.Random) -> None:
    """Check one image.

    Raises:
        Wrong: It breaks a promise; says which.
    """
    spool = InlineSpool(folder)
    try:
        contents = await spool.open()
    except SpoolUnusable as error:
        raise Wrong(f"it is not opened: {error}") from None
    try:
        batches = await spool.work(EVERYTHING)
        if spool.damaged_outcomes or any(batch.damaged for batch in batches):
            raise Wrong("something in it is damaged")
        pairs = _content(contents, batches)
        commit_of(pairs, expected, recording.states)
        _check_counts(contents, batches)
        await _check_use(spool, contents.last_number + 1, rng.randbytes(3_000))
    finally:
        await spool.close()


def _content(contents: SpoolContents, batches: list[SpooledBatch]) -> Pairs:
    pairs = {batch_key(batch.number): batch.tasks for batch in batches}
    for outcome in contents.outcomes:
        pairs[outcome_key(outcome.id, outcome.token)] = msgpack.packb(outcome)
    return pairs


def _check_counts(contents: SpoolContents, batches: list[SpooledBatch]) -> None:
    numbers = [batch.number for batch in batches]
    size = sum(len(batch.tasks) for batch in batches)
    found = (contents.count, contents.bytes, contents.last_number)
    right = (len(batches), size, max(numbers, default=0))
    if found != right or numbers != sorted(numbers):
        raise Wrong(f"it counts {found}; there are {right}, in the order {numbers}")


async def _check_use(spool: SpoolStore, number: int, tasks: bytes) -> None:
    """Let one more batch through."""
    await spool.work(SpoolWork(puts=[(number, tasks)]))
    batches = await spool.work(EVERYTHING)
    if not batches or batches[-1][:2] != (number, tasks):
        raise Wrong("a new batch is not there after it was spooled")
    await spool.work(SpoolWork(removes=[batch.number for batch in batches]))
    if await spool.work(EVERYTHING):
        raise Wrong("batches are there after they were removed")
