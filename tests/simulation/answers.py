"""What operators are told, against what the store says at that moment.

An answer that something was done is given when it is durable; a refusal must be true.
"""

from coordinator.core.changing import TaskChange
from coordinator.core.operations import (
    Action,
    ChangeTask,
    Done,
    LiftGate,
    Operation,
    Refusal,
    RevertPolicy,
    SetPolicy,
    StartBulk,
    StopBulk,
    UndrainSidecar,
)
from protocol.messages import State
from tests.simulation.model import Model
from tests.simulation.record import STATE, cancelled_of
from tests.simulation.world import Broken

_FITS = {
    Action.CANCEL: (State.SCHEDULED, State.READY),
    Action.RESCHEDULE: (),
    Action.REQUEUE: (State.DEAD,),
    Action.PURGE: (State.DEAD,),
}


def check(model: Model, number: int, answer: Done | Refusal) -> None:
    """Check one answer."""
    owner = f"op{number}"
    order = model.orders.sent[owner]
    audited = owner in model.orders.audited
    if isinstance(answer, Refusal):
        if audited:
            raise Broken("what is refused is not done", f"{order}: {answer}")
        _check_refusal(model, order, answer)
        return
    tried = getattr(order, "dry_run", False)
    if audited == tried:
        raise Broken("an answer is durable", f"{order}: {answer}")
    if isinstance(order, ChangeTask) and not tried:
        _check_change(model, order, answer)


def _check_change(model: Model, order: ChangeTask, answer: Done) -> None:
    change = answer.value
    assert isinstance(change, TaskChange)
    record = model.records.get(order.task_id)
    told = State[change.task.state.upper()]
    match order.action:
        case Action.CANCEL:
            true = record is not None and (
                record[STATE] == State.CANCELLED
                or (
                    told is not State.CANCELLED
                    and (cancelled_of(record) is not None or record[STATE] == State.SUCCEEDED)
                )
            )
        case Action.PURGE:
            # It may have been submitted once more, and accepted with the same commit.
            true = record is None or _just_changed(model, order.task_id)
        case Action.REQUEUE:
            true = record is not None and record[STATE] != State.DEAD
        case Action.RESCHEDULE:
            true = record is not None
    if not true:
        raise Broken("an answer is durable", f"{order}: {answer}, store {record}")


def _check_refusal(model: Model, order: Operation, refusal: Refusal) -> None:
    """Check that what is said to stand in the way does, unless it has changed just now."""
    if isinstance(order, ChangeTask):
        true = _is_no_task(model, order, refusal.code)
    elif isinstance(order, StartBulk | StopBulk):
        true = _is_no_bulk(model, order, refusal.code)
    else:
        true = _is_nothing_held(model, order, refusal.code)
    if not true:
        raise Broken("a refusal is true", f"{order}: {refusal}")


def _is_no_task(model: Model, order: ChangeTask, code: str) -> bool:
    if _just_changed(model, order.task_id):
        return True
    record = model.records.get(order.task_id)
    if code == "unknown_task":
        return record is None
    return code == "wrong_state" and (record is None or record[STATE] not in _FITS[order.action])


def _is_no_bulk(model: Model, order: StartBulk | StopBulk, code: str) -> bool:
    changes = model.changes
    if isinstance(order, StartBulk):
        same = [(bulk.action, bulk.filter) for bulk in changes.bulks.values()]
        if code == "same_operation":
            return (order.action, order.filter) in same or changes.ended_now
        if code == "conflicting_operation":
            return order.filter in [text for _, text in same] or changes.ended_now
        return code == "too_many_operations" and (not changes.may_begin() or changes.ended_now)
    if code == "unknown_operation":
        number = order.number
        return number not in changes.bulks or changes.began_with(number, model.tasks.commit)
    return code == "wrong_state" and order.number not in [b.number for b in changes.running()]


def _is_nothing_held(model: Model, order: Operation, code: str) -> bool:
    orders = model.orders
    match order, code:
        case LiftGate(scope), "unknown_gate":
            return scope not in orders.gates or scope in orders.moved
        case UndrainSidecar(name), "unknown_drain":
            return name not in orders.drains or name in orders.drains_moved
        case SetPolicy(name) | RevertPolicy(name), "unknown_handler":
            return name not in model.names.values() or name in model.just_named
        case SetPolicy(), "invalid_policy":
            return True
        case RevertPolicy(name, fields), "unknown_override":
            changed = orders.overrides.get(name, {})
            absent = not changed or any(field not in changed for field in fields)
            return absent or orders.policy_moved(name)
    return False


def _just_changed(model: Model, task_id: bytes) -> bool:
    return model.tasks.changed.get(task_id) == model.tasks.commit
