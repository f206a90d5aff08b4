"""Accept what apps submit: check each task, make sure that its id is new, store it.

Every id is looked up, in one read per message. Without that, a submitter that repeats an id would
silently replace a task that was accepted before; with it, sending a submission again is harmless,
and the look-up is the cheapest read that the store has, at the edge where it has just written.
"""

from typing import Any

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now
from coordinator.core.ledger import Ledger
from coordinator.core.payloads import content_crc
from coordinator.core.task import Task
from protocol import submission
from protocol.errors import Code, ProtocolError
from protocol.ids import id_ms
from protocol.limits import CLOCK_SKEW_MS_MAX, DELAY_MS_MAX, MIB
from protocol.messages import Accepted, Batch, Priority, Rejection, State, Submission, Verdict

Fresh = tuple[int, Submission, bool]
"""Place in the batch, the task, and whether its id was under look-up already."""
Checked = tuple[int, list[Rejection], list[int], list[Fresh]]
"""Request, rejections and duplicates so far, tasks to look up."""

INLINE_BYTES_MAX = 1024
"""A larger payload is stored apart from the record, so that no retry writes it again."""
CHECKING_BYTES_MAX = 64 * MIB
"""Submitted bytes that may wait for their look-up; beyond it submitters are told to wait."""
BUSY_RETRY_MS = 200


class Submissions:
    """Submissions on their way into the store."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._checking: set[bytes] = set()
        """Ids whose look-up is under way. Another with the same id waits until it is done: of all
        that have one id, only the first may find it new."""
        self._checking_bytes = 0
        self.refuse_all = ""
        """Why nothing is accepted at present: the store is nearly full."""

    def submit(self, now: Now, peer: bytes, batches: list[Batch]) -> None:
        """Check batches and look their ids up; the verdicts follow."""
        verdicts: list[Verdict] = []
        checked: list[Checked] = []
        size = sum(len(batch.tasks) for batch in batches)
        for batch in batches:
            refusal = self._refusal(size)
            if refusal is not None:
                verdicts.append(Verdict(batch.request, *refusal, BUSY_RETRY_MS, []))
                continue
            try:
                raw = submission.decode_batch(batch.tasks)
            except ProtocolError as error:
                self._ledger.count(error.code)
                verdicts.append(Verdict(batch.request, error.code, error.detail, 0, []))
                continue
            rejections: list[Rejection] = []
            fresh: list[Fresh] = []
            self._check(now, raw, rejections, fresh)
            checked.append((batch.request, rejections, [], fresh))
        if verdicts:
            self._ledger.send(peer, Accepted(verdicts))
        if checked:
            self._checking_bytes += size
            self._look_up(peer, checked, size)

    def _refusal(self, size: int) -> tuple[str, str] | None:
        """Return code and detail if a batch cannot be taken now."""
        if self.refuse_all:
            self._ledger.count(Code.STORE_FULL)
            return Code.STORE_FULL, self.refuse_all
        if self._checking_bytes and self._checking_bytes + size > CHECKING_BYTES_MAX:
            self._ledger.count(Code.BUSY)
            return Code.BUSY, "the coordinator has too many submissions in hand"
        return None

    def _check(
        self,
        now: Now,
        raw: list[Any],
        rejections: list[Rejection],
        fresh: list[Fresh],
    ) -> None:
        checking = self._checking
        for place, item in enumerate(raw):
            task = submission.check(place, item)
            if isinstance(task, Rejection):
                rejection = task
            elif task.options and not _due_in_range(now, task):
                rejection = Rejection(
                    place, Code.DUE_OUT_OF_RANGE, "at_ms is in the past or more than ten years away"
                )
            elif self._ledger.handler(task.handler) is None:
                rejection = Rejection(
                    place, Code.TOO_MANY_HANDLERS, f"no room for a new handler {task.handler}"
                )
            else:
                fresh.append((place, task, task.id in checking))
                checking.add(task.id)
                continue
            self._ledger.count(rejection.code)
            rejections.append(rejection)

    def _look_up(
        self,
        peer: bytes,
        checked: list[Checked],
        size: int,
    ) -> None:
        def then(now: Now, found: dict[bytes, bytes], _: Any) -> None:
            self._checking_bytes -= size
            verdicts = []
            again: list[Checked] = []
            for request, rejections, known, fresh in checked:
                repeats = self._take(now, fresh, found, rejections, known)
                if repeats:
                    again.append((request, rejections, known, repeats))
                else:
                    verdict = Verdict(request, None, "", 0, sorted(rejections), sorted(known))
                    verdicts.append(verdict)
            if verdicts:
                self._ledger.send(peer, Accepted(verdicts))
            if again:
                self._look_up(peer, again, 0)

        keys = [b"t" + task.id for _, _, _, fresh in checked for _, task, _ in fresh]
        self._ledger.ask(GetMany(keys), then, watch=False)

    def _take(
        self,
        now: Now,
        fresh: list[Fresh],
        found: dict[bytes, bytes],
        rejections: list[Rejection],
        known: list[int],
    ) -> list[Fresh]:
        """Accept the tasks whose ids are new; return those that must be looked up once more."""
        repeats: list[Fresh] = []
        # An id may have been a task before, whose record is removed and whose lease still stands
        # in the row of a grant, beside others: no token of that life reaches up to a fresh number.
        token = self._ledger.next_row()
        for place, task, repeated in fresh:
            if not repeated:
                self._checking.discard(task.id)
            record = found.get(b"t" + task.id) if found else None
            if record is not None:
                if self._same(task, record):
                    known.append(place)
                else:
                    self._ledger.count(Code.DUPLICATE_ID)
                    detail = "another task has this id; it is unharmed"
                    rejections.append(Rejection(place, Code.DUPLICATE_ID, detail))
            elif repeated:
                # The first with this id was accepted after this read was made.
                repeats.append((place, task, task.id in self._checking))
                self._checking.add(task.id)
            else:
                self._accept(now, task, token)
        return repeats

    def _same(self, task: Submission, record: bytes) -> bool:
        """Tell whether a stored task is the one that is submitted again."""
        stored = self._ledger.read_record(task.id, record)
        if stored is None:
            return False
        self._ledger.count("resubmitted")
        return stored.handler.name == task.handler and stored.content_crc == content_crc(
            stored.handler.name_crc, task.payload
        )

    def _accept(self, now: Now, submitted: Submission, token: int) -> None:
        ledger = self._ledger
        task_id, name, payload, content_type, options = submitted
        handler = ledger.handlers[name]
        size = len(payload)
        inline = size <= INLINE_BYTES_MAX
        task = Task(task_id, handler, Priority.NORMAL, payload if inline else None, size)
        if not inline:
            ledger.effects.writes[layout.payload_key(task_id)] = payload
        task.content_crc = content_crc(handler.name_crc, payload)
        task.content_type = content_type
        task.token = token
        task.submitted_ms = task.due_ms = now.wall_ms
        if options:
            self._apply_options(task, options)
        if task.due_ms > now.wall_ms:
            task.state = State.SCHEDULED
            ledger.schedule(task)
            ledger.save(task)
        elif ledger.make_ready(now, task):
            ledger.save(task)
        handler.figures.submitted += 1

    def _apply_options(self, task: Task, options: dict[str, Any]) -> None:
        own = dict(options)
        task.priority = own.pop("priority", Priority.NORMAL)
        task.collection = own.pop("collection", None)
        task.due_ms = max(task.due_ms + own.pop("delay_ms", 0), own.pop("at_ms", 0))
        expires_ms = own.pop("expires_ms", 0)
        if expires_ms:
            task.expires_ms = task.due_ms + expires_ms
            self._ledger.guard_expiry(task)
        task.options = own or None


def _due_in_range(now: Now, task: Submission) -> bool:
    """Tell whether a due time is neither a mistake of the past nor too far ahead.

    The past counts from when the id was made: a task that waited for its acceptance in a sidecar's
    spool, or is submitted again, was in time when it was submitted.
    """
    at_ms = (task.options or {}).get("at_ms")
    if at_ms is None:
        return True
    submitted_ms = min(now.wall_ms, id_ms(task.id))
    return bool(submitted_ms - CLOCK_SKEW_MS_MAX <= at_ms <= now.wall_ms + DELAY_MS_MAX)
