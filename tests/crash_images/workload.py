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
from tests.crash_images.lives import LIVES, Lives
from tests.crash_images.recorder import Recorder
from tests.crash_images.sabotage import KINDS
from tests.crash_images.shell import Shell
from tests.crash_images.traffic import RETENTION_MS, TIMEOUT_MS, Clock, Promises, Traffic

MAP_BYTES = 16 * 2**20


class Marks(Promises):
    """Puts what happens into the log; a witness of the shell, and of the traffic's promises."""

    def __init__(self, recorder: Recorder, commits: int) -> None:
        self._mark = recorder.mark
        self.commits = commits

    def opening(self) -> None:
        """The store is about to be opened."""
        self._mark(marks.encode(marks.Opening()))

    def opened(self, ownership: Ownership) -> None:
        """The store has been opened."""
        self._mark(marks.encode(marks.Opened(ownership.uuid, ownership.epoch)))

    def begins(self, writes: Writes) -> None:
        """A commit is about to be made."""
        self.commits += 1
        self._mark(marks.encode(marks.Begins(self.commits, dict(writes))))

    def done(self) -> None:
        """The commit has been made."""
        self._mark(marks.encode(marks.Done(self.commits)))

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


async def live(folder: Path, witness: Marks, traffic: Traffic, rounds: int, *, close: bool) -> None:
    """Go through one life, which ends by a close or by nothing at all."""
    store = LmdbStore(folder, map_bytes=MAP_BYTES, allow_filesystem=True)
    shell = Shell(
        store,
        traffic.clock,
        witness,
        session_timeout_ms=TIMEOUT_MS,
        retention_succeeded_ms=RETENTION_MS,
        retention_dead_ms=3 * RETENTION_MS,
        retention_other_ms=RETENTION_MS,
    )
    await shell.start()
    await traffic.greet(shell)
    for _ in range(rounds):
        await traffic.round(shell)
    if close:
        await store.close()


def main(arguments: list[str]) -> None:
    """Run the workload."""
    folder, root, log, seed, rounds, *sabotage = arguments
    for name in sabotage:
        KINDS[name]()
    recorder = Recorder()
    recorder.watch(Path(root), Path(log))
    lives = Lives(Path(log))
    commits, traffic = lives.state or (0, Traffic(int(seed), Clock()))
    traffic.promises = witness = Marks(recorder, commits)
    rng = random.Random(int(seed) + lives.number)
    close = lives.last or rng.random() < 0.4
    asyncio.run(live(Path(folder), witness, traffic, int(rounds) // LIVES, close=close))
    traffic.clock.advance(rng.choice((10, 20_000)))
    traffic.promises = Promises()
    lives.end((witness.commits, traffic))


if __name__ == "__main__":
    main(sys.argv[1:])
