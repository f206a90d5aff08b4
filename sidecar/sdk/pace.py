"""How far ahead of its free slots a handler takes tasks.

A handler that ends thousands of tasks a second would stand idle while the next ones travel from
the sidecar, so it takes as many ahead as it has ended in the last few milliseconds. A slow one
takes none: what waits in this process cannot run in another. No clock here.
"""

from math import exp

AHEAD_MAX = 500
_WINDOW_S = 0.005
_RUN_US_MAX = 2_500
"""Mean run time above which taking tasks ahead gains nothing."""
_MEAN_TASKS = 32
"""Over about so many tasks the run time is averaged."""


class Pace:
    """The pace of one handler in this process."""

    __slots__ = ("_at", "_recent", "_run_us")

    def __init__(self) -> None:
        self._at = 0.0
        self._recent = 0.0
        self._run_us = float(_RUN_US_MAX)

    def ended(self, now: float, count: int, run_us: int) -> None:
        """Count attempts that have ended, with the sum of their run times."""
        self._recent = self._recent * exp(min(0.0, self._at - now) / _WINDOW_S) + count
        self._at = now
        weight = min(1.0, count / _MEAN_TASKS)
        self._run_us += (run_us / count - self._run_us) * weight

    @property
    def ahead(self) -> int:
        """How many tasks to take ahead."""
        if self._run_us >= _RUN_US_MAX or self._recent < 2:
            return 0
        return min(AHEAD_MAX, int(self._recent))
