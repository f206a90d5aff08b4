"""What attempts came to whose process is ending, until it is known why it ended.

The connection of a process that dies often breaks a moment before its exit can be read. So what
its attempts came to waits for the cause, but never long: the tasks shall run again at once. Where
the process was told to end because an attempt did not stop, it waits until the process is gone:
that an attempt has stopped is not told before it is true.
"""

from dataclasses import dataclass, field

from protocol.messages import Failure, Lease, Outcome, OutcomeKind
from sidecar.core.terms import NEVER_MS

CAUSE_MS_MAX = 100


@dataclass(slots=True)
class _Waiting:
    """Outcomes that wait for the end of one process."""

    due_ms: int
    outcomes: list[Outcome] = field(default_factory=list)


class Evidence:
    """The connections of supervised processes, and the outcomes that wait for an end.

    Invariant: a cause is kept only while a connection of its process is open.
    """

    def __init__(self) -> None:
        self._processes: dict[int, int] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._causes: dict[int, Failure] = {}
        self._condemned: set[int] = set()

    def __len__(self) -> int:
        return sum(len(waiting.outcomes) for waiting in self._waiting.values())

    def open(self, connection: int, process: int) -> None:
        """Take note of whose connection it is."""
        self._processes[connection] = process

    def process_of(self, connection: int) -> int:
        """Return the supervised process of a connection, or 0."""
        return self._processes.get(connection, 0)

    def condemn(self, process: int) -> None:
        """Take note that a process was told to end, since an attempt in it did not stop."""
        if process not in self._causes:
            self._condemned.add(process)

    def close(self, now_ms: int, connection: int, outcomes: list[Outcome]) -> list[Outcome]:
        """Take what the attempts of a closed connection came to; return what waits for nothing."""
        process = self._processes.pop(connection, 0)
        cause = self._causes.get(process)
        if process not in self._processes.values():
            self._causes.pop(process, None)
        if cause is not None:
            return _explained(outcomes, cause)
        if not process or not outcomes:
            return outcomes
        due_ms = NEVER_MS if process in self._condemned else now_ms + CAUSE_MS_MAX
        self._waiting.setdefault(process, _Waiting(due_ms)).outcomes.extend(outcomes)
        return []

    def ended(self, process: int, cause: Failure) -> list[Outcome]:
        """Take why a process ended; return the outcomes that waited for it."""
        self._condemned.discard(process)
        if process in self._processes.values():
            self._causes[process] = cause
        waiting = self._waiting.pop(process, None)
        return [] if waiting is None else _explained(waiting.outcomes, cause)

    def overdue(self, now_ms: int) -> list[Outcome]:
        """Return the outcomes that have waited long enough."""
        due = [number for number, waiting in self._waiting.items() if waiting.due_ms <= now_ms]
        return [outcome for number in due for outcome in self._waiting.pop(number).outcomes]

    @property
    def due_ms(self) -> int:
        """When the first have waited long enough."""
        return min((waiting.due_ms for waiting in self._waiting.values()), default=NEVER_MS)

    def leases(self) -> list[Lease]:
        """Return the leases whose outcome waits."""
        return [Lease(o.id, o.token) for x in self._waiting.values() for o in x.outcomes]


def _explained(outcomes: list[Outcome], cause: Failure) -> list[Outcome]:
    return [
        outcome._replace(value=cause) if outcome.kind is OutcomeKind.LOST else outcome
        for outcome in outcomes
    ]
