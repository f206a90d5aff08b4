"""The task, its states, and the one table of changes between them.

                                   +--------------------- DEFER, RETRY ------------+
                                   v                                               |
    (submit) --> SCHEDULED --DUE--> READY --GRANT--> LEASED --SUCCESS--> SUCCEEDED |
                     |               |  ^              | |                         |
                     |               |  +-- RETURN ----+ +--FATAL--> DEAD          |
                     +--EXPIRE-------+--> EXPIRED      +-------------------------- +
                     +--CANCEL-------+--> CANCELLED <--CANCEL (once it has stopped)
                                     +--DROP--> DROPPED             (DEAD --REQUEUE--> READY)
                                     +--POSTPONE--> SCHEDULED

RUNNING is LEASED as the observer sees it once the sidecar has reported that the attempt began.
An outcome that arrives after its lease has ended is taken while the task waits, which is why
SUCCESS and FATAL lead from SCHEDULED and READY as well.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from protocol.messages import AttemptRecord, Result, State

if TYPE_CHECKING:
    from coordinator.core.handler import Handler
    from coordinator.core.sessions import Session


class Change(IntEnum):
    """What may happen to a task."""

    DUE = 0
    GRANT = 1
    SUCCESS = 2
    FATAL = 3
    """Failed for good: by the handler's word, or because its attempts are used up."""
    LATER = 4
    """Try again at a due time."""
    RETURN = 5
    """The lease ended; ready again at once."""
    EXPIRE = 6
    CANCEL = 7
    """Somebody does not want it any more, and no attempt runs."""
    DROP = 8
    """A gate ends it."""
    POSTPONE = 9
    """An operator sets another due time."""
    REQUEUE = 10
    """An operator lets a dead letter begin anew."""


class ImpossibleChange(AssertionError):
    """Raised when the core tries a change that the table does not know: a bug of ours."""

    def __init__(self, state: State, change: Change) -> None:
        super().__init__(f"a task that is {state.name} cannot take {change.name}")


CHANGES: dict[State, dict[Change, State]] = {
    State.SCHEDULED: {
        Change.DUE: State.READY,
        Change.POSTPONE: State.SCHEDULED,
        Change.SUCCESS: State.SUCCEEDED,
        Change.FATAL: State.DEAD,
        Change.EXPIRE: State.EXPIRED,
        Change.CANCEL: State.CANCELLED,
    },
    State.READY: {
        Change.GRANT: State.LEASED,
        Change.SUCCESS: State.SUCCEEDED,
        Change.FATAL: State.DEAD,
        Change.EXPIRE: State.EXPIRED,
        Change.CANCEL: State.CANCELLED,
        Change.DROP: State.DROPPED,
        Change.POSTPONE: State.SCHEDULED,
    },
    State.LEASED: {
        Change.SUCCESS: State.SUCCEEDED,
        Change.FATAL: State.DEAD,
        Change.LATER: State.SCHEDULED,
        Change.RETURN: State.READY,
        Change.EXPIRE: State.EXPIRED,
        Change.CANCEL: State.CANCELLED,
    },
    State.SUCCEEDED: {},
    State.DEAD: {Change.REQUEUE: State.READY},
    State.CANCELLED: {},
    State.EXPIRED: {},
    State.DROPPED: {},
}
# The same table by position: this is on the path of every task.
_TABLE: tuple[tuple[State | None, ...], ...] = tuple(
    tuple(CHANGES.get(state, {}).get(change) for change in Change) for state in State
)


class Row:
    """An index row of the store and how many of its tasks still need it."""

    __slots__ = ("key", "left")

    def __init__(self, key: bytes, left: int) -> None:
        self.key = key
        self.left = left


@dataclass(slots=True)
class Told:
    """What is told of a task beside its life, by its attempts or by people; nothing of most."""

    checkpoint: bytes | None = None
    """What the next attempt gets."""
    cancelled: str | None = None
    """Why the task shall end with its present attempt; None if nobody cancels it."""
    park: int = 0
    """The number of the park in which the task waits: it is ready, and a gate holds it, or did."""
    # Not in the record.
    progress: int = -1
    note: str = ""


UNTOLD = Told()
"""Of a task of which nothing is told."""


class Task:
    """One task in memory. Everything down to ``told`` is what its record holds.

    Times are wall-clock milliseconds; 0 means "not set".
    """

    __slots__ = (
        "attempts",
        "collection",
        "content_crc",
        "content_type",
        "crashes",
        "deferrals",
        "deliveries",
        "due_ms",
        "error",
        "expires_ms",
        "finished_ms",
        "granted_ms",
        "handler",
        "history",
        "id",
        "options",
        "payload",
        "payload_bytes",
        "priority",
        "result",
        "row",
        "running_since_ms",
        "session",
        "state",
        "submitted_ms",
        "token",
        "told",
    )

    def __init__(
        self,
        task_id: bytes,
        handler: "Handler",
        priority: int,
        payload: bytes | None,
        payload_bytes: int,
    ) -> None:
        self.id = task_id
        self.handler = handler
        self.priority = priority
        self.payload = payload
        """None when it is stored apart, or no longer needed."""
        self.payload_bytes = payload_bytes
        self.state = State.READY
        self.content_type: str | None = None
        self.collection: str | None = None
        self.options: dict[str, Any] | None = None
        """What the submitter set in place of the handler's policy, and what is for the handler."""
        self.content_crc = 0
        """Of handler and payload: tells a repeated submission from another with the same id."""
        self.submitted_ms = 0
        self.due_ms = 0
        self.expires_ms = 0
        self.finished_ms = 0
        self.token = 0
        """Fencing token of the latest lease; only grows."""
        self.attempts = 0
        self.deliveries = 0
        self.crashes = 0
        self.deferrals = 0
        self.result: Result | None = None
        self.error = ""
        self.history: list[AttemptRecord] = []
        self.told: Told | None = None
        """Only of tasks that have not ended."""
        # Not in the record.
        self.row: Row | None = None
        """The index row that stands for the task: of ready tasks, or of the grant."""
        self.session: Session | None = None
        self.granted_ms = 0
        self.running_since_ms = 0

    def change(self, change: Change) -> None:
        """Move to the state that the table names.

        Raises:
            ImpossibleChange: The table has no entry.
        """
        state = _TABLE[self.state][change]
        if state is None:
            raise ImpossibleChange(self.state, change)
        self.state = state

    @property
    def payload_apart(self) -> bool:
        """Whether the payload has a key of its own in the store."""
        return self.payload is None and self.payload_bytes > 0

    @property
    def cancelling(self) -> bool:
        """Whether the task ends with its present attempt, unless that succeeds."""
        return self.told is not None and self.told.cancelled is not None

    def tell(self) -> Told:
        """Return what is told of the task, to be added to."""
        if self.told is None:
            self.told = Told()
        return self.told

    def leave_park(self) -> None:
        """Note that the task waits aside no more."""
        if self.told is not None:
            self.told.park = 0
            if self.told == UNTOLD:
                self.told = None

    def option(self, name: str, default: int) -> int:
        """Return what the submitter set, or the policy's value."""
        if self.options is None:
            return default
        value: Any = self.options.get(name, default)
        return int(value)
