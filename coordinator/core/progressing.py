"""Take what attempts tell while they go on.

Progress and note are for observers and in memory only; sidecars tell them again in each session.
The checkpoint is for the next attempt, and in the task's record.
"""

from coordinator.core.effects import Now
from coordinator.core.ledger import Ledger
from coordinator.core.queries import Queries
from coordinator.core.sessions import Session
from protocol.messages import Update


class Progressing:
    """Takes the progress of attempts."""

    def __init__(self, ledger: Ledger, queries: Queries) -> None:
        self._ledger = ledger
        self._queries = queries

    def take(self, now: Now, session: Session, updates: list[Update]) -> None:
        """Take updates of leases that the session holds; of others nothing counts any more."""
        for update in updates:
            task = self._ledger.leased.get(update.id)
            if task is None or task.token != update.token or task.session is not session:
                self._ledger.count("progress_stale")
                continue
            told = task.tell()
            if update.permille >= 0:
                told.progress = update.permille
            told.note = update.note or told.note
            if update.checkpoint is not None and update.checkpoint != told.checkpoint:
                told.checkpoint = update.checkpoint
                self._ledger.save_leased(task)
                self._ledger.count("checkpoints")
            if not task.running_since_ms:
                task.running_since_ms = now.wall_ms  # The next heartbeat knows it better.
            self._queries.changed(now, task)
