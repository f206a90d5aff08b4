"""Do to single tasks what operators ask for: cancel, reschedule, requeue, purge.

Each is checked against what the task is at the moment in which it is done, in memory or by its
record, so that an operation that comes too late is refused and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordinator.core.cancelling import Cancelling
from coordinator.core.effects import GetMany, Now
from coordinator.core.filters.predicate import state_of
from coordinator.core.layout import task_key
from coordinator.core.ledger import Ledger
from coordinator.core.operations import Action, By, ChangeTask, Done, Refusal
from coordinator.core.queries import Queries
from coordinator.core.task import Change, Task
from coordinator.core.task_view import TaskRow, task_row
from protocol.ids import to_text
from protocol.limits import ERROR_MESSAGE_CHARS_MAX, HISTORY_MAX
from protocol.messages import AttemptRecord, OutcomeKind, State

REQUEUED = "requeued"
"""The error type of the entry that a requeue leaves in the history."""
_WAITS = (State.SCHEDULED, State.READY)
Take = Callable[[Now, bytes, Task | None], None]


@dataclass(frozen=True, slots=True)
class TaskChange:
    """What was done to a task, or would be."""

    action: str
    dry_run: bool
    """Whether nothing was changed."""
    task: TaskRow
    """After it; of a purged one, before."""
    note: str
    """What follows from it, in words."""


class Changing:
    """Changes single tasks."""

    def __init__(self, ledger: Ledger, queries: Queries, cancelling: Cancelling) -> None:
        self._ledger = ledger
        self._queries = queries
        self._cancelling = cancelling

    def one(self, number: int, wanted: ChangeTask) -> None:
        """Do something to one task; the answer to operation ``number`` follows."""

        def take(now: Now, task_id: bytes, task: Task | None) -> None:
            answer: Done | Refusal
            if task is None:
                answer = Refusal("unknown_task", to_text(task_id))
            else:
                answer = self._answer(now, task, wanted)
            self._ledger.effects.results.append((number, answer))

        def then(_: Now, again: Sequence[bytes]) -> None:
            if again:
                self.look_up(again, take, then)

        self.look_up([wanted.task_id], take, then)

    def look_up(
        self, ids: Sequence[bytes], take: Take, then: Callable[[Now, Sequence[bytes]], None]
    ) -> None:
        """Find tasks, call ``take`` with each, and ``then`` with those to be looked up again.

        Those have changed since they were read, and are not in memory.
        """
        ledger = self._ledger

        def read(now: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            again: list[bytes] = []
            for task_id in ids:
                task = ledger.leased.get(task_id) or ledger.waiting.get(task_id)
                if task is None:
                    if task_id in saved:
                        again.append(task_id)
                        continue
                    record = found.get(task_key(task_id))
                    task = None if record is None else ledger.read_record(task_id, record)
                take(now, task_id, task)
            then(now, again)

        ledger.ask(GetMany([task_key(task_id) for task_id in ids]), read, watch=True)

    def _answer(self, now: Now, task: Task, wanted: ChangeTask) -> Done | Refusal:
        refusal = refusal_of(now, task, wanted.action, wanted.at_ms)
        if refusal is not None:
            return refusal
        note = _note(now, task, wanted.action)
        row = task_row(task, now.wall_ms)
        if not wanted.dry_run:
            self.change(now, task, wanted.action, wanted.by, wanted.at_ms)
            if wanted.action is not Action.PURGE:
                row = task_row(task, now.wall_ms)
            details = {"handler": row.handler}
            self._ledger.record(now, wanted.by, f"task.{wanted.action.value}", row.id, details)
        return Done(TaskChange(wanted.action.value, wanted.dry_run, row, note))

    # Changes

    def change(self, now: Now, task: Task, action: Action, by: By, at_ms: int) -> None:
        """Do something to a task to which it can be done."""
        match action:
            case Action.CANCEL:
                self._cancel(now, task, by)
            case Action.RESCHEDULE:
                self._reschedule(now, task, at_ms)
            case Action.REQUEUE:
                self._requeue(now, task, by)
            case Action.PURGE:
                self._ledger.count("purged")
                self._ledger.remove(task)

    def _cancel(self, now: Now, task: Task, by: By) -> None:
        if task.state is State.LEASED:
            self._cancelling.mark(now, task, _words(by))
        else:
            self._cancelling.end(now, task, _words(by))

    def _reschedule(self, now: Now, task: Task, at_ms: int) -> None:
        ledger = self._ledger
        later = at_ms > now.wall_ms
        if task.state is State.READY and not later:
            return
        ledger.count("rescheduled")
        ledger.leave_queue(task)
        task.leave_park()
        task.due_ms = at_ms if later else now.wall_ms
        if later:
            task.change(Change.POSTPONE)
            ledger.schedule(task)
        else:
            task.change(Change.DUE)
        self._waits(now, task)

    def _requeue(self, now: Now, task: Task, by: By) -> None:
        """Let a dead letter begin anew; what it went through stays in its history."""
        ledger = self._ledger
        ledger.count("requeued")
        ledger.leave_dead(task)
        if len(task.history) >= HISTORY_MAX:
            del task.history[1]
        what = f"{_words(by)}; it was dead: {task.error}"[:ERROR_MESSAGE_CHARS_MAX]
        task.history.append(
            AttemptRecord(
                *(task.deliveries, now.wall_ms, 0, int(OutcomeKind.RETURNED)),
                *("", REQUEUED, what, ""),
            )
        )
        task.attempts = task.crashes = task.deferrals = task.deliveries = 0
        task.finished_ms = 0
        task.error = ""
        task.due_ms = now.wall_ms
        # What is still under way of an earlier lease must not end it once more.
        task.token = ledger.next_row()
        if 0 < task.expires_ms <= now.wall_ms:
            task.expires_ms = 0
        task.change(Change.REQUEUE)
        ledger.guard_expiry(task)
        self._waits(now, task)

    def _waits(self, now: Now, task: Task) -> None:
        if task.state is State.READY and not self._ledger.make_ready(now, task):
            self._queries.ended(now, task)
        else:
            self._ledger.save(task)
            self._queries.changed(now, task)


def refusal_of(now: Now, task: Task, action: Action, at_ms: int) -> Refusal | None:
    """Return why something cannot be done to a task, or None."""
    state = state_of(task, now.wall_ms).name.lower()
    if action is Action.CANCEL:
        fits = not task.state.terminal
        wrong = f"it has ended already, as {state}"
    elif action is Action.RESCHEDULE:
        fits = task.state in _WAITS
        wrong = f"it is {state}; only tasks that wait can be rescheduled"
        if fits and 0 < task.expires_ms <= at_ms:
            fits, wrong = False, "it would expire before it becomes due"
    else:
        fits = task.state is State.DEAD
        wrong = f"it is {state}, and no dead letter"
    return None if fits else Refusal("wrong_state", wrong)


def _note(now: Now, task: Task, action: Action) -> str:
    if action is Action.CANCEL and task.state is State.LEASED:
        return "its attempt is told to stop; it ends as cancelled once that has, unless it succeeds"
    if action is Action.REQUEUE:
        over = " its expiry is over and does not count any more;" if _expired(now, task) else ""
        return f"attempts and crashes count from 0 again;{over} its history is kept"
    return ""


def _expired(now: Now, task: Task) -> bool:
    return 0 < task.expires_ms <= now.wall_ms


def _words(by: By) -> str:
    return f"by {by.owner} ({by.reason})" if by.reason else f"by {by.owner}"
