"""Submissions that the coordinator could not take in time: durable here, replayed in order.

A batch that is spooled is answered ``spooled`` once the shell has committed it, and is removed
once the coordinator has given its verdict. While anything is spooled, new submissions go behind
it, so that none overtakes. Memory holds the next batches to send; the rest is in the shell's store.

    app --SUBMIT--> Submissions --spool_after_ms without an answer--> Spool --> coordinator
                        +-------while the spool is not empty-----------^
"""

from typing import NamedTuple

from protocol.errors import CODES, Code
from protocol.limits import MIB
from protocol.messages import Batch, Lease, Outcome, Rejection, Verdict
from sidecar.core.events import Note, SpoolContents, SpoolWork

WINDOW_BYTES_MAX = 8 * MIB
"""Batches kept in memory; beyond it they are read back when their turn comes."""
WINDOW_BYTES_LOW = 4 * MIB
IN_FLIGHT_BYTES_MAX = 4 * MIB
PAUSE_MS = 500
"""Wait before a batch that the coordinator had no room for is sent again."""


class _Asker(NamedTuple):
    connection: int
    request: int
    rejections: list[Rejection]


class Spool:
    """All spooled batches, and the journal of outcomes.

    Invariant: batches numbered up to ``_loaded_to`` are in ``_window`` until their verdict; later
    ones are in the shell's store only.

    Args:
        contents: What the shell found; None when there is no spool.
        bytes_max: How much may be spooled.
    """

    def __init__(self, contents: SpoolContents | None, bytes_max: int) -> None:
        found = contents or SpoolContents()
        self.available = contents is not None
        self.count = found.count
        self.bytes = found.bytes
        self.rejected = 0
        """Spooled tasks that the coordinator refused; nobody is left to be told."""
        self.notes: list[Note] = []
        self._bytes_max = bytes_max
        self._last = found.last_number
        self._loaded_to = 0
        self._window: dict[int, bytes] = {}
        self._window_bytes = 0
        self._unsent: dict[int, None] = {}
        self._in_flight: dict[int, int] = {}
        self._in_flight_bytes = 0
        self._paused_until_ms = 0
        self._next = SpoolWork()
        self._busy = False
        self._loading = False
        self._asking: dict[int, _Asker] = {}
        self._committing: dict[int, _Asker] = {}

    @property
    def active(self) -> bool:
        """Whether new submissions must queue here."""
        return self.count > 0

    @property
    def idle(self) -> bool:
        """Whether nothing is to be written, or being written."""
        return not self._busy and not (self.available and self._next)

    @property
    def due_ms(self) -> int | None:
        """When a pause ends, if batches wait for that."""
        return self._paused_until_ms if self._unsent and self._paused_until_ms else None

    def facts(self) -> dict[str, int | str]:
        """Return what there is to know, for people and probes."""
        return {
            "spool": "ready" if self.available else "none",
            "spooled_batches": self.count,
            "spooled_bytes": self.bytes,
            "spooled_refused": self.rejected,
        }

    def put(
        self, connection: int, request: int, tasks: bytes, rejections: list[Rejection]
    ) -> Verdict | None:
        """Take a batch; return a verdict at once if it cannot be taken.

        ``rejections`` name tasks in it that the coordinator will refuse.
        """
        if self.bytes + len(tasks) > self._bytes_max:
            detail = "the coordinator is out of reach and the spool is full"
            return Verdict(request, Code.BUSY, detail, PAUSE_MS, [])
        stored_only = self.count > len(self._window)
        self._last += 1
        number = self._last
        self.count += 1
        self.bytes += len(tasks)
        if not stored_only and self._window_bytes + len(tasks) <= WINDOW_BYTES_MAX:
            self._take_in(number, tasks)
        self._next.puts.append((number, tasks))
        self._asking[number] = _Asker(connection, request, rejections)
        return None

    def _take_in(self, number: int, tasks: bytes) -> None:
        self._window[number] = tasks
        self._window_bytes += len(tasks)
        self._unsent[number] = None
        self._loaded_to = number

    # --- To the coordinator --------------------------------------------------------------------

    def resend(self) -> None:
        """Send everything in memory again: a new session has opened."""
        self._unsent = dict.fromkeys(self._window)
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._paused_until_ms = 0

    def outgoing(self, now_ms: int, next_number: int) -> list[Batch]:
        """Return batches to send now, numbered from ``next_number``."""
        batches: list[Batch] = []
        if now_ms < self._paused_until_ms:
            return batches
        self._paused_until_ms = 0
        for number in self._unsent:
            tasks = self._window[number]
            if self._in_flight and self._in_flight_bytes + len(tasks) > IN_FLIGHT_BYTES_MAX:
                break
            batches.append(Batch(next_number + len(batches), tasks))
            self._in_flight[batches[-1].request] = number
            self._in_flight_bytes += len(tasks)
        for batch in batches:
            del self._unsent[self._in_flight[batch.request]]
        return batches

    def answer(self, now_ms: int, verdict: Verdict) -> bool:
        """Take a verdict; return whether it was for a spooled batch."""
        number = self._in_flight.pop(verdict.request, None)
        if number is None:
            return False
        size = len(self._window[number])
        self._in_flight_bytes -= size
        facts = CODES.get(verdict.code or "")
        if facts is not None and facts.retry:
            self._unsent = {number: None, **self._unsent}
            self._paused_until_ms = now_ms + max(verdict.retry_after_ms, PAUSE_MS)
            return True
        refused = verdict.code or next((r.code for r in verdict.rejections), None)
        if refused is not None:
            self.rejected += max(1, len(verdict.rejections))
            self.notes.append(Note("spooled_refused", {"code": refused, "batch": number}))
        del self._window[number]
        self._window_bytes -= size
        self.count -= 1
        self.bytes -= size
        self._next.removes.append(number)
        return True

    # --- The journal ---------------------------------------------------------------------------

    def journal(self, outcomes: list[Outcome]) -> None:
        """Keep outcomes over the end of this process."""
        self._next.outcome_puts += outcomes

    def unjournal(self, leases: list[Lease]) -> None:
        """Forget outcomes that are recorded now."""
        self._next.outcome_removes += leases

    # --- The shell's store ---------------------------------------------------------------------

    def work(self) -> SpoolWork | None:
        """Return what the shell shall do now; one at a time."""
        if self._busy or not self.available:
            return None
        if self._window_bytes < WINDOW_BYTES_LOW and self.count > len(self._window):
            self._next.load_after = self._loaded_to
        if not self._next:
            return None
        work, self._next = self._next, SpoolWork()
        self._loading = work.load_after is not None
        self._committing, self._asking = self._asking, {}
        self._busy = True
        return work

    def done(self, loaded: list[tuple[int, bytes]]) -> list[tuple[int, Verdict]]:
        """Take the end of the work; return the verdicts that may be given now."""
        self._busy = False
        for number, tasks in loaded:
            if number > self._loaded_to:
                self._take_in(number, tasks)
        if self._loading and not loaded:
            # What was left has grown too old, or was damaged: it would be asked for for ever.
            coming = [tasks for number, tasks in self._next.puts if number not in self._window]
            self.count = len(self._window) + len(coming)
            self.bytes = self._window_bytes + sum(len(tasks) for tasks in coming)
        return self._tell(Code.SPOOLED, "the coordinator accepts it later", 0)

    def failed(self, detail: str) -> list[tuple[int, Verdict]]:
        """Take the failure of the work: nothing more is spooled, and what was not is said so."""
        self._busy = False
        self.available = False
        self.notes.append(Note("spool_failed", {"detail": detail}))
        self._committing |= self._asking
        self._asking = {}
        return self._tell(
            Code.UNAVAILABLE, "the spool has failed and the coordinator did not answer", PAUSE_MS
        )

    def _tell(self, code: str, detail: str, retry_ms: int) -> list[tuple[int, Verdict]]:
        told = [
            (asker.connection, Verdict(asker.request, code, detail, retry_ms, asker.rejections))
            for asker in self._committing.values()
        ]
        self._committing = {}
        return told
