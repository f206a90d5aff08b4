"""One class per message, for both hops, and the records that messages carry.

Hop S joins a sidecar and the coordinator (ZeroMQ); hop L joins an app or service and its sidecar
(Unix socket). Many messages travel both. ``docs/protocol.md`` tells when each may be sent.
Classes hold checked values only: ``protocol.codec`` makes them from bytes. Records that occur once
per task are named tuples, for speed; the messages around them are frozen dataclasses.
"""

from dataclasses import dataclass
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
    """See ``protocol.submission.OPTIONS``."""


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


class Verdict(NamedTuple):
    """The answer to one batch. Tasks that no rejection names are accepted and durable."""

    request: int
    code: str | None
    """None, or an error code for the whole batch, of which nothing was stored."""
    detail: str
    retry_after_ms: int
    rejections: list[Rejection]


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
    """``collection``, ``priority``, ``last_error`` where they differ from nothing."""


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


# --- Hop S, from the sidecar -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """Open a session, or resume one."""

    version_min: int
    version_max: int
    sidecar: str
    """Name for people; not unique."""
    incarnation: bytes
    """16 random bytes, new with every sidecar process: who owns the leases."""
    service: str
    software: str
    store: bytes | None
    """The store last welcomed by, or None."""
    epoch: int
    """The highest epoch seen, or 0."""
    session: int
    """The session to resume, or 0 for a new one. What is resumed is the incarnation's session."""
    held: list[Lease]
    """When resuming: every lease still held or with an outcome not yet recorded."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """All handlers that the sidecar can serve at present; replaces the previous statement."""

    declarations: list[Declaration]


@dataclass(frozen=True, slots=True)
class Demand:
    """How much of each handler the sender will take; also sent by services on hop L."""

    limits: list[Limit]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Renew the session."""

    clock_ms: int
    """The sender's own clock, echoed in BEAT."""
    limits: list[Limit]
    """The whole demand again: a statement that was lost is mended here."""
    running: list[Running]
    """Attempts that have begun since the last heartbeat and go on."""


# --- Hop S, from the coordinator ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """A session is open."""

    version: int
    session: int
    """A number never used before, also when resumed: messages of an earlier welcome are stale."""
    resumed: bool
    """Whether the leases held before are still held, but for those in ``lost``."""
    epoch: int
    store: bytes
    """The store's uuid."""
    timeout_ms: int
    """Silence after which the session and its leases are over."""
    lost: list[Lease]
    """Of the leases named in HELLO, those that are not the sidecar's any more."""
    software: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Leased tasks, numbered from 1 since the last WELCOME."""

    session: int
    number: int
    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A batch of outcomes is durable."""

    number: int
    exceptions: list[Unrecorded]


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat."""

    session: int
    clock_ms: int
    grant_number: int
    """The last grant sent; a sidecar that has not seen it resumes its session."""


# --- Hop L -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attach:
    """Open a connection to the sidecar: as a submitter, or as a service with handlers."""

    version_min: int
    version_max: int
    service: str
    """Empty for an app that only submits."""
    software: str
    declarations: list[Declaration]
    slots: list[Limit]
    """Concurrent attempts per handler in this process; ``total`` is the number of slots."""


@dataclass(frozen=True, slots=True)
class Attached:
    """The connection is open."""

    version: int
    sidecar: str
    frame_bytes_max: int


@dataclass(frozen=True, slots=True)
class Tasks:
    """Run these."""

    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Inspect:
    """Ask the sidecar about itself."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the sidecar tells about itself, for people and probes."""

    facts: dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Recall:
    """Give back those that have not begun; each answered by an outcome of kind RETURNED.

    Those that have begun run on, and get no extra answer.
    """

    leases: list[Lease]


# --- Both hops ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    """Batches of tasks to accept."""

    batches: list[Batch]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The verdicts on submitted batches."""

    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of attempts; kept by the sidecar until recorded. On hop L ``number`` is 0."""

    number: int
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Query:
    """Ask for the status of tasks, now or when they end."""

    questions: list[Question]


@dataclass(frozen=True, slots=True)
class Answer:
    """Statuses asked for."""

    replies: list[Reply]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Stop these attempts: their leases are gone."""

    revoked: list[Revoked]


@dataclass(frozen=True, slots=True)
class Refused:
    """What was sent is refused. Whether the session survives is told by the code."""

    code: str
    detail: str
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender is leaving. From a sidecar: all its leases have been settled or returned."""

    reason: str


Message = (
    Hello
    | Handlers
    | Demand
    | Heartbeat
    | Welcome
    | Grant
    | Recorded
    | Beat
    | Attach
    | Attached
    | Tasks
    | Recall
    | Inspect
    | Inspected
    | Submit
    | Accepted
    | Outcomes
    | Query
    | Answer
    | Revoke
    | Refused
    | Goodbye
)
