"""Submissions on their way to the coordinator, and who waits for their verdicts.

Each batch gets a number of this sidecar's own in place of the app's; its bytes pass through
untouched. What is unanswered is sent again in every new session; ids make that harmless.
"""

from typing import NamedTuple

from protocol import limits
from protocol.errors import Code, ProtocolError
from protocol.messages import Batch, Rejection, Submit, Verdict
from protocol.submission import check, decode_batch
from sidecar.core.parcels import batch_bytes, parcels
from sidecar.core.spool import Spool
from sidecar.core.terms import NEVER_MS, Terms

BUSY_RETRY_MS = 200
_FRAME_OVERHEAD_BYTES = 64

_UNAVAILABLE = (
    "the coordinator did not answer in time; it may or may not have taken this. "
    "Submitting the same ids again is safe"
)


class _Submission(NamedTuple):
    connection: int
    request: int
    tasks: bytes
    due_ms: int
    spool_ms: int
    """When it goes to the spool if it has no verdict by then."""


class Submissions:
    """All batches without a verdict, bounded in bytes.

    Invariant: the bytes counted for all, and for each connection, are those of ``_waiting``.
    """

    def __init__(self, terms: Terms, spool: Spool) -> None:
        self._terms = terms
        self._spool = spool
        self._waiting: dict[int, _Submission] = {}
        self._unsent: dict[int, None] = {}
        self._bytes: dict[int, int] = {}
        self._bytes_in_all = 0
        self._bytes_in_flight = 0
        self._number = 0
        self.due_ms = NEVER_MS
        """Not later than when the next batch is given up."""
        self.spool_due_ms = NEVER_MS
        """Not later than when the next batch goes to the spool."""
        self.answered = 0
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, now_ms: int, connection: int, batches: list[Batch]) -> list[Verdict]:
        """Take batches; return the verdicts on those that cannot be taken."""
        verdicts = []
        for request, tasks, may_spool in batches:
            if may_spool and self._spool.active and self._spool.available:
                verdicts += self._to_spool(connection, request, tasks)
                continue
            problem = self._problem(connection, len(tasks))
            if problem is not None:
                verdicts.append(Verdict(request, *problem, []))
                continue
            self._number += 1
            due_ms = now_ms + self._terms.submit_timeout_ms
            spool_ms = now_ms + self._terms.spool_after_ms if may_spool else NEVER_MS
            self._waiting[self._number] = _Submission(connection, request, tasks, due_ms, spool_ms)
            self.spool_due_ms = min(self.spool_due_ms, spool_ms)
            self._unsent[self._number] = None
            self._bytes[connection] = self._bytes.get(connection, 0) + len(tasks)
            self._bytes_in_all += len(tasks)
            self.due_ms = min(self.due_ms, due_ms)
        return verdicts

    def _to_spool(self, connection: int, request: int, tasks: bytes) -> list[Verdict]:
        """Spool a batch after a look at its tasks: nobody is told later that one was wrong."""
        try:
            raw = decode_batch(tasks)
        except ProtocolError as error:
            return [Verdict(request, error.code, error.detail, 0, [])]
        checked = [check(place, task) for place, task in enumerate(raw)]
        rejections = [task for task in checked if isinstance(task, Rejection)]
        if len(rejections) == len(raw):
            return [Verdict(request, None, "", 0, rejections)]
        problem = self._spool.put(connection, request, tasks, rejections)
        return [] if problem is None else [problem]

    def spool_overdue(self, now_ms: int) -> list[tuple[int, Verdict]]:
        """Spool what the coordinator did not answer in time; return verdicts on what cannot be."""
        told: list[tuple[int, Verdict]] = []
        if now_ms < self.spool_due_ms:
            return told
        self.spool_due_ms = NEVER_MS
        for number, waiting in list(self._waiting.items()):
            if waiting.spool_ms > now_ms:
                self.spool_due_ms = min(self.spool_due_ms, waiting.spool_ms)
            elif self._spool.available:
                # Its verdict may still come, and is ignored then: sending it again is harmless.
                self._remove(number)
                verdicts = self._to_spool(waiting.connection, waiting.request, waiting.tasks)
                told += [(waiting.connection, verdict) for verdict in verdicts]
        return told

    def _problem(self, connection: int, size: int) -> tuple[str, str, int] | None:
        if size > limits.FRAME_BYTES_MAX - _FRAME_OVERHEAD_BYTES:
            return Code.BATCH_TOO_LARGE, f"the batch has {size} bytes; submit fewer at once", 0
        terms = self._terms
        if self._bytes.get(connection, 0) + size > terms.submit_bytes_per_connection_max:
            return Code.BUSY, "too much of this connection waits for an answer", BUSY_RETRY_MS
        if self._bytes_in_all + size > terms.submit_bytes_max:
            return Code.BUSY, "too much waits for the coordinator's answer", BUSY_RETRY_MS
        return None

    def outgoing(self, now_ms: int) -> list[Submit]:
        """Return the messages to send now: what was spooled goes first."""
        spooled = self._spool.outgoing(now_ms, self._number + 1)
        self._number += len(spooled)
        room = self._terms.submit_bytes_in_flight_max - self._bytes_in_flight
        batches = []
        for number in self._unsent:
            if room <= 0:
                break
            tasks = self._waiting[number].tasks
            batches.append(Batch(number, tasks))
            room -= len(tasks)
        for batch in batches:
            del self._unsent[batch.request]
            self._bytes_in_flight += len(batch.tasks)
        return [Submit(part) for part in parcels(spooled + batches, batch_bytes)]

    def resend(self) -> None:
        """Send everything again: a new session has opened."""
        self._unsent = dict.fromkeys(self._waiting)
        self._bytes_in_flight = 0
        self._spool.resend()

    def answer(self, now_ms: int, verdicts: list[Verdict]) -> list[tuple[int, Verdict]]:
        """Take verdicts; return them with the connections that wait for them."""
        told = []
        for verdict in verdicts:
            if self._spool.answer(now_ms, verdict):
                continue
            submission = self._remove(verdict[0])
            if submission is not None:
                told.append((submission.connection, verdict._replace(request=submission.request)))
        self.answered += len(told)
        return told

    def give_up(self, now_ms: int) -> list[tuple[int, Verdict]]:
        """Return verdicts on what has waited too long."""
        told: list[tuple[int, Verdict]] = []
        if now_ms < self.due_ms:
            return told
        self.due_ms = NEVER_MS
        for number, submission in list(self._waiting.items()):
            if submission.due_ms > now_ms:
                self.due_ms = submission.due_ms  # All wait equally long: the rest is later.
                break
            self._remove(number)
            verdict = Verdict(submission.request, Code.UNAVAILABLE, _UNAVAILABLE, BUSY_RETRY_MS, [])
            told.append((submission.connection, verdict))
        self.given_up += len(told)
        return told

    def forget(self, connection: int) -> None:
        """Forget what a connection that has ended waited for."""
        for number in [n for n, s in self._waiting.items() if s.connection == connection]:
            self._remove(number)

    def _remove(self, number: int) -> _Submission | None:
        submission = self._waiting.pop(number, None)
        if submission is None:
            return None
        size = len(submission.tasks)
        if number in self._unsent:
            del self._unsent[number]
        else:
            self._bytes_in_flight -= size
        self._bytes_in_all -= size
        self._bytes[submission.connection] -= size
        if not self._bytes[submission.connection]:
            del self._bytes[submission.connection]
        return submission
