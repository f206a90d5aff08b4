"""One class per message, for both hops.

Hop S joins a sidecar and the coordinator (ZeroMQ); hop L joins an app or service and its sidecar
(Unix socket). Some messages travel both. ``docs/protocol.md`` tells when each may be sent.
Classes hold checked values only: ``protocol.codec`` makes them from bytes. The records inside them
are in ``protocol.records`` and may be imported from here too.
"""

from dataclasses import dataclass

from protocol.records import (
    AttemptRecord,
    Batch,
    Cancellation,
    Declaration,
    Failure,
    GrantedTask,
    Group,
    Lease,
    Limit,
    Outcome,
    OutcomeKind,
    Priority,
    Question,
    Rejection,
    Reply,
    Result,
    Revoked,
    Running,
    State,
    Status,
    Submission,
    Unrecorded,
    Update,
    Verdict,
)

__all__ = [
    "Accepted",
    "Answer",
    "Attach",
    "Attached",
    "AttemptRecord",
    "Batch",
    "Beat",
    "Cancel",
    "Cancellation",
    "Declaration",
    "Demand",
    "Drain",
    "Failure",
    "Goodbye",
    "Grant",
    "GrantedTask",
    "Group",
    "Handlers",
    "Heartbeat",
    "Hello",
    "Inspect",
    "Inspected",
    "Lease",
    "Limit",
    "Message",
    "Outcome",
    "OutcomeKind",
    "Outcomes",
    "Priority",
    "Progress",
    "Query",
    "Question",
    "Recall",
    "Recorded",
    "Refused",
    "Rejection",
    "Reply",
    "Result",
    "Revoke",
    "Revoked",
    "Running",
    "State",
    "Status",
    "Submission",
    "Submit",
    "Tasks",
    "Unrecorded",
    "Update",
    "Verdict",
    "Welcome",
]

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
    """Attempts that have begun since the last heartbeat and go on; in the first one after WELCOME,
    all that go on."""


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


@dataclass(frozen=True, slots=True)
class Drain:
    """Whether an operator keeps this sidecar from getting tasks.

    It holds until the next one, or the next WELCOME: behind that another follows if it is so still.
    """

    session: int
    on: bool
    why: str
    """Who has drained it and why, for people; empty when it is not drained."""


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
class Validity:
    """Until when the sidecar's leases hold; told again each time they are renewed.

    A service that hears nothing more by then stops its attempts: the sidecar may be stopped, and
    cannot tell it that they are another's now.
    """

    until_ms: int
    """On the clock of the host that counts while it sleeps (``CLOCK_BOOTTIME``)."""


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
    """Statuses asked for, and answers to cancellations."""

    replies: list[Reply]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask that tasks be cancelled; each is answered by a reply."""

    requests: list[Cancellation]


@dataclass(frozen=True, slots=True)
class Progress:
    """What attempts tell while they go on; not answered."""

    updates: list[Update]


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
    | Drain
    | Attach
    | Attached
    | Tasks
    | Recall
    | Validity
    | Inspect
    | Inspected
    | Submit
    | Accepted
    | Outcomes
    | Query
    | Answer
    | Cancel
    | Progress
    | Revoke
    | Refused
    | Goodbye
)
