"""The end of a sidecar process, in steps: finish, give back, wait for the record, leave.

WORKING --drain_ms--> STOPPING --nothing held--> RECORDING --recorded, or record_ms--> OVER
   +------------------nothing held-------------------^

In all it takes ``drain_ms`` and ``end_ms`` at most, however much of it the attempts used up. Only
where a process that was killed stays does it take longer: what may run is not given back.
"""

from enum import IntEnum

from sidecar.core.terms import NEVER_MS, Terms

RECORD_MS_MIN = 500
"""Time to record what came to its end late, in any case."""


class Stage(IntEnum):
    """How far the end has come."""

    NOT_BEGUN = 0
    WORKING = 1
    """Running attempts may finish; nothing new is taken."""
    STOPPING = 2
    """Running attempts were told to stop."""
    RECORDING = 3
    """Nothing is held; outcomes are not recorded yet."""
    OVER = 4


class Drain:
    """The stage, and when it ends at the latest."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.stage = Stage.NOT_BEGUN
        self.due_ms = NEVER_MS
        self._end_ms = NEVER_MS
        """When all of it shall be over."""

    @property
    def begun(self) -> bool:
        """Whether the process is to end."""
        return self.stage is not Stage.NOT_BEGUN

    def begin(self, now_ms: int) -> None:
        """Begin to end."""
        self.stage = Stage.WORKING
        self.due_ms = now_ms + self._terms.drain_ms
        self._end_ms = self.due_ms + self._terms.end_ms

    def stop_due(self, now_ms: int) -> bool:
        """Tell whether running attempts are to be stopped now."""
        return self.stage is Stage.WORKING and now_ms >= self.due_ms

    def stop(self, now_ms: int) -> int:
        """Enter the stage of stopping; return until when attempts may say what they came to."""
        self.stage = Stage.STOPPING
        self.due_ms = NEVER_MS
        return now_ms + self._terms.stop_grace_ms

    def advance(self, now_ms: int, *, held: bool, unrecorded: bool) -> bool:
        """Move on; return True once, when the end has come."""
        if self.stage in (Stage.WORKING, Stage.STOPPING) and not held:
            self.stage = Stage.RECORDING
            at_most_ms = max(self._end_ms, now_ms + RECORD_MS_MIN)
            self.due_ms = min(now_ms + self._terms.record_ms, at_most_ms)
        if self.stage is Stage.RECORDING and (not unrecorded or now_ms >= self.due_ms):
            self.stage = Stage.OVER
            self.due_ms = NEVER_MS
            return True
        return False
