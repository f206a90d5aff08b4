"""Settle leases: by the outcome that a sidecar reports, or because the lease has ended.

An outcome counts only with the token of the task's latest lease. One that arrives after its lease
has ended is still taken if it ends the task and no later lease was granted. It counts from the
session that holds the lease, and from others of the service that owns the handler: a sidecar that
was restarted reports what the process before it has left in the spool.
"""

from typing import Any

from coordinator.core.effects import GetMany, Now
from coordinator.core.figures import AttemptResult
from coordinator.core.layout import task_key
from coordinator.core.ledger import Ledger
from coordinator.core.queries import Queries
from coordinator.core.retry import backoff_ms, jitter_of
from coordinator.core.sessions import Session
from coordinator.core.task import Change, Task, Told
from protocol.errors import Code
from protocol.ids import to_text
from protocol.limits import ERROR_MESSAGE_CHARS_MAX, HISTORY_MAX, RETURNS_MAX
from protocol.messages import (
    AttemptRecord,
    Failure,
    Outcome,
    OutcomeKind,
    Outcomes,
    Recorded,
    Result,
    State,
    Unrecorded,
)

DETAILS_KEPT = 3
"""Tracebacks kept per task: those of the latest attempts."""
RETURNED = Failure("returned", "its lease was given back unused each time")
LEASE_LOST = Failure("lease-lost", "the session ended while the sidecar held the lease")
_ENDS = (OutcomeKind.SUCCESS, OutcomeKind.FATAL)


class Settlement:
    """Takes outcomes and ends leases."""

    def __init__(self, ledger: Ledger, queries: Queries) -> None:
        self._ledger = ledger
        self._queries = queries

    def take(self, now: Now, session: Session, message: Outcomes) -> None:
        """Settle what a message reports; RECORDED follows when all of it is durable."""
        leased = self._ledger.leased
        late: list[tuple[int, Outcome]] = []
        for place, outcome in enumerate(message.outcomes):
            task = leased.get(outcome[0])
            if (
                task is not None
                and task.token == outcome[1]
                and (task.session is session or _owns(session, task))
            ):
                self.settle(now, task, outcome)
            else:
                late.append((place, outcome))
        if late:
            self._look_up(session, message.number, late, [])
        else:
            self._ledger.send(session.peer, Recorded(message.number, []))

    def settle(self, now: Now, task: Task, outcome: Outcome) -> None:
        """End a lease with an outcome, and do with its task what follows from it."""
        kind, value = outcome.kind, outcome.value
        sidecar = "" if task.session is None else task.session.sidecar
        self._ledger.end_lease(task)
        figures = task.handler.figures
        figures.attempts[kind] += 1
        if kind is OutcomeKind.RETURNED:
            if type(value) is Failure:
                _remember(now, task, outcome, sidecar)
            self._returned(now, task, value)
            return
        run_us = outcome.run_us
        figures.run[(run_us // 1000).bit_length()] += 1
        figures.run_us += run_us
        lease_ms = now.wall_ms - task.granted_ms
        if lease_ms > 0:  # Or the clock was set back.
            figures.lease_ms += lease_ms
        _remember(now, task, outcome, sidecar)
        if kind is OutcomeKind.SUCCESS:
            task.attempts += 1
            self._succeed(now, task, value)
        elif kind is OutcomeKind.DEFER:
            self._defer(now, task, value)
        elif kind is OutcomeKind.LOST:
            task.crashes += 1
            self._lost(now, task, value)
        else:
            self._failed(now, task, kind, value)

    def lose(self, now: Now, task: Task) -> None:
        """End the lease of a session that is over: the attempt is charged.

        It counts as a crash if it had begun, since what ended the sidecar may have been the task.
        """
        sidecar = "" if task.session is None else task.session.sidecar
        began = task.running_since_ms
        run_us = max(0, now.wall_ms - began) * 1000 if began else 0
        self._ledger.end_lease(task)
        _remember(
            now, task, Outcome(task.id, task.token, OutcomeKind.LOST, run_us, LEASE_LOST), sidecar
        )
        task.crashes += 1 if began else 0
        task.handler.figures.attempts[AttemptResult.LEASE_LOST] += 1
        self._lost(now, task, LEASE_LOST)

    def give_back(self, now: Now, task: Task) -> None:
        """End a lease that was never used; nothing is charged."""
        self._ledger.end_lease(task)
        task.handler.figures.attempts[AttemptResult.RETURNED] += 1
        self._returned(now, task, None)

    def spoil(self, now: Now, task: Task, error_type: str) -> None:
        """End the lease of a task that cannot be handed over: its payload is not there unharmed."""
        message = "the store does not hold the payload that was submitted"
        failure = Failure(error_type, f"{message}; submit the task again, with another id")
        sidecar = "" if task.session is None else task.session.sidecar
        self._ledger.end_lease(task)
        task.handler.figures.attempts[AttemptResult.FATAL] += 1
        self._ledger.count(error_type)
        self._ledger.note(error_type, task_id=task.id.hex(), handler=task.handler.name)
        outcome = Outcome(task.id, task.token, OutcomeKind.FATAL, 0, failure)
        _remember(now, task, outcome, sidecar)
        self._die(now, task, "", failure)

    def _returned(self, now: Now, task: Task, value: Any) -> None:
        self._ledger.count("returned")
        if task.cancelling:
            self._stop(now, task)
        elif task.deliveries - task.attempts - task.deferrals > RETURNS_MAX:
            self._die(now, task, "returned too often", value or RETURNED)
        else:
            self._again(now, task)

    def _succeed(self, now: Now, task: Task, value: Any) -> None:
        task.change(Change.SUCCESS)
        if type(value) is Result:
            task.result = value
        self._finish(now, task)

    def _defer(self, now: Now, task: Task, value: Any) -> None:
        task.deferrals += 1
        self._ledger.count("deferred")
        if task.cancelling:
            self._stop(now, task)
        elif task.deferrals > task.handler.policy.deferrals_max:
            self._die(now, task, "deferred too often", value)
        else:
            self._later(now, task, value, task.deferrals)

    def _failed(self, now: Now, task: Task, kind: OutcomeKind, value: Any) -> None:
        task.attempts += 1
        if type(value) is Failure and value.error_type == "timeout":
            attempts = task.handler.figures.attempts
            attempts[kind] -= 1
            attempts[AttemptResult.TIMEOUT] += 1
        if task.cancelling:
            self._stop(now, task)
        elif kind is OutcomeKind.FATAL:
            self._die(now, task, "", value)
        elif self._used_up(task):
            self._die(now, task, f"{task.attempts} attempts used up", value)
        else:
            self._ledger.count("retried")
            self._later(now, task, value, task.attempts)

    def _lost(self, now: Now, task: Task, value: Any) -> None:
        task.attempts += 1
        self._ledger.count("lost")
        if task.cancelling:
            self._stop(now, task)
        elif task.crashes >= task.handler.policy.crashes_max:
            self._die(now, task, f"crashed {task.crashes} times", value)
        elif self._used_up(task):
            self._die(now, task, f"{task.attempts} attempts used up", value)
        else:
            self._again(now, task)

    def _used_up(self, task: Task) -> bool:
        return task.attempts >= task.option("attempts_max", task.handler.policy.attempts_max)

    def _again(self, now: Now, task: Task) -> None:
        """Make a task ready at once, at the front, unless it may not begin any more."""
        if task.expires_ms and task.expires_ms <= now.wall_ms:
            self._ledger.expire(now, task)
            self._queries.ended(now, task)
            return
        task.change(Change.RETURN)
        self._ledger.count("redelivered")
        _forget(task)
        self._ledger.guard_expiry(task)
        if self._ledger.make_ready(now, task, front=True):
            self._waits(now, task)
        else:
            self._queries.ended(now, task)

    def _later(self, now: Now, task: Task, value: Any, step: int) -> None:
        """Schedule the next attempt: when the handler asked for it, otherwise by the backoff."""
        wait_ms = value.retry_after_ms if type(value) is Failure else None
        if wait_ms is None:
            policy = task.handler.policy
            wait_ms = backoff_ms(
                step,
                ms_min=task.option("backoff_ms_min", policy.backoff_ms_min),
                ms_max=task.option("backoff_ms_max", policy.backoff_ms_max),
                jitter=jitter_of(task.id, task.token),
            )
        if task.expires_ms and task.expires_ms <= now.wall_ms:
            self._ledger.expire(now, task)
            self._queries.ended(now, task)
            return
        task.change(Change.LATER)
        task.due_ms = now.wall_ms + max(wait_ms, 1)
        _forget(task)
        self._ledger.guard_expiry(task)
        self._ledger.schedule(task)
        self._waits(now, task)

    def _waits(self, now: Now, task: Task) -> None:
        """Keep a task that waits for its next attempt."""
        self._ledger.save(task)
        self._queries.changed(now, task)

    def _stop(self, now: Now, task: Task) -> None:
        """End a task that was cancelled, now that its attempt has stopped."""
        assert task.told is not None, "it is cancelled"
        self._ledger.cancel(now, task, task.told.cancelled or "")
        self._queries.ended(now, task)

    def _die(self, now: Now, task: Task, why: str, value: Any) -> None:
        """Make a dead letter of a task."""
        failure = value if type(value) is Failure else Failure("unknown")
        cause = (
            f"{failure.error_type}: {failure.message}" if failure.message else failure.error_type
        )
        task.error = (f"{why}; last: {cause}" if why else cause)[:ERROR_MESSAGE_CHARS_MAX]
        task.change(Change.FATAL)
        self._ledger.count("dead")
        self._ledger.tell(
            "task_dead",
            id=to_text(task.id),
            handler=task.handler.name,
            error_type=failure.error_type,
            attempts=task.attempts,
        )
        self._finish(now, task)

    def _finish(self, now: Now, task: Task) -> None:
        self._ledger.finish(now, task)
        if task.id in self._ledger.waits:
            self._queries.ended(now, task)

    # Outcomes without a lease

    def _look_up(
        self,
        session: Session,
        number: int,
        late: list[tuple[int, Outcome]],
        exceptions: list[Unrecorded],
    ) -> None:
        peer = session.peer  # It may have another one when the records are there.

        def then(now: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            again: list[tuple[int, Outcome]] = []
            for place, outcome in late:
                if outcome.id in saved:
                    again.append((place, outcome))  # The record that was read is out of date.
                    continue
                code = self._take_late(now, session, outcome, found.get(task_key(outcome.id)))
                if code is not None:
                    self._ledger.count(code)
                    exceptions.append(Unrecorded(place, code))
            if again:
                self._look_up(session, number, again, exceptions)
            else:
                self._ledger.send(peer, Recorded(number, sorted(exceptions)))

        keys = [task_key(outcome.id) for _, outcome in late]
        self._ledger.ask(GetMany(keys), then, watch=True)

    def _take_late(
        self, now: Now, session: Session, outcome: Outcome, record: bytes | None
    ) -> str | None:
        """Take an outcome whose lease has ended, or return the code that says why not."""
        ledger = self._ledger
        if outcome.id in ledger.leased:
            return Code.STALE_TOKEN  # A later lease was granted, or another service holds this one.
        task = ledger.waiting.get(outcome.id)
        if task is None:
            if record is None:
                return Code.UNKNOWN_TASK
            task = ledger.read_record(outcome.id, record)
        if task is None or task.token != outcome.token or not _owns(session, task):
            return Code.STALE_TOKEN
        if task.state.terminal:
            # The same message once more, or of a task that has ended in another way since.
            succeeded = task.state is State.SUCCEEDED
            same = succeeded == (outcome.kind is OutcomeKind.SUCCESS)
            return None if same else Code.STALE_TOKEN
        if outcome.kind not in _ENDS:
            return Code.STALE_TOKEN  # The lease's end has had its consequence already.
        ledger.count("late_taken")
        ledger.leave_queue(task)
        _remember(now, task, outcome, "")
        if outcome.kind is OutcomeKind.SUCCESS:
            self._succeed(now, task, outcome.value)
        else:
            self._die(now, task, "", outcome.value)
        return None


def _owns(session: Session, task: Task) -> bool:
    """Tell whether a session is of the service that owns the task's handler."""
    return task.handler.name.startswith(f"{session.service}.")


def _forget(task: Task) -> None:
    """Forget what was told of an attempt that is over, but for what the next one gets."""
    if task.told is not None:
        checkpoint = task.told.checkpoint
        task.told = None if checkpoint is None else Told(checkpoint)


def _remember(now: Now, task: Task, outcome: Outcome, sidecar: str) -> None:
    """Add one attempt to the task's history, which keeps the first and the latest ones."""
    _, _, kind, run_us, value = outcome
    history = task.history
    error_type = message = detail = ""
    if type(value) is Failure:
        error_type, message, detail, _ = value
    started_ms = max(0, now.wall_ms - run_us // 1000)
    if len(history) >= HISTORY_MAX:
        del history[1]
    if len(history) >= DETAILS_KEPT and history[-DETAILS_KEPT].detail:
        history[-DETAILS_KEPT] = history[-DETAILS_KEPT]._replace(detail="")
    history.append(
        AttemptRecord(
            task.deliveries, started_ms, run_us, int(kind), sidecar, error_type, message, detail
        )
    )
