"""What the core is told once, at its start."""

from dataclasses import dataclass

from protocol.limits import DAY_MS
from protocol.messages import State


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one shard, times in milliseconds."""

    store: bytes
    """The store's uuid, 16 bytes."""
    epoch: int
    """The number of this ownership: its tokens and row numbers are larger than all before."""
    session_timeout_ms: int = 10_000
    retention_succeeded_ms: int = 3_600_000
    retention_dead_ms: int = 30 * DAY_MS
    retention_other_ms: int = 3_600_000

    def retention_ms(self, state: State) -> int:
        """Return how long a task is kept after it ended in ``state``."""
        if state is State.SUCCEEDED:
            return self.retention_succeeded_ms
        if state is State.DEAD:
            return self.retention_dead_ms
        return self.retention_other_ms
