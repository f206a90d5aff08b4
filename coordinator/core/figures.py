"""What a coordinator counts of each handler: plain integers, cheap enough for the path of a task.

Everything only grows from the start of the process, as collectors of metrics expect. A duration of
``n`` whole milliseconds is counted in bucket ``n.bit_length()``: bucket 0 holds what took less than
1 ms, bucket ``k`` what took less than ``2 ** k`` ms. That is one call, without a search.
"""

from collections.abc import Sequence
from enum import IntEnum

from protocol.messages import State

BUCKETS = 23
"""Buckets that are told, the last one under 2**22 ms: 1 h 10 min. What took longer lies beyond."""
_KEPT = 64
"""Buckets that are kept: each duration that fits into 63 bits has one."""


class AttemptResult(IntEnum):
    """What attempts are counted by. The first six are the kinds of outcomes, in their order."""

    SUCCESS = 0
    RETRY = 1
    DEFER = 2
    FATAL = 3
    RETURNED = 4
    """Not begun, and not charged."""
    CRASH = 5
    TIMEOUT = 6
    LEASE_LOST = 7


class Figures:
    """The counters of one handler."""

    __slots__ = (
        "attempts",
        "finished",
        "late",
        "lease_ms",
        "run",
        "run_us",
        "submitted",
        "total",
        "total_ms",
        "wait",
        "wait_ms",
    )

    def __init__(self) -> None:
        self.submitted = 0
        """Tasks accepted."""
        self.finished = [0] * len(State)
        """Tasks that ended, by their state."""
        self.attempts = [0] * len(AttemptResult)
        """Leases that ended, by what came of them."""
        self.wait = [0] * _KEPT
        """From when a task was due until it was leased."""
        self.wait_ms = 0
        self.late = 0
        """Leases that began later after the task was due than the handler's ``start_within_ms``."""
        self.run = [0] * _KEPT
        """How long handlers ran."""
        self.run_us = 0
        self.lease_ms = 0
        """How long the leases of these runs lasted: a slot is taken so long for each."""
        self.total = [0] * _KEPT
        """From submission until the task ended."""
        self.total_ms = 0

    def __iadd__(self, other: "Figures") -> "Figures":
        for name in self.__slots__:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, list):
                mine = [a + b for a, b in zip(mine, others, strict=True)]
            else:
                mine += others
            setattr(self, name, mine)
        return self

    @property
    def ended(self) -> int:
        """Tasks that ended, in whichever way."""
        return sum(self.finished)

    @property
    def granted(self) -> int:
        """Leases."""
        return sum(self.wait)

    @property
    def runs(self) -> int:
        """Attempts that ran."""
        return sum(self.run)


def percentile_ms(buckets: Sequence[int], percent: int) -> int | None:
    """Return the time under which ``percent`` of what was counted stayed, as a bucket tells it.

    It is the upper end of the bucket, at most twice the true value; None if nothing was counted.
    """
    rank = -(-sum(buckets) * percent // 100)
    seen = 0
    for bucket, count in enumerate(buckets):
        seen += count
        if count and seen >= rank:
            return 1 << bucket
    return None


class Commits:
    """How long commits took, and how much each changed."""

    __slots__ = ("took", "took_us", "writes", "writes_sum")

    def __init__(self) -> None:
        self.took = [0] * _KEPT
        """By whole microseconds: bucket ``k`` holds what took less than ``2 ** k`` us."""
        self.took_us = 0
        self.writes = [0] * _KEPT
        """By keys: bucket ``k`` holds those that changed less than ``2 ** k`` keys."""
        self.writes_sum = 0

    def observe(self, seconds: float, writes: int) -> None:
        """Count a commit."""
        us = int(seconds * 1e6)
        self.took[us.bit_length()] += 1
        self.took_us += us
        self.writes[writes.bit_length()] += 1
        self.writes_sum += writes
