"""Who waits for which task to end, or to change."""

import heapq
from typing import NamedTuple

from coordinator.core.sessions import Session
from protocol import limits

SLACK = 1024
"""Deadlines of answered waits that may stay in the heap."""


class Wait(NamedTuple):
    """One open question."""

    session: Session
    request: int
    deadline_ms: int
    revision: int = -1
    """With one, the wait is over as soon as the task's status has another."""


class Waits:
    """All open waits; a session's are bounded and end with it."""

    def __init__(self) -> None:
        self._by_task: dict[bytes, dict[tuple[bytes, int], Wait]] = {}
        self._deadlines: list[tuple[int, bytes, tuple[bytes, int]]] = []
        self._open = 0
        self.watched: set[bytes] = set()
        """Tasks for whose next change somebody may wait."""

    def __contains__(self, task_id: bytes) -> bool:
        return task_id in self._by_task

    def add(self, task_id: bytes, wait: Wait) -> bool:
        """Take a wait, or return False if the session has too many. The same request replaces."""
        session = wait.session
        key = (session.incarnation, wait.request)
        waits = self._by_task.get(task_id)
        if waits is None or key not in waits:
            if session.waits >= limits.WAITERS_PER_SESSION_MAX:
                return False
            session.waits += 1
            self._open += 1
            waits = self._by_task.setdefault(task_id, {})
        waits[key] = wait
        if wait.revision >= 0:
            self.watched.add(task_id)
        if len(self._deadlines) > 2 * self._open + SLACK:
            self._rebuild()
        heapq.heappush(self._deadlines, (wait.deadline_ms, task_id, key))
        return True

    def take(self, task_id: bytes) -> list[Wait]:
        """Remove and return all waits for a task."""
        waits = list(self._by_task.pop(task_id, {}).values())
        self.watched.discard(task_id)
        self._open -= len(waits)
        for wait in waits:
            wait.session.waits -= 1
        return waits

    def take_changed(self, task_id: bytes, revision: int) -> list[Wait]:
        """Remove and return the waits for any revision of a task but this one."""
        changed = []
        for key, wait in list(self._by_task.get(task_id, {}).items()):
            if wait.revision >= 0 and wait.revision != revision:
                self._remove(task_id, key)
                changed.append(wait)
        return changed

    def next_ms(self) -> int | None:
        """Return when the next wait may run out."""
        return self._deadlines[0][0] if self._deadlines else None

    def take_overdue(self, now_ms: int) -> list[tuple[bytes, Wait]]:
        """Remove and return the waits that have run out, with their tasks."""
        overdue = []
        heap = self._deadlines
        while heap and heap[0][0] <= now_ms:
            deadline_ms, task_id, key = heapq.heappop(heap)
            waits = self._by_task.get(task_id, {})
            wait = waits.get(key)
            if wait is not None and wait.deadline_ms <= deadline_ms:
                self._remove(task_id, key)
                overdue.append((task_id, wait))
        return overdue

    def drop_session(self, session: Session) -> None:
        """Forget the waits of a session."""
        for task_id, waits in list(self._by_task.items()):
            for key in [key for key in waits if key[0] == session.incarnation]:
                self._remove(task_id, key)

    def _rebuild(self) -> None:
        """Forget the deadlines of waits that have been answered."""
        self._deadlines = [
            (wait.deadline_ms, task_id, key)
            for task_id, waits in self._by_task.items()
            for key, wait in waits.items()
        ]
        heapq.heapify(self._deadlines)

    def _remove(self, task_id: bytes, key: tuple[bytes, int]) -> None:
        waits = self._by_task[task_id]
        waits.pop(key).session.waits -= 1
        self._open -= 1
        if not waits:
            del self._by_task[task_id]
            self.watched.discard(task_id)
