"""What a running coordinator knows of itself beside the core: rates, commits, events, the store.

The runtime tells it what happened; the HTTP side reads it. Nothing in here decides anything.
"""

from coordinator.core.effects import Effects, Now
from coordinator.core.figures import Commits
from coordinator.core.rates import Rates
from coordinator.core.shard import Shard
from coordinator.events import Events
from coordinator.store.base import StoreStats

_EMPTY = StoreStats(0, 0, 0, 0, 0, 0)


class Observation:
    """The observations of one process.

    Args:
        now: The time of the start.
    """

    def __init__(self, now: Now) -> None:
        self.started_ms = now.wall_ms
        self.rates = Rates()
        self.commits = Commits()
        self.events = Events()
        self.stats = _EMPTY
        """How full the store was when it was last measured."""
        self.measured_ms = now.ms
        self.refusal = ""
        """Why submissions are refused; empty while they are not."""
        self.broken = 0
        """Messages that broke the protocol."""
        self.copying = False
        """Whether a backup is under way."""
        self.copy_stopped = ""
        """Why the latest one ended before it was whole; empty if it did not."""
        self.stopping = False

    def noted(self, now: Now, effects: Effects) -> None:
        """Pass on what happened to those who watch."""
        for name, fields in effects.notes:
            self.events.add(now.wall_ms, name, fields)
        for name, fields in effects.events:
            self.events.add(now.wall_ms, name, fields)

    def committed(self, now: Now, shard: Shard, seconds: float, writes: int) -> None:
        """Take a commit that is done."""
        self.commits.observe(seconds, writes)
        self.rates.sample(now.ms, shard.ledger.handlers.values())

    def measured(self, now: Now, stats: StoreStats, refusal: str) -> None:
        """Take how full the store is."""
        self.stats, self.measured_ms = stats, now.ms
        if refusal and not self.refusal:
            self.events.add(now.wall_ms, "store_full", {"detail": refusal})
        elif self.refusal and not refusal:
            self.events.add(now.wall_ms, "store_has_room_again", {})
        self.refusal = refusal

    def stop(self) -> None:
        """Let those who watch see that the process stops."""
        self.stopping = True
        self.events.wake_all()
