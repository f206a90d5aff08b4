"""Submissions on their way: gathered into batches, sent, sent again, settled by their verdicts.

No I/O and no clock here. Calls wait in order; each ``take`` turns what waits into batches, as
large as they come: one task when one caller waits, thousands under load. At most
``BATCHES_OPEN_MAX`` batches are unanswered, so that a slow coordinator makes batches larger and
not more numerous. A batch keeps its bytes until its verdict, and after a reconnect is sent again
as it was: its ids make that harmless.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice

from protocol import limits
from protocol.errors import CODES, Code, Fault
from protocol.ids import TaskIds
from protocol.messages import Batch, Submission, Verdict
from protocol.submission import encode_batch
from sidecar.sdk.errors import Busy, PillionError, Rejected, Unavailable
from sidecar.sdk.new_task import Draft

BATCHES_OPEN_MAX = 16
BYTES_OPEN_MAX = 8 * limits.MIB
"""Half of what a sidecar keeps for one connection."""
RETRY_S_MIN = 0.05
_TASK_BYTES = 64
"""What a task takes beside its payload, about."""


class Call:
    """One call of the app: tasks that were submitted together.

    Invariant: ``left`` is how many of its tasks have no verdict; at 0 ``done`` has been called.
    """

    __slots__ = (
        "abandoned",
        "deadline",
        "done",
        "drafts",
        "duplicates",
        "errors",
        "ids",
        "left",
        "spooled",
        "started",
    )

    def __init__(
        self, drafts: list[Draft], started: float, timeout: float, done: Callable[["Call"], None]
    ) -> None:
        self.drafts = drafts
        self.started = started
        self.deadline = started + timeout
        self.done = done
        self.left = len(drafts)
        self.ids: list[bytes] = []
        self.errors: dict[int, PillionError] | None = None
        self.duplicates: set[int] | None = None
        """Places of tasks that were there already."""
        self.spooled = False
        """Whether the sidecar's spool holds tasks of it that the coordinator has not accepted."""
        self.abandoned = False
        """Whether the caller has stopped waiting; what was not sent then is not sent."""

    @property
    def size(self) -> int:
        """Its payloads in bytes, about."""
        return sum(len(d[2]) + _TASK_BYTES for d in self.drafts)


class _Part:
    """The tasks of one call that went into one batch."""

    __slots__ = ("call", "count", "start")

    def __init__(self, call: Call, start: int, count: int) -> None:
        self.call = call
        self.start = start
        self.count = count


class _Open:
    """A batch without its verdict."""

    __slots__ = ("batch", "parts", "retry_at", "trouble", "unsure")

    def __init__(self, batch: Batch, parts: list[_Part]) -> None:
        self.batch = batch
        self.parts = parts
        self.retry_at: float | None = None
        """When to send it again after a verdict that said "later"."""
        self.trouble: Verdict | None = None
        self.unsure = False
        """Whether an earlier sending went unanswered, so that it may have been accepted."""


class Submissions:
    """All submissions of one client."""

    def __init__(self, *, may_spool: bool) -> None:
        self._may_spool = may_spool
        self._ids = TaskIds()
        self._waiting: deque[Call] = deque()
        self._begun = 0
        """How many tasks of the first waiting call are in batches already."""
        self._open: dict[int, _Open] = {}
        self._request = 0
        self.bytes_waiting = 0
        self._bytes_open = 0

    @property
    def pending(self) -> bool:
        """Whether anything has no verdict."""
        return bool(self._waiting or self._open)

    def add(self, call: Call) -> None:
        """Take a call."""
        self._waiting.append(call)
        self.bytes_waiting += call.size

    def take(self) -> list[Batch]:
        """Return the batches to send now."""
        made: list[Batch] = []
        while (
            self._waiting
            and len(self._open) < BATCHES_OPEN_MAX
            and self._bytes_open < BYTES_OPEN_MAX
        ):
            parts, submissions = self._gather()
            if not parts:
                break
            self._request += 1
            batch = Batch(self._request, encode_batch(submissions), self._may_spool)
            self._open[batch.request] = _Open(batch, parts)
            self._bytes_open += len(batch.tasks)
            made.append(batch)
        return made

    def take_again(self) -> list[Batch]:
        """Return every batch without a verdict, for a new connection."""
        for entry in self._open.values():
            entry.retry_at = None
            entry.unsure = True
        return [entry.batch for entry in self._open.values()]

    def take_due(self, now: float) -> list[Batch]:
        """Return the batches that were told to come again by now."""
        due = [e for e in self._open.values() if e.retry_at is not None and e.retry_at <= now]
        for entry in due:
            entry.retry_at = None
        return [entry.batch for entry in due]

    def settle(self, verdict: Verdict, now: float) -> None:
        """Take the verdict on one batch."""
        entry = self._open.get(verdict.request)
        if entry is None:  # Answered twice: it was sent again.
            return
        if verdict.code is None or verdict.code == Code.SPOOLED:
            self._close(entry, verdict)
            return
        entry.unsure |= verdict.code == Code.UNAVAILABLE
        facts = CODES.get(verdict.code)
        wait = max(verdict.retry_after_ms / 1000, RETRY_S_MIN)
        if facts is not None and facts.retry and now + wait < self._last_deadline(entry):
            entry.retry_at = now + wait
            entry.trouble = verdict
        else:
            self._forget(entry)
            for part in entry.parts:
                _fail(part, _refusal(verdict, entry.unsure, part.call, now))

    def told_to_wait(self, since: float) -> tuple[str, str] | None:
        """Return why a batch with a call from before ``since`` is to come again, and the code."""
        for entry in self._open.values():
            if entry.trouble is not None and min(p.call.started for p in entry.parts) <= since:
                return entry.trouble.detail, entry.trouble.code or ""
        return None

    def expire(self, now: float) -> float | None:
        """Fail what has waited too long; return the next instant to look, or None."""
        while self._waiting and self._waiting[0].deadline <= now:
            self._drop_first()
        nearest = [self._waiting[0].deadline] if self._waiting else []
        for entry in list(self._open.values()):
            for part in entry.parts:
                if part.call.left and part.call.deadline <= now:
                    _fail(part, self._overdue(entry, part.call, now))
            if all(part.call.left == 0 for part in entry.parts):
                self._forget(entry)
                continue
            nearest.append(min(p.call.deadline for p in entry.parts if p.call.left))
            if entry.retry_at is not None and entry.retry_at > now:
                nearest.append(entry.retry_at)
        return min(nearest, default=None)

    def fail(self, error: PillionError) -> None:
        """Fail everything: nobody will answer."""
        for entry in list(self._open.values()):
            self._forget(entry)
            for part in entry.parts:
                _fail(part, error)
        for call in self._waiting:
            _fail(_Part(call, 0, len(call.drafts)), error)
        self._waiting.clear()
        self._begun = self.bytes_waiting = 0

    def _gather(self) -> tuple[list[_Part], list[Submission]]:
        """Return the next batch's parts, of the calls that wait, in their order."""
        parts: list[_Part] = []
        drafts: list[Draft] = []
        size = 0
        while self._waiting and len(drafts) < limits.BATCH_TASKS_MAX:
            call = self._waiting[0]
            start = self._begun
            if call.abandoned and start == 0:
                self._waiting.popleft()
                self.bytes_waiting -= call.size
                continue
            count = 0
            for drafted in islice(call.drafts, start, None):
                added = len(drafted[2]) + _TASK_BYTES
                full = size + added > limits.BATCH_BYTES_MAX and (drafts or count)
                if full or len(drafts) + count == limits.BATCH_TASKS_MAX:
                    break
                size += added
                count += 1
            if not count:
                break
            drafts += call.drafts[start : start + count]
            parts.append(_Part(call, start, count))
            if start + count < len(call.drafts):
                self._begun = start + count
                break
            self._begun = 0
            self._waiting.popleft()
            self.bytes_waiting -= call.size
        return parts, self._with_ids(parts, drafts)

    def _with_ids(self, parts: list[_Part], drafts: list[Draft]) -> list[Submission]:
        fresh = self._ids.batch(len(drafts)) if drafts else []
        submissions = [
            Submission(d[0] or new, d[1], d[2], d[3], d[4])
            for d, new in zip(drafts, fresh, strict=True)
        ]
        place = 0
        for part in parts:
            part.call.ids += [s.id for s in submissions[place : place + part.count]]
            place += part.count
        return submissions

    def _close(self, entry: _Open, verdict: Verdict) -> None:
        self._forget(entry)
        rejected = {r.place: Rejected(r.code, r.detail) for r in verdict.rejections}
        place = 0
        for part in entry.parts:
            call = part.call
            call.spooled |= verdict.code == Code.SPOOLED
            if rejected:
                for i in range(part.count):
                    if place + i in rejected:
                        _note(call, part.start + i, rejected[place + i])
            if verdict.duplicates:
                call.duplicates = (call.duplicates or set()) | {
                    part.start + known - place
                    for known in verdict.duplicates
                    if place <= known < place + part.count
                }
            place += part.count
            _settled(call, part.count)

    def _forget(self, entry: _Open) -> None:
        del self._open[entry.batch.request]
        self._bytes_open -= len(entry.batch.tasks)

    def _drop_first(self) -> None:
        call = self._waiting.popleft()
        self.bytes_waiting -= call.size
        start, self._begun = self._begun, 0
        part = _Part(call, start, len(call.drafts) - start)
        if call.left:
            waited = call.deadline - call.started
            _fail(part, _unsent(call, waited))

    def _last_deadline(self, entry: _Open) -> float:
        return max(part.call.deadline for part in entry.parts)

    def _overdue(self, entry: _Open, call: Call, now: float) -> PillionError:
        if entry.trouble is not None:
            return _refusal(entry.trouble, entry.unsure, call, now)
        return _unanswered(call, now - call.started)


def _refusal(verdict: Verdict, unsure: bool, call: Call, now: float) -> PillionError:
    """Return the error for a batch that was refused as a whole."""
    code = verdict.code or ""
    facts = CODES.get(code)
    if facts is not None and facts.fault is Fault.RECEIVER:
        if unsure:
            return _unanswered(call, now - call.started, verdict.detail)
        return Busy(code, verdict.detail, max(verdict.retry_after_ms / 1000, RETRY_S_MIN))
    return Rejected(code, verdict.detail)


def _what(call: Call) -> str:
    count, handler = len(call.drafts), call.drafts[0][1]
    return f"a task of {handler}" if count == 1 else f"{count} tasks, the first of {handler}"


def _unanswered(call: Call, waited: float, detail: str = "") -> Unavailable:
    return Unavailable(
        f"no verdict within {waited:.1f} s on the submit of {_what(call)}"
        f"{': ' + detail if detail else ''}; the outcome is unknown, it may have been accepted. "
        "Submit it again under the same id to be sure",
        sent=True,
        ids=tuple(call.ids),
    )


def _unsent(call: Call, waited: float) -> Unavailable:
    return Unavailable(
        f"no sidecar took the submit of {_what(call)} within {waited:.1f} s; it was not sent",
        sent=False,
    )


def _note(call: Call, place: int, error: PillionError) -> None:
    if call.errors is None:
        call.errors = {}
    call.errors[place] = error


def _fail(part: _Part, error: PillionError) -> None:
    call = part.call
    for place in range(part.start, part.start + part.count):
        _note(call, place, error)
    _settled(call, part.count)


def _settled(call: Call, count: int) -> None:
    # A call may be settled twice over when it failed as a whole while parts were open.
    if call.left:
        call.left -= min(count, call.left)
        if call.left == 0:
            call.done(call)
