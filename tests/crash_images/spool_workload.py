"""The program whose writes are recorded: a sidecar's spool, through several lives.

    python -m tests.crash_images.spool_workload FOLDER WATCHED LOG SEED ROUNDS [SABOTAGE]

To be run with the recorder in it, as ``workload``. Each commit is marked as what it makes of the
spool's content: batches by number, and outcomes by task and token.
"""

import asyncio
import random
import sys
from pathlib import Path

import msgpack

from protocol.messages import Failure, Lease, Outcome, OutcomeKind, Result
from sidecar.core.events import SpoolWork
from sidecar.spool import SpoolStore
from tests.crash_images import marks
from tests.crash_images.lives import LIVES, Lives
from tests.crash_images.recorder import Recorder
from tests.crash_images.sabotage import KINDS

BYTES_MAX = 2**20
BATCHES_MAX = 60


class Spool:
    """The spool and what is in it by the marks."""

    def __init__(self, seed: int) -> None:
        self.recorder: Recorder | None = None
        self._rng = random.Random(seed)
        self._number = 0
        self._commits = 0
        self._batches: list[int] = []
        self._outcomes: list[Outcome] = []

    def mark(self, mark: marks.Mark) -> None:
        """Put a mark into the log."""
        assert self.recorder is not None
        self.recorder.mark(marks.encode(mark))

    async def live(self, folder: Path, rounds: int, *, close: bool) -> None:
        """Open, work, and close or not."""
        store = SpoolStore(folder, bytes_max=BYTES_MAX)
        self.mark(marks.Opening())
        await store.open()
        self.mark(marks.Opened(b"", 0))
        for _ in range(rounds):
            work = self._work()
            self._commits += 1
            self.mark(marks.Begins(self._commits, _content(work)))
            await store.work(work)
            self.mark(marks.Done(self._commits))
        if close:
            await store.close()

    def _work(self) -> SpoolWork:
        rng, work = self._rng, SpoolWork()
        for _ in range(rng.choice((0, 1, 1, 2, 6)) if len(self._batches) < BATCHES_MAX else 0):
            self._number += 1
            tasks = rng.randbytes(rng.choice((10, 200, 900, 3_000, 9_000)))
            work.puts.append((self._number, tasks))
        if self._batches and rng.random() < 0.6:
            # In order, as the coordinator answers them; seldom one from the middle.
            work.removes = self._batches[: rng.randint(1, len(self._batches))]
            if rng.random() < 0.2:
                work.removes = [rng.choice(self._batches)]
        for _ in range(rng.choice((0, 0, 1, 4))):
            work.outcome_puts.append(self._outcome())
        if self._outcomes and rng.random() < 0.5:
            gone = rng.sample(self._outcomes, rng.randint(1, len(self._outcomes)))
            work.outcome_removes = [Lease(outcome.id, outcome.token) for outcome in gone]
            self._outcomes = [outcome for outcome in self._outcomes if outcome not in gone]
        self._batches = [number for number in self._batches if number not in work.removes]
        self._batches += [number for number, _ in work.puts]
        self._outcomes += work.outcome_puts
        return work

    def _outcome(self) -> Outcome:
        rng = self._rng
        kind = rng.choice(list(OutcomeKind))
        value: Result | Failure = Failure("ValueError", "not this", "Traceback ...", None)
        if kind is OutcomeKind.SUCCESS:
            value = Result(None, rng.randbytes(rng.choice((2, 5_000))))
        return Outcome(rng.randbytes(16), rng.getrandbits(40), kind, rng.getrandbits(30), value)


def _content(work: SpoolWork) -> dict[bytes, bytes | None]:
    """Return what a change makes of the spool's content, in the form of ``content_of``."""
    writes: dict[bytes, bytes | None] = {}
    for number, tasks in work.puts:
        writes[batch_key(number)] = tasks
    for outcome in work.outcome_puts:
        writes[outcome_key(outcome.id, outcome.token)] = msgpack.packb(outcome)
    for number in work.removes:
        writes[batch_key(number)] = None
    for lease in work.outcome_removes:
        writes[outcome_key(*lease)] = None
    return writes


def batch_key(number: int) -> bytes:
    """Return the name of a batch in the marks."""
    return b"batch %d" % number


def outcome_key(task_id: bytes, token: int) -> bytes:
    """Return the name of an outcome in the marks."""
    return b"outcome " + task_id + b"%d" % token


def main(arguments: list[str]) -> None:
    """Run the workload."""
    folder, root, log, seed, rounds, *sabotage = arguments
    for name in sabotage:
        KINDS[name]()
    recorder = Recorder()
    recorder.watch(Path(root), Path(log))
    lives = Lives(Path(log))
    spool: Spool = lives.state or Spool(int(seed))
    spool.recorder = recorder
    close = lives.last or random.Random(int(seed) + lives.number).random() < 0.4
    asyncio.run(spool.live(Path(folder), int(rounds) // LIVES, close=close))
    spool.recorder = None
    lives.end(spool)


if __name__ == "__main__":
    main(sys.argv[1:])
