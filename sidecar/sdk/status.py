"""A task as its observer sees it, and what waiting for it comes to."""

import json
from dataclasses import dataclass
from typing import Any

from protocol.ids import to_text
from protocol.messages import OutcomeKind, Priority, Result, State, Status
from sidecar.sdk.errors import (
    TaskCancelled,
    TaskDead,
    TaskDropped,
    TaskExpired,
    TaskFailed,
)
from sidecar.sdk.new_task import OCTETS

__all__ = ["AttemptStatus", "TaskStatus"]

_KINDS = {int(kind): kind.name.lower() for kind in OutcomeKind}
_FAILURES: dict[State, type[TaskFailed]] = {
    State.DEAD: TaskDead,
    State.CANCELLED: TaskCancelled,
    State.EXPIRED: TaskExpired,
    State.DROPPED: TaskDropped,
}


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """One attempt that is over."""

    number: int
    started_ms: int
    run_us: int
    outcome: str
    """``success``, ``retry``, ``defer``, ``fatal``, ``returned`` or ``lost``."""
    sidecar: str
    error_type: str
    message: str
    detail: str


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task. Times are milliseconds since 1970; 0 means "not yet" or "never"."""

    id: str
    handler: str
    state: str
    """``scheduled``, ``ready``, ``leased``, ``running``, ``succeeded``, ``dead``, ..."""
    ended: bool
    priority: str
    collection: str | None
    submitted_ms: int
    due_ms: int
    expires_ms: int
    finished_ms: int
    attempts: int
    attempts_max: int
    deliveries: int
    sidecar: str
    """Who holds the lease."""
    sidecars: int
    """How many sidecars serve the handler; 0 tells why a ready task waits."""
    result: Any
    error: str
    history: tuple[AttemptStatus, ...]
    progress: float | None = None
    """How much the attempt that goes on has done, from 0 to 1; None if it has not told."""
    note: str = ""
    """What it has told last."""
    checkpoint: bytes | None = None
    """What the next attempt gets."""
    cancelling: bool = False
    """Whether it was cancelled while an attempt ran, which has not stopped yet."""


def from_wire(status: Status) -> TaskStatus:
    """Return a status in the user's words."""
    known = 0 <= status.priority < len(Priority)
    return TaskStatus(
        id=to_text(status.id),
        handler=status.handler,
        state=status.state.name.lower(),
        ended=status.state.terminal,
        priority=Priority(status.priority if known else Priority.NORMAL).name.lower(),
        collection=status.collection,
        submitted_ms=status.submitted_ms,
        due_ms=status.due_ms,
        expires_ms=status.expires_ms,
        finished_ms=status.finished_ms,
        attempts=status.attempts,
        attempts_max=status.attempts_max,
        deliveries=status.deliveries,
        sidecar=status.sidecar,
        sidecars=status.sidecars,
        result=value_of(status.result),
        error=status.error,
        history=tuple(
            AttemptStatus(*a[:3], _KINDS.get(a.outcome, str(a.outcome)), *a[4:])
            for a in status.history
        ),
        progress=None if status.progress < 0 else status.progress / 1000,
        note=status.note,
        checkpoint=status.checkpoint,
        cancelling=status.cancelling,
    )


def value_of(result: Result | None) -> Any:
    """Return what the handler returned; bytes stay bytes."""
    if result is None:
        return None
    if result.content_type == OCTETS:
        return result.body
    try:
        return json.loads(result.body)
    except ValueError:  # Another SDK's handler may return any content.
        return result.body


def result_of(status: Status) -> Any:
    """Return the result of a task that has ended.

    Raises:
        TaskFailed: It ended without success.
    """
    failure = _FAILURES.get(status.state)
    if failure is not None:
        raise failure(to_text(status.id), status.handler, status.error)
    return value_of(status.result)
