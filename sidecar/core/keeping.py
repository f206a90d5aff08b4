"""When outcomes are kept in the spool as well: while nobody can record them, and at the end.

An outcome is in memory until it is recorded. If this process ended before, its task would run once
more; so after a while without a session, or with one that records nothing, and before the process
leaves, outcomes are journaled.
"""

from sidecar.core.events import SpoolWork
from sidecar.core.outcomes import Unrecorded
from sidecar.core.spool import Spool
from sidecar.core.terms import NEVER_MS, Terms


class Keeping:
    """Decides what the spool has to do now."""

    def __init__(self, terms: Terms, spool: Spool, unrecorded: Unrecorded) -> None:
        self._terms = terms
        self._spool = spool
        self._unrecorded = unrecorded
        self._closed_since_ms: int | None = None
        """Since when there is no session; None while there is one."""
        self._recording = False

    def work(self, now_ms: int, *, open_: bool, recording: bool) -> SpoolWork | None:
        """Return what the shell's store shall do now.

        Args:
            now_ms: The time.
            open_: Whether there is a session.
            recording: Whether this process only waits for its outcomes to be recorded.
        """
        self._recording = recording
        if open_:
            self._closed_since_ms = None
        elif self._closed_since_ms is None:
            self._closed_since_ms = now_ms
        if self._spool.available:
            if now_ms >= self._journal_due_ms():
                self._spool.journal(self._unrecorded.to_journal())
            self._spool.unjournal(self._unrecorded.to_unjournal())
        return self._spool.work(now_ms, load=open_ or not recording)

    def _journal_due_ms(self) -> int:
        if self._spool.busy or not self._unrecorded.journal_due:
            return NEVER_MS  # What comes while the shell is at work goes into its next.
        if self._recording:
            return 0
        due_ms = NEVER_MS
        if self._closed_since_ms is not None:
            due_ms = self._closed_since_ms + self._terms.journal_after_ms
        if self._unrecorded.silent_since_ms is not None:
            due_ms = min(due_ms, self._unrecorded.silent_since_ms + self._terms.journal_silent_ms)
        return due_ms

    def due_ms(self, spool_due_ms: int, *, open_: bool) -> int:
        """Return when something is to be spooled, journaled, or sent again after a pause."""
        pause_ms = self._spool.due_ms if open_ else NEVER_MS
        if not self._spool.available:
            return min(pause_ms, self._spool.reopen_due_ms)
        return min(pause_ms, spool_due_ms, self._journal_due_ms())

    def safe_to_leave(self, *, open_: bool) -> bool:
        """Tell whether nothing would be lost if the process ended now.

        With a session, what is kept here is handed over first: the host may go with the process.
        """
        if open_ and (len(self._unrecorded) or self._spool.active):
            return False
        if self._unrecorded.journal_due:
            return False
        return self._spool.idle and not (self._spool.available and self._unrecorded.unjournal_due)
