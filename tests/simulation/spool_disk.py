"""A sidecar's spool: it outlives the sidecar's processes, takes its time, and may fail."""

from protocol.messages import Lease, Outcome
from sidecar.core.events import SpoolContents, SpooledBatch, SpoolWork
from tests.simulation.world import MS, World


class SpoolDisk:
    """The spool of one host."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.batches: dict[int, bytes] = {}
        self._spooled_at: dict[int, int] = {}
        self.kept: set[int] = set()
        """Batches whose commit a sidecar has seen: apps may have been told that they are here."""
        self.outcomes: dict[Lease, Outcome] = {}
        self.slow_until = 0
        self.fails_next = self.fails_next_put = False

    def contents(self) -> SpoolContents:
        """Return what is there, as it is read at the start of a process."""
        return SpoolContents(
            len(self.batches),
            sum(len(tasks) for tasks in self.batches.values()),
            max(self.batches, default=0),
            tuple(self.outcomes.values()),
        )

    def takes_us(self) -> int:
        """Return how long the next work takes."""
        if self._world.now < self.slow_until:
            return self._world.between(20 * MS, 800 * MS)
        return self._world.rng.randrange(100, 5 * MS)

    def fails(self, work: SpoolWork) -> bool:
        """Return whether this work fails."""
        if work.puts and self.fails_next_put:
            self.fails_next_put = False
            return True
        fails, self.fails_next = self.fails_next, False
        return fails

    def write(self, work: SpoolWork) -> None:
        """Make a change durable."""
        self.batches.update(work.puts)
        for number, _ in work.puts:
            self._spooled_at.setdefault(number, self._world.now)
        for outcome in work.outcome_puts:
            self.outcomes[Lease(outcome.id, outcome.token)] = outcome
        for number in work.removes:
            self.batches.pop(number, None)
            self.kept.discard(number)
        for task_id, token in work.outcome_removes:
            self.outcomes.pop(Lease(task_id, token), None)

    def load(self, after: int, bytes_max: int) -> list[SpooledBatch]:
        """Return the batches behind a number, as many as are asked for."""
        loaded: list[SpooledBatch] = []
        size = 0
        for number in sorted(self.batches):
            if number > after:
                age_ms = (self._world.now - self._spooled_at[number]) // MS
                loaded.append(SpooledBatch(number, self.batches[number], age_ms))
                size += len(self.batches[number])
                if size >= bytes_max:
                    break
        return loaded
