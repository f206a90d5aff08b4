"""The records that messages carry: tasks, leases, outcomes, verdicts, statuses.

They occur once per task, many to a message, and are therefore named tuples: the cheapest carrier
that still has names. They hold checked values only, see ``protocol.fields``.
"""

from enum import IntEnum
from typing import Any, NamedTuple


class Priority(IntEnum):
    """Priority of a task; lower numbers are served more often."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class State(IntEnum):
    """State of a task as observers see it."""

    SCHEDULED = 0
    READY = 1
    LEASED = 2
    RUNNING = 3
    """Leased, and handed to the handler; never stored, told by the sidecar's heartbeats."""
    SUCCEEDED = 4
    DEAD = 5
    CANCELLED = 6
    EXPIRED = 7
    DROPPED = 8

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self >= State.SUCCEEDED


class OutcomeKind(IntEnum):
    """What an attempt came to."""

    SUCCESS = 0
    RETRY = 1
    """Failed; charged, and tried again after the backoff."""
    DEFER = 2
    """Not now; not charged."""
    FATAL = 3
    """Failed for good."""
    RETURNED = 4
    """The lease is given back unused: never begun, or the handler was out of reach. Uncharged."""
    LOST = 5
    """The handler's process died in the middle. Charged, and counted as a crash."""


class Result(NamedTuple):
    """What a successful attempt returned."""

    content_type: str | None
    body: bytes


class Failure(NamedTuple):
    """Why an attempt did not succeed."""

    error_type: str
    """Low-cardinality label: an exception's name, ``timeout``, ``lease-lost``."""
    message: str = ""
    detail: str = ""
    """More for people: a shortened traceback."""
    retry_after_ms: int | None = None
    """Wait asked for by the handler; wins over the computed backoff."""


class Submission(NamedTuple):
    """One task as its submitter describes it."""

    id: bytes
    handler: str
    payload: bytes
    content_type: str | None = None
    """None means ``application/json``."""
    options: dict[str, Any] | None = None
    """See ``protocol.options.OPTIONS``."""


class Rejection(NamedTuple):
    """Why one task of a batch was not accepted."""

    place: int
    code: str
    detail: str


class Batch(NamedTuple):
    """Tasks submitted by one request; encoded, so that a sidecar passes them on untouched."""

    request: int
    tasks: bytes
    """Made by ``protocol.submission.encode_batch``."""
    spool: bool = False
    """On hop L: the sidecar may answer ``spooled``. On hop S it means nothing."""


_NO_PLACES: list[int] = []  # Never changed.


class Verdict(NamedTuple):
    """The answer to one batch. Tasks that no rejection names are accepted and durable."""

    request: int
    code: str | None
    """None; or an error code for the whole batch, of which nothing was stored; or ``spooled``: the
    batch is durable in the sidecar's spool, and the coordinator has not accepted it yet."""
    detail: str
    retry_after_ms: int
    rejections: list[Rejection]
    duplicates: list[int] = _NO_PLACES
    """Places of accepted tasks that were there already, with the same id and content."""


class Lease(NamedTuple):
    """The name of one lease."""

    id: bytes
    token: int


class Declaration(NamedTuple):
    """One handler and the policy its owner gives it (changes from the default policy)."""

    handler: str
    policy: dict[str, int]


class Limit(NamedTuple):
    """Demand of one handler, as a running total.

    The sender has so far been granted G tasks of the handler since the last WELCOME (hop S) or on
    this connection (hop L); it is ready to take ``total - G`` more. Totals make repeated, lost and
    crossing statements harmless.
    """

    handler: str
    total: int


class GrantedTask(NamedTuple):
    """One leased task, as the handler gets it."""

    id: bytes
    token: int
    attempt: int
    """The number of this attempt if it is charged, from 1."""
    attempts_max: int
    delivery: int
    """Counts every lease of the task, charged or not, from 1."""
    timeout_ms: int
    submitted_ms: int
    due_ms: int
    content_type: str | None
    payload: bytes
    extras: dict[str, Any] | None
    """``collection``, ``priority``, ``last_error``, ``checkpoint``, and what the submitter gave of
    ``protocol.options.FOR_HANDLER``; only what differs from nothing."""


class Group(NamedTuple):
    """Leased tasks of one handler."""

    handler: str
    tasks: list[GrantedTask]


class Outcome(NamedTuple):
    """What one attempt came to."""

    id: bytes
    token: int
    kind: OutcomeKind
    run_us: int
    """How long the handler ran, in microseconds; 0 if it never began."""
    value: Result | Failure | None


class Running(NamedTuple):
    """An attempt that has begun and goes on."""

    id: bytes
    token: int
    since_ms: int
    """How long ago it began."""


class Update(NamedTuple):
    """What an attempt tells while it goes on."""

    id: bytes
    token: int
    permille: int = -1
    """How much is done, 0 to 1000; -1 when not told, and what was told before holds."""
    note: str = ""
    """For people; empty when not told, and what was told before holds."""
    checkpoint: bytes | None = None
    """What the next attempt gets if this one does not end the task; None when not told."""


class Cancellation(NamedTuple):
    """Ask that one task be cancelled."""

    request: int
    id: bytes
    reason: str = ""
    """For people."""


class Unrecorded(NamedTuple):
    """An outcome that the coordinator does not take, by its place in the batch."""

    place: int
    code: str


class Question(NamedTuple):
    """Ask for one task's status, at once or when it has ended."""

    request: int
    id: bytes
    wait_ms: int
    """0: answer at once. Otherwise when the task has ended, at the latest after this time."""
    revision: int = -1
    """With a wait, and not -1: answer also as soon as the status has another revision."""


class AttemptRecord(NamedTuple):
    """What is kept of one attempt."""

    number: int
    """Delivery number, from 1."""
    started_ms: int
    run_us: int
    outcome: int
    """An ``OutcomeKind``."""
    sidecar: str
    error_type: str
    message: str
    detail: str


class Status(NamedTuple):
    """One task as an observer sees it. Times are wall-clock milliseconds; 0 means "not yet"."""

    id: bytes
    handler: str
    state: State
    priority: int
    collection: str | None
    submitted_ms: int
    due_ms: int
    expires_ms: int
    finished_ms: int
    attempts: int
    attempts_max: int
    deliveries: int
    sidecar: str
    """Who holds the lease; empty when nobody does."""
    sidecars: int
    """How many sidecars serve the handler at present: 0 tells why a ready task waits."""
    result: Result | None
    error: str
    """Why the task is dead, expired, cancelled or dropped; empty otherwise."""
    history: list[AttemptRecord]
    progress: int = -1
    """In thousandths, of the latest attempt; -1 when it has told none."""
    note: str = ""
    """What the latest attempt has told last."""
    checkpoint: bytes | None = None
    """What the next attempt gets."""
    cancelling: bool = False
    """Whether the task was cancelled while leased, and its attempt has not stopped yet."""
    revision: int = 0
    """Another one whenever anything above has changed, but for ``sidecars``."""


class Reply(NamedTuple):
    """The answer to one question: a status, or a code."""

    request: int
    code: str | None
    status: Status | None


class Revoked(NamedTuple):
    """A lease that is gone, and why: ``timeout``, ``lease-lost``, ``cancelled``, ``stopping``."""

    id: bytes
    token: int
    reason: str
