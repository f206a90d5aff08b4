"""Outcomes that the coordinator has not recorded yet, and which of them are on their way.

An outcome is kept until its RECORDED, over any number of sessions. Few messages are in flight at
one time, so that outcomes gather into larger ones by themselves when there are many.
"""

from collections.abc import Iterable

from protocol.messages import Lease, Outcome, Outcomes, Recorded
from sidecar.core.parcels import outcome_bytes, parcels

IN_FLIGHT_MAX = 4


class Unrecorded:
    """All unrecorded outcomes of this process.

    Invariant: each outcome stands once, in ``_gathered`` or in one message of ``_in_flight``.
    """

    def __init__(self) -> None:
        self._gathered: list[Outcome] = []
        self._in_flight: dict[int, tuple[int, list[Outcome]]] = {}
        self._unsent: list[int] = []
        self._number = 0
        self._journaled: set[Lease] = set()
        self._unjournal: list[Lease] = []
        self._repeats = 0
        """Outcomes of a lease of which another is journaled: only of one that was granted twice."""
        self.silent_since_ms: int | None = None
        """Since when outcomes are on their way and none was recorded."""
        self.recorded = 0
        self.not_taken = 0
        """Outcomes the coordinator did not take: of leases that were gone."""

    def __len__(self) -> int:
        return len(self._gathered) + sum(len(batch) for _, batch in self._in_flight.values())

    def add(self, outcomes: list[Outcome]) -> None:
        """Keep outcomes until they are recorded."""
        self._gathered += outcomes

    def restore(self, outcomes: Iterable[Outcome]) -> None:
        """Take the outcomes that an earlier process has journaled."""
        for outcome in outcomes:
            self._gathered.append(outcome)
            self._journaled.add(Lease(outcome[0], outcome[1]))

    @property
    def journal_due(self) -> bool:
        """Whether any outcome is neither recorded nor journaled."""
        return len(self) - self._repeats > len(self._journaled)

    @property
    def unjournal_due(self) -> bool:
        """Whether any journaled outcome is recorded, and not yet forgotten by the journal."""
        return bool(self._unjournal)

    def to_journal(self) -> list[Outcome]:
        """Return the outcomes that are not journaled yet, and count them as such."""
        batches = [*[batch for _, batch in self._in_flight.values()], self._gathered]
        fresh = [o for batch in batches for o in batch if Lease(o[0], o[1]) not in self._journaled]
        self._journaled.update([Lease(o[0], o[1]) for o in fresh])
        self._repeats = len(self) - len(self._journaled)
        return fresh

    def not_journaled(self, outcomes: list[Outcome]) -> None:
        """Count outcomes as not journaled again: the journal has failed."""
        self._journaled.difference_update([Lease(o[0], o[1]) for o in outcomes])

    def to_unjournal(self) -> list[Lease]:
        """Return the leases whose journaled outcome is recorded now."""
        leases, self._unjournal = self._unjournal, []
        return leases

    def resend(self) -> None:
        """Send everything in flight again: a new session has opened."""
        self._unsent = list(self._in_flight)

    def outgoing(self, now_ms: int) -> list[Outcomes]:
        """Return the messages to send now."""
        room = IN_FLIGHT_MAX - len(self._in_flight)
        if self._gathered and room > 0:
            self._load(room)
            if self.silent_since_ms is None:
                self.silent_since_ms = now_ms
        messages = []
        for number in self._unsent:
            batch = self._in_flight[number][1]
            self._in_flight[number] = (now_ms, batch)
            messages.append(Outcomes(number, batch))
        self._unsent = []
        return messages

    def _load(self, room: int) -> None:
        taken = 0
        for batch in parcels(self._gathered, outcome_bytes):
            self._number += 1
            self._in_flight[self._number] = (0, batch)
            self._unsent.append(self._number)
            taken += len(batch)
            room -= 1
            if room == 0:
                break
        del self._gathered[:taken]

    def record(self, now_ms: int, message: Recorded) -> int | None:
        """Forget recorded outcomes; return the round trip, or None if it was recorded before."""
        sent = self._in_flight.pop(message.number, None)
        if sent is None:
            return None
        sent_ms, outcomes = sent
        self.silent_since_ms = now_ms if self._in_flight else None
        self.recorded += len(outcomes)
        self.not_taken += len(message.exceptions)
        if self._journaled:
            leases = [Lease(o[0], o[1]) for o in outcomes]
            done = [lease for lease in leases if lease in self._journaled]
            self._journaled.difference_update(done)
            self._unjournal += done
            self._repeats -= len(done) - len(set(done))
        if message.number in self._unsent:
            self._unsent.remove(message.number)
            return None
        return max(0, now_ms - sent_ms)

    def leases(self) -> list[Lease]:
        """Return the leases whose outcome is not recorded yet."""
        batches = [*[batch for _, batch in self._in_flight.values()], self._gathered]
        return [Lease(outcome[0], outcome[1]) for batch in batches for outcome in batch]

    def facts(self) -> dict[str, int]:
        """Return how they stand, for people and probes."""
        return {
            "outcomes_unrecorded": len(self),
            "outcomes_recorded": self.recorded,
            "outcomes_not_taken": self.not_taken,
        }
