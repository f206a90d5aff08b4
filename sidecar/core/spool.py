"""Submissions that the coordinator could not take in time: durable here, replayed in order.

A batch that is spooled is answered ``spooled``, and may be sent, once the shell has committed it.
It is removed once the coordinator has given its verdict. While anything is spooled new submissions
go behind it, so that none overtakes. Memory holds the next batches to send; the rest is in the
shell's store, and so is what is left alone: too old to be replayed, or damaged.

    app --SUBMIT--> Submissions --spool_after_ms without an answer--> Spool --> coordinator
                        +-------while the spool is not empty-----------^

Being told ``spooled`` is faster than being accepted: an app that goes on at that speed would keep
the spool full for ever. So while the coordinator takes what is spooled, at most half as much is
spooled anew; the rest waits for the end of it.
"""

from typing import NamedTuple

from protocol.errors import CODES, Code, ProtocolError
from protocol.ids import to_text
from protocol.messages import Batch, Lease, Outcome, Rejection, Submission, Verdict
from protocol.submission import check, decode_batch
from sidecar.core.events import Note, SpoolContents, SpooledBatch, SpoolWork
from sidecar.core.terms import NEVER_MS, Terms
from sidecar.core.window import Entry, Window

PAUSE_MS = 500
"""Wait before a batch that the coordinator had no room for is sent again."""
REOPEN_MS_MIN = 5_000
REOPEN_MS_MAX = 60_000
"""Waits before a store that has failed is tried again: the first, doubled up to the last."""
STEADY_MS = 10 * REOPEN_MS_MAX
"""A store that has not failed for so long is tried again soon."""


class _Asker(NamedTuple):
    connection: int
    request: int
    rejections: list[Rejection]


class Spool:
    """All spooled batches, and the journal of outcomes.

    Invariant: batches up to ``_window.last_number`` are in the window until their verdict; later
    ones are in the shell's store only.

    Args:
        contents: What the shell found; None when there is no spool.
        terms: Bounds and times.
    """

    def __init__(self, contents: SpoolContents | None, terms: Terms) -> None:
        found = contents or SpoolContents()
        self._terms = terms
        self.available = contents is not None
        self._failed_ms: int | None = None
        """Since when the store cannot be used; None while it can."""
        self._reopen_wait_ms = REOPEN_MS_MIN
        self._last_failure_ms = 0
        self.count = found.count
        self.bytes = found.bytes
        self.unsaved: list[Outcome] = []
        """Outcomes that were to be journaled when the store failed."""
        self.refused = 0
        """Spooled tasks that the coordinator refused; nobody was left to be told."""
        self.left_alone = 0
        """Batches that stay in the store: too old, or damaged."""
        self._left_bytes = 0
        self._journaled = len(found.outcomes)
        """Outcomes that are durable here."""
        self.notes: list[Note] = []
        self._last = self._committed = found.last_number
        self._window = Window(terms.spool_window_bytes)
        self._progress_ms = 0
        """When the coordinator last took something, or a session opened."""
        self._credit = 0
        """How many bytes may be spooled while the coordinator takes what is spooled."""
        self._next = SpoolWork()
        self._working: SpoolWork | None = None
        """What the shell does now."""
        self._askers: dict[int, _Asker] = {}
        """Who waits for the commit of which batch."""
        self._uncommitted_bytes = 0

    @property
    def _failed(self) -> bool:
        return self._failed_ms is not None

    @property
    def exists(self) -> bool:
        """Whether there is a spool, be it one that has failed for now."""
        return self.available or self._failed

    @property
    def active(self) -> bool:
        """Whether new submissions must go behind what is here."""
        return len(self._window) > 0 if self._failed else self.count > 0

    @property
    def busy(self) -> bool:
        """Whether the shell is at work; its end is told."""
        return self._working is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is to be written, or being written."""
        return not self.busy and not (self.available and self._next)

    @property
    def due_ms(self) -> int:
        """When a pause ends, if batches wait for that."""
        return self._window.due_ms

    @property
    def reopen_due_ms(self) -> int:
        """When a store that has failed is to be tried again."""
        if self._failed_ms is None or self.busy:
            return NEVER_MS
        return self._failed_ms + self._reopen_wait_ms

    @property
    def last_number(self) -> int:
        """The number of the latest batch."""
        return self._last

    @property
    def settled_to(self) -> int:
        """Up to which number every batch has its verdict, or will have none."""
        if self._window:
            return self._window.first_number - 1
        return self._last if self._failed or not self.count else self._window.last_number

    def facts(self) -> dict[str, int | str]:
        """Return what there is to know, for people and probes."""
        return {
            "spool": "ready" if self.available else "failed" if self._failed else "none",
            "spooled_batches": self.count,
            "spooled_bytes": self.bytes,
            "spooled_refused": self.refused,
            "spool_left_alone": self.left_alone,
            "outcomes_journaled": self._journaled,
        }

    # --- From apps -----------------------------------------------------------------------------

    def full(self, size: int) -> bool:
        """Tell whether so many bytes more are over the bound."""
        return self.bytes + self._left_bytes + size > self._terms.spool_bytes_max

    def ready_ms(self, size: int, *, open_: bool) -> int:
        """Return from when a batch of this size may be put; ``NEVER_MS`` until something ends."""
        uncommitted = self._uncommitted_bytes
        if not self.available or self.full(size):
            return NEVER_MS
        if uncommitted and uncommitted + size > self._terms.spool_window_bytes:
            return NEVER_MS
        if not self.active or not open_ or size <= self._credit:
            return 0
        return self._progress_ms + self._terms.spool_after_ms

    def put(
        self, now_ms: int, asker: tuple[int, int], tasks: bytes, rejections: list[Rejection]
    ) -> None:
        """Take a batch.

        Args:
            now_ms: The time.
            asker: The connection that waits for the verdict, and its request.
            tasks: The batch.
            rejections: Tasks that were left out of it, for the verdict.
        """
        if not self.count:
            self.notes.append(Note("spooling", {}))
        size = len(tasks)
        stored_only = self.count > len(self._window)
        self._last += 1
        self.count += 1
        self.bytes += size
        self._credit = max(0, self._credit - size)
        self._uncommitted_bytes += size
        if not stored_only and self._window.fits(size):
            self._window.add(self._last, Entry(tasks, now_ms))
        self._next.puts.append((self._last, tasks))
        self._askers[self._last] = _Asker(*asker, rejections)

    # --- To the coordinator --------------------------------------------------------------------

    def resend(self, now_ms: int) -> None:
        """Send everything in memory again: a new session has opened."""
        self._window.resend(self._committed)
        self._credit = 0
        self._progress_ms = now_ms

    def outgoing(self, now_ms: int, next_request: int) -> list[Batch]:
        """Return batches to send now, with requests numbered from ``next_request``."""
        for number in self._window.too_old(now_ms, self._terms.spool_age_ms):
            self._leave_alone("spool_too_old", self._forget(number))
        return self._window.outgoing(now_ms, next_request)

    def answer(self, now_ms: int, verdict: Verdict) -> bool:
        """Take a verdict; return whether it was for a spooled batch."""
        answered = self._window.answered(verdict.request)
        if answered is None:
            return False
        number, tasks = answered
        facts = CODES.get(verdict.code or "")
        if facts is not None and facts.retry:
            self._window.pause(number, now_ms + max(verdict.retry_after_ms, PAUSE_MS))
            return True
        if verdict.code is not None or verdict.rejections:
            self._refused(tasks, verdict)
        size = self._forget(number)
        self._progress_ms = now_ms
        self._credit = min(self._credit + size // 2, self._terms.spool_window_bytes // 2)
        self._next.removes.append(number)
        return True

    def _forget(self, number: int) -> int:
        size = self._window.remove(number)
        self._gone(size)
        return size

    def _gone(self, size: int) -> None:
        self.count -= 1
        self.bytes -= size
        if not self.count:
            self.notes.append(Note("spool_drained", self.facts()))

    def _refused(self, tasks: bytes, verdict: Verdict) -> None:
        code, place, count = verdict.code, 0, 1
        if verdict.rejections:
            first = verdict.rejections[0]
            code, place, count = code or first.code, first.place, len(verdict.rejections)
        self.refused += count
        self._tally("spooled_refused", count, {"code": code or "", "task": _id_at(tasks, place)})

    def _leave_alone(self, why: str, size: int) -> None:
        self.left_alone += 1
        self._left_bytes += size
        self._tally(why, 1, {})

    def _tally(self, name: str, count: int, first: dict[str, int | str]) -> None:
        """Note something that may happen very often: once in all between two flushes."""
        for note in self.notes:
            if note.name == name:
                note.facts["count"] = int(note.facts["count"]) + count
                return
        self.notes.append(Note(name, {"count": count, **first}))

    # --- The journal ---------------------------------------------------------------------------

    def journal(self, outcomes: list[Outcome]) -> None:
        """Keep outcomes over the end of this process."""
        self._next.outcome_puts += outcomes

    def unjournal(self, leases: list[Lease]) -> None:
        """Forget outcomes that are recorded now."""
        self._next.outcome_removes += leases

    # --- The shell's store ---------------------------------------------------------------------

    def work(self, now_ms: int, *, load: bool = True) -> SpoolWork | None:
        """Return what the shell shall do now; one at a time."""
        if self.busy or not self.exists:
            return None
        if self._failed:
            if now_ms < self.reopen_due_ms:
                return None
            self._next.reopen = True
        elif load and self._window.half_empty and self.count > len(self._window):
            self._next.load_after = self._window.last_number
            self._next.load_bytes_max = self._terms.spool_window_bytes // 2
        if not self._next:
            return None
        self._working, self._next = self._next, SpoolWork()
        return self._working

    def done(self, now_ms: int, loaded: list[SpooledBatch]) -> list[tuple[int, Verdict]]:
        """Take the end of the work; return the verdicts that may be given now."""
        work, self._working = self._working, None
        assert work is not None
        if work.reopen:
            self.available, self._failed_ms = True, None
            self.notes.append(Note("spool_reopened", self.facts()))
        for number, tasks in work.puts:
            self._committed = number
            self._uncommitted_bytes -= len(tasks)
            if number in self._window:
                self._window.release(number)
        self._journaled += len(work.outcome_puts) - len(work.outcome_removes)
        for batch in loaded:
            self._take_loaded(now_ms, batch)
        if work.load_after is not None and not loaded:
            self._take_count()
        return self._tell(work, Code.SPOOLED, "the coordinator accepts it later", 0)

    def _take_loaded(self, now_ms: int, batch: SpooledBatch) -> None:
        assert batch.number > self._window.last_number
        self._window.add(batch.number, Entry(batch.tasks, now_ms - batch.age_ms))
        if batch.damaged:
            self._leave_alone("spool_damaged", self._forget(batch.number))
        else:
            self._window.release(batch.number)

    def _take_count(self) -> None:
        """Count again what there is: the store holds less than was put, and must not be asked on.

        Nothing but a file that was changed by others leads here.
        """
        coming = [tasks for number, tasks in self._next.puts if number not in self._window]
        missing = self.count - len(self._window) - len(coming)
        self.bytes = self._window.bytes + sum(len(tasks) for tasks in coming)
        self.count -= missing
        self._tally("spool_damaged", missing, {})

    def failed(self, now_ms: int, detail: str) -> list[tuple[int, Verdict]]:
        """Take the failure of the work: nothing is spooled for now, and what was not is said so.

        What is in memory is still replayed; what is in the store only waits until it is open again.
        Of what was to be done it is not known what took place. So then batches and outcomes of it
        are removed: apps were told that they are not kept, outcomes are journaled again.
        """
        assert self._working is not None
        work, self._working = self._working, None
        work.puts += self._next.puts
        self.unsaved = work.outcome_puts + self._next.outcome_puts
        self._journaled += len(self.unsaved)  # They may be there, and are removed then.
        self._next = SpoolWork(
            removes=work.removes + self._next.removes + [number for number, _ in work.puts],
            outcome_removes=[
                *work.outcome_removes,
                *self._next.outcome_removes,
                *[Lease(o.id, o.token) for o in self.unsaved],
            ],
        )
        self._back_off(now_ms)
        self._uncommitted_bytes = 0
        for number, tasks in work.puts:
            if number in self._window:
                self._forget(number)
            else:
                self._gone(len(tasks))
        stored_only = self.count - len(self._window)
        facts: dict[str, int | str] = {"detail": detail, "not_replayed": stored_only}
        facts["next_try_in_ms"] = self._reopen_wait_ms
        self.notes.append(Note("spool_failed", facts))
        return self._tell(
            work,
            Code.UNAVAILABLE,
            "the spool has failed and the coordinator did not answer",
            PAUSE_MS,
        )

    def _back_off(self, now_ms: int) -> None:
        again = self._last_failure_ms and now_ms - self._last_failure_ms < STEADY_MS
        doubled_ms = min(2 * self._reopen_wait_ms, REOPEN_MS_MAX)
        self._reopen_wait_ms = doubled_ms if again else REOPEN_MS_MIN
        self.available, self._failed_ms = False, now_ms
        self._last_failure_ms = now_ms

    def _tell(
        self, work: SpoolWork, code: str, detail: str, retry_ms: int
    ) -> list[tuple[int, Verdict]]:
        told = []
        for number, _ in work.puts:
            asker = self._askers.pop(number)
            verdict = Verdict(asker.request, code, detail, retry_ms, asker.rejections)
            told.append((asker.connection, verdict))
        return told


def _id_at(tasks: bytes, place: int) -> str:
    """Return the id of one task of a batch, or an empty text."""
    try:
        task = check(place, decode_batch(tasks)[place])
    except (ProtocolError, IndexError):
        return ""
    return to_text(task.id) if isinstance(task, Submission) else ""
