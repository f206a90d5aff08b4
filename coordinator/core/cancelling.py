"""Cancel tasks: at once where no attempt runs, otherwise as soon as it has stopped.

A leased task is marked in its record, and its session is told to stop the attempt. What follows is
the settlement's: any end of the lease but a success ends the task as cancelled.
"""

from coordinator.core.effects import GetMany, Now
from coordinator.core.layout import task_key
from coordinator.core.ledger import Ledger
from coordinator.core.queries import Queries, status_of
from coordinator.core.sessions import Session
from coordinator.core.task import Task
from protocol.errors import Code
from protocol.messages import Cancellation, Reply, Revoke, Revoked

REASON = "cancelled"
REVOKED_MAX = 10_000
"""Leases named in one message."""


class Cancelling:
    """Takes cancellations."""

    def __init__(self, ledger: Ledger, queries: Queries) -> None:
        self._ledger = ledger
        self._queries = queries
        self._revoked: dict[Session, list[Revoked]] = {}

    def take(self, now: Now, session: Session, requests: list[Cancellation]) -> None:
        """Cancel tasks; the replies follow when that is durable."""
        unknown = [request for request in requests if not self._in_memory(now, session, request)]
        if unknown:
            self._look_up(session, unknown)

    def _in_memory(self, now: Now, session: Session, request: Cancellation) -> bool:
        """Cancel a task that is in memory, or return False."""
        ledger = self._ledger
        task = ledger.leased.get(request.id)
        if task is not None:
            self.mark(now, task, request.reason)
        else:
            task = ledger.waiting.get(request.id)
            if task is None:
                return False
            self.end(now, task, request.reason)
        self._queries.reply(session, Reply(request.request, None, status_of(task, now)))
        return True

    def mark(self, now: Now, task: Task, reason: str) -> None:
        """Have the attempt of a task stopped."""
        if task.cancelling:
            return
        task.tell().cancelled = reason
        self._ledger.save_leased(task)
        self._ledger.count("attempts_cancelled")
        assert task.session is not None, "a leased task has a session"
        self._revoke(task.session, task)
        self._queries.changed(now, task)

    def end(self, now: Now, task: Task, reason: str) -> None:
        """End a task that waits."""
        self._ledger.leave_queue(task)
        self._ledger.cancel(now, task, reason)
        self._queries.ended(now, task)

    def _look_up(self, session: Session, requests: list[Cancellation]) -> None:
        """Cancel tasks that are in the store only, or have ended."""

        def then(now: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            again: list[Cancellation] = []
            for request in requests:
                if self._in_memory(now, session, request):
                    continue
                if request.id in saved:
                    again.append(request)  # The record that was read is out of date.
                    continue
                record = found.get(task_key(request.id))
                self._stored(now, session, request, record)
            if again:
                self._look_up(session, again)

        keys = [task_key(request.id) for request in requests]
        self._ledger.ask(GetMany(keys), then, watch=True)

    def _stored(
        self, now: Now, session: Session, request: Cancellation, record: bytes | None
    ) -> None:
        task = None if record is None else self._ledger.read_record(request.id, record)
        if task is None:
            self._queries.reply(session, Reply(request.request, Code.UNKNOWN_TASK, None))
            return
        if not task.state.terminal:
            self.end(now, task, request.reason)
        self._queries.reply(session, Reply(request.request, None, status_of(task, now)))

    # Telling sidecars

    def remind(self, session: Session) -> None:
        """Tell a sidecar that has resumed its session once more what it must stop."""
        for task in self._ledger.leased.values():
            if task.session is session and task.cancelling:
                self._revoke(session, task)

    def _revoke(self, session: Session, task: Task) -> None:
        self._revoked.setdefault(session, []).append(Revoked(task.id, task.token, REASON))

    def flush(self) -> None:
        """Tell sidecars what to stop; one that is not connected is reminded when it is."""
        ledger = self._ledger
        for session, revoked in self._revoked.items():
            if ledger.sessions.of_peer(session.peer) is session:
                for i in range(0, len(revoked), REVOKED_MAX):
                    ledger.send(session.peer, Revoke(revoked[i : i + REVOKED_MAX]))
        self._revoked.clear()
