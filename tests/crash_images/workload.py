"""The program whose writes are recorded: a shard on an LMDB store, through several lives.

    python -m tests.crash_images.workload FOLDER WATCHED LOG SEED ROUNDS [SABOTAGE]

To be run with the recorder in it. Everything that a reader of the log needs to judge an image is
marked in the log: what each commit writes, when it is done, and what has been promised.
"""

import asyncio
import random
import sys
from pathlib import Path

from coordinator.core.effects import Outgoing
from coordinator.store.base import Ownership, Writes
from coordinator.store.lmdb_store import LmdbStore
from protocol import messages as m
from tests.crash_images import marks
from tests.crash_images.recorder import Recorder
from tests.crash_images.sabotage import KINDS
from tests.crash_images.shell import Shell
from tests.crash_images.traffic import RETENTION_MS, TIMEOUT_MS, Clock, Promises, Traffic

MAP_BYTES = 16 * 2**20
LIVES = 3


class Marks(Promises):
    """Puts what happens into the log; a witness of the shell, and of the traffic's promises."""

    def __init__(self, recorder: Recorder) -> None:
        self._mark = recorder.mark
        self._commits = 0

    def opening(self) -> None:
        """The store is about to be opened."""
        self._mark(marks.encode(marks.Opening()))

    def opened(self, ownership: Ownership) -> None:
        """The store has been opened."""
        self._mark(marks.encode(marks.Opened(ownership.uuid, ownership.epoch)))

    def begins(self, writes: Writes) -> None:
        """A commit is about to be made."""
        self._commits += 1
        self._mark(marks.encode(marks.Begins(self._commits, dict(writes))))

    def done(self) -> None:
        """The commit has been made."""
        self._mark(marks.encode(marks.Done(self._commits)))

    def leaves(self, outgoing: Outgoing) -> None:
        """A message leaves: what it promises is marked by the traffic."""

    def accepted(self, task: m.Submission) -> None:
        """A task was accepted."""
        self._mark(marks.encode(marks.Accepted(task.id, task.payload)))

    def recorded(self, outcome: m.Outcome) -> None:
        """An outcome was recorded."""
        self._mark(marks.encode(marks.Recorded(outcome.id, outcome.token, int(outcome.kind))))

    def granted(self, task: m.GrantedTask) -> None:
        """A lease was granted."""
        self._mark(marks.encode(marks.Granted(task.id, task.token)))


async def live(folder: Path, recorder: Recorder, seed: int, rounds: int) -> None:
    """Go through several lives, each ended by a close or by nothing at all."""
    rng = random.Random(seed)
    clock, witness = Clock(), Marks(recorder)
    traffic = Traffic(seed, clock, witness)
    for _ in range(LIVES):
        store = LmdbStore(folder, map_bytes=MAP_BYTES, allow_filesystem=True)
        shell = Shell(
            store,
            clock,
            witness,
            session_timeout_ms=TIMEOUT_MS,
            retention_succeeded_ms=RETENTION_MS,
            retention_dead_ms=3 * RETENTION_MS,
            retention_other_ms=RETENTION_MS,
        )
        await shell.start()
        await traffic.greet(shell)
        for _ in range(rounds // LIVES):
            await traffic.round(shell)
        await store.close()
        clock.advance(rng.choice((10, 20_000)))


def main(arguments: list[str]) -> None:
    """Run the workload."""
    folder, root, log, seed, rounds, *sabotage = arguments
    for name in sabotage:
        KINDS[name]()
    recorder = Recorder()
    recorder.watch(Path(root), Path(log))
    asyncio.run(live(Path(folder), recorder, int(seed), int(rounds)))


if __name__ == "__main__":
    main(sys.argv[1:])
