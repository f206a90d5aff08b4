"""A task as operators see it: never its payload, and of its result only how large it is."""

from dataclasses import dataclass

from coordinator.core.filters.predicate import error_of, sidecar_of, state_of
from coordinator.core.fingerprints import error_type_of
from coordinator.core.sidecar_view import drains_of_all
from coordinator.core.task import UNTOLD, Task
from protocol.ids import to_text
from protocol.messages import AttemptRecord, OutcomeKind, Priority, State

NAMED_MAX = 3
"""Drains that are named where there are more."""
_OUTCOMES = tuple(kind.name.lower() for kind in OutcomeKind)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task, as a list shows it."""

    id: str
    handler: str
    state: str
    priority: str
    collection: str | None
    submitted_ms: int
    due_ms: int
    finished_ms: int
    attempts: int
    attempts_max: int
    sidecar: str
    """Who holds its lease, or made its latest attempt."""
    error_type: str
    error: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is kept of one attempt."""

    number: int
    """Counts every lease, charged or not."""
    started_ms: int
    run_us: int
    outcome: str
    sidecar: str
    error_type: str
    message: str
    detail: str


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """All that is known of one task, but for what its app has put into it."""

    task: TaskRow
    waits_for: str
    """Why it does not run, in words; empty once it runs or has ended."""
    expires_ms: int
    leased_ms: int
    running_since_ms: int
    cancelling: bool
    """Whether its present attempt was told to stop, so that it ends as cancelled."""
    progress: float | None
    """How far its present attempt is, from 0 to 1; None if it has not told."""
    note: str
    """What that attempt says of it."""
    checkpoint_bytes: int | None
    """What an attempt has left for the next one."""
    deliveries: int
    crashes: int
    deferrals: int
    content_type: str
    payload_bytes: int
    result_bytes: int | None
    removed_ms: int
    """When its record is removed; 0 while it has not ended."""
    history: list[Attempt]
    """The first attempt and the latest ones."""


def task_row(task: Task, now_ms: int) -> TaskRow:
    """Return a task's row."""
    return TaskRow(
        id=to_text(task.id),
        handler=task.handler.name,
        state=state_of(task, now_ms).name.lower(),
        priority=Priority(task.priority).name.lower(),
        collection=task.collection,
        submitted_ms=task.submitted_ms,
        due_ms=task.due_ms,
        finished_ms=task.finished_ms,
        attempts=task.attempts,
        attempts_max=task.option("attempts_max", task.handler.policy.attempts_max),
        sidecar=sidecar_of(task),
        error_type=error_type_of(task),
        error=error_of(task),
    )


def task_detail(task: Task, now_ms: int, retention_ms: int) -> TaskDetail:
    """Return all that is known of a task; ``retention_ms`` is that of the state it is in."""
    told = task.told or UNTOLD
    return TaskDetail(
        task=task_row(task, now_ms),
        waits_for=waits_for(task, now_ms),
        expires_ms=task.expires_ms,
        leased_ms=task.granted_ms,
        running_since_ms=task.running_since_ms,
        cancelling=told.cancelled is not None and not task.state.terminal,
        progress=None if told.progress < 0 else told.progress / 1_000,
        note=told.note,
        checkpoint_bytes=None if told.checkpoint is None else len(told.checkpoint),
        deliveries=task.deliveries,
        crashes=task.crashes,
        deferrals=task.deferrals,
        content_type=task.content_type or "application/json",
        payload_bytes=task.payload_bytes,
        result_bytes=None if task.result is None else len(task.result.body),
        removed_ms=task.finished_ms + retention_ms if task.state.terminal else 0,
        history=[attempt(record) for record in task.history],
    )


def attempt(record: AttemptRecord) -> Attempt:
    """Return an attempt in words."""
    number, started_ms, run_us, outcome, *rest = record
    return Attempt(number, started_ms, run_us, _OUTCOMES[outcome], *rest)


def waits_for(task: Task, now_ms: int) -> str:
    """Return why a task does not run at this moment, as far as its handler tells."""
    state = state_of(task, now_ms)
    if state is State.SCHEDULED:
        return "its due time" if not task.attempts else "the backoff before its next attempt"
    if state is State.LEASED:
        return f"a free slot at {sidecar_of(task)}, which has taken it"
    return _ready_waits_for(task) if state is State.READY else ""


def _ready_waits_for(task: Task) -> str:
    handler = task.handler
    gate = handler.gate_on(task.collection)
    if gate is not None:
        return f"a gate to be lifted: {gate.describe()}"
    if not handler.sessions:
        return f"a sidecar: none serves {handler.name}"
    if handler.free() <= 0:
        return f"one of the {handler.policy.concurrency} leases that its handler may have at a time"
    drains = drains_of_all(handler)
    if drains:
        told = ", ".join([f"{drain.sidecar} by {drain.describe()}" for drain in drains[:NAMED_MAX]])
        more = f" and {len(drains) - NAMED_MAX} more" if len(drains) > NAMED_MAX else ""
        return f"an undrain: all that serve {handler.name} are drained: {told}{more}"
    if not handler.rotation:
        busy = sum([session.drain is None for session in handler.sessions])
        those = "the sidecar" if busy == 1 else f"the {busy} sidecars"
        return f"a free slot: {those} of its handler would take no more now"
    return "its turn"
