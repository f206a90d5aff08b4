"""Single tasks: cancel, reschedule, requeue, purge."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from coordinator.core.changing import TaskChange
from coordinator.core.operations import Action, ChangeTask, Refusal
from coordinator.http.access import Access
from coordinator.http.operating import DRY_RUN, by_of
from coordinator.http.problems import Problem
from coordinator.http.routes import Request, Route
from coordinator.http.tasks import id_of, why_unknown
from protocol.limits import DELAY_MS_MAX


@dataclass(frozen=True, slots=True)
class ChangeBody:
    """Who changes a task."""

    owner: str
    """Who does it."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RescheduleBody:
    """When a task becomes due, and who says so."""

    owner: str
    """Who does it."""
    reason: str = ""
    at_ms: int = 0
    """When, in milliseconds since 1970; without it and delay_ms, now."""
    delay_ms: int = 0
    """How long from now."""


def at_ms_of(now_ms: int, at_ms: int, delay_ms: int) -> int:
    """Return when something becomes due that is given as a time or as a delay."""
    if at_ms and delay_ms:
        raise Problem("invalid_body", "give at_ms or delay_ms, not both")
    due_ms = at_ms or now_ms + delay_ms
    if at_ms < 0 or delay_ms < 0 or due_ms > now_ms + DELAY_MS_MAX:
        raise Problem("invalid_body", "it must be due within ten years from now")
    return due_ms


def _endpoint(action: Action) -> Callable[[Access, Request], Awaitable[TaskChange]]:
    async def endpoint(access: Access, request: Request) -> TaskChange:
        body, now_ms = request.body, access.now().wall_ms
        by = by_of(body.owner, body.reason)
        task_id = id_of(request)
        at_ms = 0
        if action is Action.RESCHEDULE:
            at_ms = at_ms_of(now_ms, body.at_ms, body.delay_ms)
        wanted = ChangeTask(action, task_id, by, at_ms, request.query["dry_run"])
        answer = await access.operate(wanted)
        if isinstance(answer, Refusal):
            unknown = answer.code == "unknown_task"
            detail = why_unknown(access, task_id, now_ms) if unknown else answer.detail
            raise Problem(answer.code, detail)
        change: TaskChange = answer.value
        return change

    return endpoint


_SUMMARIES = {
    Action.CANCEL: "End a task that waits, or have its attempt stopped",
    Action.RESCHEDULE: "Let a task that waits become due at another time",
    Action.REQUEUE: "Let a dead letter begin anew",
    Action.PURGE: "Remove a dead letter",
}
ROUTES = tuple(
    Route(
        f"/v1/tasks/{{id}}/{action.value}",
        summary,
        TaskChange,
        _endpoint(action),
        parameters=(DRY_RUN,),
        problems=("invalid_body", "unknown_task", "wrong_state", "stopping"),
        method="POST",
        body=RescheduleBody if action is Action.RESCHEDULE else ChangeBody,
    )
    for action, summary in _SUMMARIES.items()
)
