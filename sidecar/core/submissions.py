"""Submissions on their way to the coordinator, and who waits for their verdicts.

Each batch gets a number of this sidecar's own in place of the app's; its bytes pass through
untouched. What is unanswered is sent again in every new session; ids make that harmless. What the
coordinator does not answer in time goes to the spool, if it may, and all that came after it goes
behind it, in order.
"""

from collections import deque
from typing import NamedTuple

from protocol import limits
from protocol.errors import Code, ProtocolError
from protocol.messages import Batch, Rejection, Submission, Submit, Verdict
from protocol.submission import check, decode_batch, encode_batch
from sidecar.core.parcels import batch_bytes, parcels
from sidecar.core.spool import PAUSE_MS, Spool
from sidecar.core.terms import NEVER_MS, Terms

BUSY_RETRY_MS = 200
_FRAME_OVERHEAD_BYTES = 64

_UNAVAILABLE = (
    "the coordinator did not answer in time; it may or may not have taken this. "
    "Submitting the same ids again is safe"
)


class _Waiting(NamedTuple):
    connection: int
    request: int
    tasks: bytes
    due_ms: int
    """When it is given up."""
    spool_ms: int
    """When it goes to the spool if it has no verdict by then; ``NEVER_MS`` if it may not."""


class Submissions:
    """All batches without a verdict, bounded in bytes.

    Invariant: the bytes counted for all, and for each connection, are those of ``_waiting``.
    """

    def __init__(self, terms: Terms, spool: Spool) -> None:
        self._terms = terms
        self._spool = spool
        self._waiting: dict[int, _Waiting] = {}
        self._unsent: dict[int, None] = {}
        """Not sent yet, of those that may be spooled: they wait while anything is in the spool."""
        self._unsent_only: dict[int, None] = {}
        """Not sent yet, of those that insist on the coordinator's answer: they pass it by."""
        self._spoolable: deque[int] = deque()
        """Those that may be spooled, in order, and some that are answered already."""
        self._bytes: dict[int, int] = {}
        self._bytes_in_all = 0
        self._bytes_in_flight = 0
        self._number = 0
        self.due_ms = NEVER_MS
        """Not later than when the next batch is given up."""
        self.spool_due_ms = NEVER_MS
        """Not later than when the next batch goes to the spool, if nothing else happens before."""
        self.answered = 0
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, now_ms: int, connection: int, batches: list[Batch]) -> list[Verdict]:
        """Take batches; return the verdicts on those that cannot be taken."""
        verdicts = []
        for request, tasks, may_spool in batches:
            problem = self._problem(connection, len(tasks))
            if problem is not None:
                verdicts.append(Verdict(request, *problem, []))
                continue
            self._number += 1
            due_ms = now_ms + self._terms.submit_timeout_ms
            spool_ms = now_ms + self._terms.spool_after_ms if may_spool else NEVER_MS
            self._waiting[self._number] = _Waiting(connection, request, tasks, due_ms, spool_ms)
            if may_spool and self._spool.exists:
                self._spoolable.append(self._number)
            self._unsent_like(self._number)[self._number] = None
            self.spool_due_ms = min(self.spool_due_ms, spool_ms)
            self._bytes[connection] = self._bytes.get(connection, 0) + len(tasks)
            self._bytes_in_all += len(tasks)
            self.due_ms = min(self.due_ms, due_ms)
        return verdicts

    def _unsent_like(self, number: int) -> dict[int, None]:
        """Return where a batch stands until it is sent."""
        may_spool = self._waiting[number].spool_ms < NEVER_MS
        return self._unsent if may_spool else self._unsent_only

    # --- To the spool --------------------------------------------------------------------------

    def to_spool(self, now_ms: int, *, open_: bool) -> list[tuple[int, Verdict]]:
        """Spool what waits too long, or behind the spool; return verdicts on what cannot be.

        One that was sent before may still be answered; that answer is ignored then, and it is
        sent again: its ids make that harmless.
        """
        told: list[tuple[int, Verdict]] = []
        self.spool_due_ms = NEVER_MS
        while self._spoolable:
            number = self._spoolable[0]
            waiting = self._waiting.get(number)
            if waiting is not None:
                due_ms = self._spool_due_ms(waiting, open_=open_)
                if now_ms < due_ms:
                    self.spool_due_ms = due_ms
                    break
                told += [(waiting.connection, v) for v in self._to_spool(now_ms, number, waiting)]
            self._spoolable.popleft()
        return told

    def _spool_due_ms(self, waiting: _Waiting, *, open_: bool) -> int:
        if not self._spool.available:
            return NEVER_MS  # Its turn may come yet, and before those that come later.
        if not self._spool.active:
            return waiting.spool_ms
        size = len(waiting.tasks)
        if self._spool.full(size):
            return 0  # To be told so.
        # Whatever holds it up: before it is given up, it is spooled.
        patience_ms = waiting.due_ms - self._terms.submit_timeout_ms // 2
        ready_ms = self._spool.ready_ms(size, open_=open_)
        return ready_ms if ready_ms == NEVER_MS else min(ready_ms, patience_ms)

    def _to_spool(self, now_ms: int, number: int, waiting: _Waiting) -> list[Verdict]:
        """Spool a batch after a look at its tasks: nobody is told later that one was wrong."""
        request = waiting.request
        try:
            raw = decode_batch(waiting.tasks)
        except ProtocolError as error:
            self._remove(number)
            return [Verdict(request, error.code, error.detail, 0, [])]
        checked = [check(place, task) for place, task in enumerate(raw)]
        rejections = [task for task in checked if isinstance(task, Rejection)]
        if len(rejections) == len(raw):
            self._remove(number)
            return [Verdict(request, None, "", 0, rejections)]
        if self._spool.full(len(waiting.tasks)):
            return self._turn_away(number, request)
        tasks = waiting.tasks
        if rejections:
            tasks = encode_batch([task for task in checked if isinstance(task, Submission)])
        self._remove(number)
        self._spool.put(now_ms, (waiting.connection, request), tasks, rejections)
        return []

    def _turn_away(self, number: int, request: int) -> list[Verdict]:
        if number not in self._unsent:
            return []  # It may have been accepted: "busy" would be wrong.
        self._remove(number)
        detail = "the coordinator is out of reach and the spool is full"
        return [Verdict(request, Code.BUSY, detail, PAUSE_MS, [])]

    def _problem(self, connection: int, size: int) -> tuple[str, str, int] | None:
        if size > limits.FRAME_BYTES_MAX - _FRAME_OVERHEAD_BYTES:
            return Code.BATCH_TOO_LARGE, f"the batch has {size} bytes; submit fewer at once", 0
        terms = self._terms
        if self._bytes.get(connection, 0) + size > terms.submit_bytes_per_connection_max:
            return Code.BUSY, "too much of this connection waits for an answer", BUSY_RETRY_MS
        if self._bytes_in_all + size > terms.submit_bytes_max:
            return Code.BUSY, "too much waits for the coordinator's answer", BUSY_RETRY_MS
        return None

    # --- To the coordinator --------------------------------------------------------------------

    def outgoing(self, now_ms: int) -> list[Submit]:
        """Return the messages to send now: what was spooled goes first."""
        spooled = self._spool.outgoing(now_ms, self._number + 1)
        self._number += len(spooled)
        batches = self._take(self._unsent_only)
        if not self._spool.active:
            batches += self._take(self._unsent)
        return [Submit(part) for part in parcels(spooled + batches, batch_bytes)]

    def _take(self, unsent: dict[int, None]) -> list[Batch]:
        room = self._terms.submit_bytes_in_flight_max - self._bytes_in_flight
        batches = []
        for number in unsent:
            if room <= 0:
                break
            tasks = self._waiting[number].tasks
            batches.append(Batch(number, tasks))
            room -= len(tasks)
        for batch in batches:
            del unsent[batch.request]
            self._bytes_in_flight += len(batch.tasks)
        return batches

    def resend(self, now_ms: int) -> None:
        """Send everything again: a new session has opened."""
        self._unsent, self._unsent_only = {}, {}
        for number in self._waiting:
            self._unsent_like(number)[number] = None
        self._bytes_in_flight = 0
        self._spool.resend(now_ms)

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

    def _remove(self, number: int) -> _Waiting | None:
        if number not in self._waiting:
            return None
        unsent = self._unsent_like(number)
        submission = self._waiting.pop(number)
        size = len(submission.tasks)
        if number in unsent:
            del unsent[number]
        else:
            self._bytes_in_flight -= size
        self._bytes_in_all -= size
        self._bytes[submission.connection] -= size
        if not self._bytes[submission.connection]:
            del self._bytes[submission.connection]
        return submission
