"""Questions and cancellations on their way to the coordinator, and who waits for the answers.

Each gets a number of this sidecar's own in place of the app's. What is unanswered is asked again
in every new session, with what is left of its wait. A question may be about a task in the spool:
it is sent when what was spooled before it has its verdict.
"""

from typing import NamedTuple

from protocol import limits
from protocol.errors import Code
from protocol.messages import Cancel, Cancellation, Query, Question, Reply
from sidecar.core.terms import NEVER_MS, Terms

_LOOK_MS = 1_000
"""Questions are looked through for timeouts at most this often."""


class _Question(NamedTuple):
    connection: int
    request: int
    id: bytes
    until_ms: int
    """When the wait that the app asked for is over; 0 without a wait."""
    due_ms: int
    behind: int
    """The number of the latest spooled batch when it was asked."""
    revision: int = -1
    cancel: str | None = None
    """Why the task is to be cancelled; None if this is a question."""


class Questions:
    """All questions and cancellations without an answer, bounded in number."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._waiting: dict[int, _Question] = {}
        self._unsent: dict[int, None] = {}
        self._number = 0
        self.due_ms = NEVER_MS
        """Not later than when the next question is given up, but for ``_LOOK_MS``."""

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(
        self, now_ms: int, connection: int, questions: list[Question], behind: int
    ) -> list[Reply]:
        """Take questions; return the replies to those that cannot be taken."""
        replies = []
        for request, task_id, wait_ms, revision in questions:
            wait_ms = min(wait_ms, limits.WAIT_MS_MAX)  # noqa: PLW2901 (bounded here)
            until_ms = now_ms + wait_ms if wait_ms else 0
            due_ms = now_ms + wait_ms + self._terms.submit_timeout_ms
            question = _Question(connection, request, task_id, until_ms, due_ms, behind, revision)
            replies += self._take(question)
        return replies

    def cancel(
        self, now_ms: int, connection: int, requests: list[Cancellation], behind: int
    ) -> list[Reply]:
        """Take cancellations; return the replies to those that cannot be taken."""
        replies = []
        due_ms = now_ms + self._terms.submit_timeout_ms
        for request, task_id, reason in requests:
            replies += self._take(
                _Question(connection, request, task_id, 0, due_ms, behind, cancel=reason)
            )
        return replies

    def _take(self, question: _Question) -> list[Reply]:
        if len(self._waiting) >= self._terms.questions_max:
            return [Reply(question.request, Code.TOO_MANY_WAITERS, None)]
        self._number += 1
        self._waiting[self._number] = question
        self._unsent[self._number] = None
        self.due_ms = min(self.due_ms, question.due_ms)
        return []

    def outgoing(self, now_ms: int, settled_to: int) -> list[Query | Cancel]:
        """Return the messages to send now, with what is left of each wait.

        Spooled batches up to number ``settled_to`` have their verdict. Cancellations go first: who
        asks after them is told what has come of it.
        """
        questions: list[Question] = []
        requests: list[Cancellation] = []
        for number in self._unsent:
            question = self._waiting[number]
            if question.behind > settled_to:
                break  # Those asked later are behind no less.
            if question.cancel is not None:
                requests.append(Cancellation(number, question.id, question.cancel))
                continue
            left_ms = max(1, question.until_ms - now_ms) if question.until_ms else 0
            questions.append(Question(number, question.id, left_ms, question.revision))
        for number in [*[r.request for r in requests], *[q.request for q in questions]]:
            del self._unsent[number]
        step = limits.QUERY_IDS_MAX
        return [
            *[Cancel(requests[i : i + step]) for i in range(0, len(requests), step)],
            *[Query(questions[i : i + step]) for i in range(0, len(questions), step)],
        ]

    def resend(self) -> None:
        """Send everything again: a new session has opened."""
        self._unsent = dict.fromkeys(self._waiting)

    def answer(self, replies: list[Reply]) -> list[tuple[int, Reply]]:
        """Take replies; return them with the connections that wait for them."""
        told = []
        for reply in replies:
            question = self._remove(reply[0])
            if question is not None:
                told.append((question.connection, reply._replace(request=question.request)))
        return told

    def give_up(self, now_ms: int) -> list[tuple[int, Reply]]:
        """Return replies to what has waited too long."""
        told: list[tuple[int, Reply]] = []
        if now_ms < self.due_ms:
            return told
        for number, question in list(self._waiting.items()):
            if question.due_ms <= now_ms:
                self._remove(number)
                reply = Reply(question.request, Code.UNAVAILABLE, None)
                told.append((question.connection, reply))
        first_ms = min([q.due_ms for q in self._waiting.values()], default=NEVER_MS)
        self.due_ms = max(first_ms, now_ms + _LOOK_MS)
        return told

    def forget(self, connection: int) -> None:
        """Forget what a connection that has ended waited for."""
        for number in [n for n, q in self._waiting.items() if q.connection == connection]:
            self._remove(number)

    def _remove(self, number: int) -> _Question | None:
        self._unsent.pop(number, None)
        return self._waiting.pop(number, None)
