"""What attempts came to whose process is ending, until it is known why it ended.

The connection of a process that dies often breaks a moment before its exit can be read. So what
its attempts came to waits for the cause. A process that is not gone soon after has only lost its
connection, and its attempts may go on: it is ended, and they are reported when it is gone. The same
holds where it was told to end because an attempt did not stop: that an attempt is over is not told
before it is true.

Who is charged: where a process dies by itself, all attempts that had begun in it, since nobody can
tell which of them did it. Where it ended because it was told to, only those that were the reason;
the others are given back.
"""

from dataclasses import dataclass, field

from protocol.messages import Failure, Lease, Outcome, OutcomeKind
from sidecar.core.terms import NEVER_MS

CAUSE_MS_MAX = 100
"""How long a process may outlive its connection while attempts of it have no outcome."""


@dataclass(slots=True)
class _Waiting:
    """Outcomes that wait for the end of one process."""

    due_ms: int
    outcomes: list[Outcome] = field(default_factory=list)
    reasons: list[Outcome] = field(default_factory=list)
    """Those of the attempts because of which the process was told to end."""


@dataclass(slots=True)
class _End:
    """How a process ended."""

    cause: Failure
    as_told: bool

    def of(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Return what the attempts of the process came to by its end."""
        return [self._returned(o) for o in outcomes] if self.as_told else self.explain(outcomes)

    def explain(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Return the outcomes with the cause in those that are lost."""
        lost = OutcomeKind.LOST
        return [o._replace(value=self.cause) if o.kind is lost else o for o in outcomes]

    @staticmethod
    def _returned(outcome: Outcome) -> Outcome:
        if outcome.kind is not OutcomeKind.LOST:
            return outcome
        return outcome._replace(kind=OutcomeKind.RETURNED, value=None)


class Evidence:
    """The connections of supervised processes, and the outcomes that wait for an end.

    Invariant: an end is kept only while a connection of its process is open.
    """

    def __init__(self) -> None:
        self._processes: dict[int, int] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._ends: dict[int, _End] = {}
        self._condemned: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.leases())

    def open(self, connection: int, process: int) -> None:
        """Take note of whose connection it is."""
        self._processes[connection] = process

    def process_of(self, connection: int) -> int:
        """Return the supervised process of a connection, or 0."""
        return self._processes.get(connection, 0)

    def condemn(self, process: int) -> None:
        """Take note that a process was told to end, since an attempt in it did not stop."""
        if process not in self._ends:
            self._condemned[process] = None

    def close(self, now_ms: int, connection: int, outcomes: list[Outcome]) -> list[Outcome]:
        """Take what the attempts of a closed connection came to; return what waits for nothing."""
        process = self._processes.pop(connection, 0)
        end = self._ends.get(process)
        if process not in self._processes.values():
            self._ends.pop(process, None)
        if end is not None:
            return end.of(outcomes)
        if not process or not outcomes:
            return outcomes
        due_ms = NEVER_MS if process in self._condemned else now_ms + CAUSE_MS_MAX
        self._waiting.setdefault(process, _Waiting(due_ms)).outcomes.extend(outcomes)
        return []

    def ended(self, process: int, cause: Failure, *, as_told: bool) -> list[Outcome]:
        """Take how a process ended; return the outcomes that waited for it."""
        self._condemned.pop(process, None)
        end = _End(cause, as_told)
        if process in self._processes.values():
            self._ends[process] = end
        waiting = self._waiting.pop(process, None)
        if waiting is None:
            return []
        return end.explain(waiting.reasons) + end.of(waiting.outcomes)

    def overdue(self, now_ms: int) -> list[int]:
        """Return the processes that have outlived a connection too long: they must end."""
        due = [process for process, waiting in self._waiting.items() if waiting.due_ms <= now_ms]
        for process in due:
            waiting = self._waiting[process]
            waiting.due_ms = NEVER_MS
            waiting.reasons += waiting.outcomes
            waiting.outcomes = []
            self.condemn(process)
        return due

    @property
    def due_ms(self) -> int:
        """When the first process has outlived a connection too long."""
        return min((waiting.due_ms for waiting in self._waiting.values()), default=NEVER_MS)

    def leases(self) -> list[Lease]:
        """Return the leases whose outcome waits."""
        return [
            Lease(o.id, o.token)
            for waiting in self._waiting.values()
            for o in (*waiting.reasons, *waiting.outcomes)
        ]
