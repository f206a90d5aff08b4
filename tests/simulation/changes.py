"""What operators' changes of tasks have come to: each is whole, counted, and made once.

A change names who has ordered it, in the task itself (its error, or its history), so that the count
of a change of many tasks can be compared with what has become of tasks, commit by commit.
"""

from collections import Counter
from fnmatch import fnmatchcase

from coordinator.core import bulk as kept
from coordinator.core import layout
from coordinator.core.bulk import Bulk
from coordinator.core.bulk_changes import RUNNING_MAX, SLICES_A_SECOND
from coordinator.core.effects import Now
from coordinator.core.operations import Action, ChangeTask, StartBulk
from coordinator.store.base import Writes
from protocol.messages import Priority, State
from tests.simulation.orders import Orders, owner_in
from tests.simulation.record import (
    COLLECTION,
    DUE,
    EXPIRES,
    HANDLER,
    PRIORITY,
    STATE,
    Record,
    cancelled_of,
)
from tests.simulation.world import SECOND, Broken, World

_ENDINGS = {kept.DONE: "done", kept.STOPPED: "stop"}
_STATES = {
    Action.CANCEL: (State.SCHEDULED, State.READY),
    Action.RESCHEDULE: (State.SCHEDULED, State.READY),
    Action.REQUEUE: (State.DEAD,),
    Action.PURGE: (State.DEAD,),
}


class Changes:
    """All changes of tasks in one run.

    Args:
        world: The world.
        orders: What was ordered.
        clock_steps: Whether the time of day is set forward and back.
    """

    def __init__(self, world: World, orders: Orders, *, clock_steps: bool) -> None:
        self._world = world
        self._orders = orders
        self._clock_steps = clock_steps
        self.bulks: dict[int, Bulk] = {}
        self.ended_now = False
        """Whether any has ended with the last commit."""
        self._began: dict[int, tuple[int, int]] = {}
        """The commit and the time at which each began."""
        self._moves: dict[int, str] = {}
        """Who has ordered tasks to become due at a time; it is never that of another order."""
        self._made: Counter[str] = Counter()
        """Changes that tasks tell of in this commit, by who has ordered them."""
        self._purged: list[bytes] = []
        self._certain = 0
        self._succeeded = 0
        self._written = 0

    def move(self, due_ms: int, owner: str) -> bool:
        """Take note of who orders tasks to be due at a time, unless somebody else has."""
        return self._moves.setdefault(due_ms, owner) == owner

    # --- What tasks tell -----------------------------------------------------------------------

    def wrote(self, state: State) -> None:
        """Take note that a record was written."""
        self._written += 1
        self._succeeded += state is State.SUCCEEDED

    def cancelled(self, task_id: bytes, reason: str) -> None:
        """A task was cancelled, or is to be."""
        self._make(Action.CANCEL, task_id, owner_in(reason))

    def requeued(self, task_id: bytes, message: str) -> None:
        """A dead letter has begun anew."""
        self._make(Action.REQUEUE, task_id, owner_in(message))

    def moved(self, task_id: bytes, due_ms: int) -> None:
        """A task that waits has become due at another time."""
        self._make(Action.RESCHEDULE, task_id, self._moves.get(due_ms))

    def removed(self, task_id: bytes, *, overdue: bool) -> None:
        """A dead letter was removed, by an order or because its retention was over."""
        self._purged.append(task_id)
        self._certain += not overdue

    def _make(self, action: Action, task_id: bytes, owner: str | None) -> None:
        order = self._orders.sent.get(owner or "")
        if owner is None or not isinstance(order, ChangeTask | StartBulk):
            raise Broken("tasks are changed by order only", f"{action} of {task_id.hex()}")
        one = isinstance(order, ChangeTask)
        if order.action is not action or (one and order.task_id != task_id):  # type: ignore[union-attr]
            raise Broken("an order does what it says", f"{action} of {task_id.hex()} by {order}")
        self._made[owner] += 1
        self._world.hit(f"order_{action.value}_{'one' if one else 'many'}")

    # --- A commit ------------------------------------------------------------------------------

    def committed(self, writes: Writes, tasks: "Tasks") -> None:
        """Compare, after all tasks of a commit, what they tell with what orders say."""
        orders = self._orders
        self.ended_now = False
        deltas: dict[str, int] = {}
        purges = 0
        for key, value in writes.items():
            if key[:1] != b"b":
                continue
            number = layout.number_of(key)
            if value is None:
                gone = self.bulks.pop(number, None)  # Or it has begun and ended at once.
                if gone is None:
                    self.ended_now = True
                elif gone.state == kept.RUNNING:
                    delta = self._ended_and_gone(gone)
                    deltas[gone.by.owner] = delta
                    purges += delta if gone.action is Action.PURGE else 0
                continue
            new = kept.decode(key, value, Now(0, 0))
            delta = self._take(new, tasks.commit)
            deltas[new.by.owner] = delta
            purges += delta if new.action is Action.PURGE else 0
            if new.state == kept.DONE:
                self._check_whole(new, tasks)
        for row in orders.fresh:
            order = orders.sent.get(row.owner)
            if isinstance(order, ChangeTask):
                purges += order.action is Action.PURGE
                self._check_one(order, row.owner, tasks.records)
        for owner, made in self._made.items():
            self._check_made(owner, made, deltas)
        for owner, delta in deltas.items():
            self._check_counted(owner, delta)
        if not self._certain <= purges <= len(self._purged):
            raise Broken(
                "purges are counted", f"{purges}, {len(self._purged)} gone, {self._certain} early"
            )
        self._made.clear()
        self._purged.clear()
        self._certain = self._succeeded = self._written = 0

    def _take(self, new: Bulk, commit: int) -> int:
        """Take how far a change of many tasks is; return how many it has changed with this."""
        number, owner = new.number, new.by.owner
        order = self._orders.sent.get(owner)
        old = self.bulks.get(number)
        fits = isinstance(order, StartBulk) and (order.action, order.filter, order.rate) == (
            *(new.action, new.filter, new.rate),
        )
        if not fits:
            raise Broken("an order does what it says", f"{new} by {order}")
        if old is None:
            if not any(row.owner == owner for row in self._orders.fresh) or new.changed:
                raise Broken("no order is half done", f"{new} begins without its row")
            self._began[number] = commit, self._world.now
        elif old.state != kept.RUNNING:
            raise Broken("what has ended is final", f"{old}, then {new}")
        self.bulks[number] = new
        if new.resumed and old is not None and new.resumed > old.resumed:
            self._world.hit("bulk_resumed")
        if new.state != kept.RUNNING:
            self.ended_now = True
            self._check_end(new)
        delta = new.changed - (old.changed if old is not None else 0)
        if delta < 0 or (old is not None and new.scanned < old.scanned):
            raise Broken("counts only grow", f"{old}, then {new}")
        self._check_rate(new)
        return delta

    def _check_end(self, new: Bulk) -> None:
        if new.state == kept.INTERRUPTED:
            raise Broken("no change of many tasks is interrupted", f"{new}")
        action = f"{new.action.value}.{_ENDINGS[new.state]}"
        told = [row for row in self._orders.fresh if row.action == action]
        counts = [r.details for r in told if r.details.get("number") == new.number]
        if [c["tasks"] for c in counts] != [new.changed]:
            raise Broken("counts equal what happened", f"{new}, audit log {counts}")
        self._world.hit(f"bulk_{new.state}")
        if new.state == kept.DONE and new.changed > 1:
            self._world.hit("bulk_changed_many")

    def _ended_and_gone(self, gone: Bulk) -> int:
        """Return what one has changed that has ended, and that others had followed already."""
        for row in self._orders.fresh:
            if row.details.get("number") == gone.number and row.action.endswith((".done", ".stop")):
                self.ended_now = True
                return int(row.details["tasks"]) - gone.changed
        raise Broken("what is under way is kept", f"{gone}")

    def _check_rate(self, new: Bulk) -> None:
        slice_tasks = max(1, new.rate // SLICES_A_SECOND)
        elapsed_us = self._world.now - self._began[new.number][1]
        most = 1.05 * new.rate * elapsed_us / SECOND + slice_tasks * (2 + new.resumed)
        if new.changed > most:
            raise Broken("the rate is kept", f"{new.changed} in {elapsed_us} us by {new}")

    def _check_made(self, owner: str, made: int, deltas: dict[str, int]) -> None:
        order = self._orders.sent[owner]
        if isinstance(order, ChangeTask):
            if made != 1 or not any(row.owner == owner for row in self._orders.fresh):
                raise Broken("no order is half done", f"{made} tasks changed by {order}, no row")
        elif owner not in deltas:
            raise Broken("no order is half done", f"{made} tasks changed by {order}, not counted")

    def _check_counted(self, owner: str, delta: int) -> None:
        """Compare the count with the tasks; what went on in the same commit may hide a few."""
        order = self._orders.sent[owner]
        assert isinstance(order, StartBulk)
        made = self._made[owner]
        hidden = 0
        if order.action is Action.PURGE:
            return
        if order.action is Action.CANCEL:
            hidden = self._succeeded
        elif order.action is Action.RESCHEDULE:
            hidden = self._written
        if not made <= delta <= made + hidden:
            raise Broken("counts equal what happened", f"{delta} counted, {made} changed: {order}")

    def _check_one(self, order: ChangeTask, owner: str, records: dict[bytes, Record]) -> None:
        """A row about one task, and what has become of it, are in one commit."""
        record = records.get(order.task_id)
        match order.action:
            case Action.CANCEL:
                done = record is not None and (
                    record[STATE] in (State.CANCELLED, State.SUCCEEDED)
                    or cancelled_of(record) is not None
                )
            case Action.REQUEUE:
                done = self._made[owner] == 1
            case Action.PURGE:
                done = order.task_id in self._purged
            case Action.RESCHEDULE:
                moved = record is not None and record[STATE] == State.SCHEDULED
                done = not moved or (record is not None and record[DUE] in self._moves)
        if not done:
            raise Broken("no order is half done", f"{order}, task {record}")

    # --- Whether all were changed --------------------------------------------------------------

    def _check_whole(self, new: Bulk, tasks: "Tasks") -> None:
        """Nothing is left out that was meant and has not changed since before the beginning."""
        began, _ = self._began[new.number]
        for task_id, record in tasks.records.items():
            if tasks.changed[task_id] >= began or not _can(new, record, task_id in tasks.leases):
                continue
            if self._clock_steps and new.action is Action.RESCHEDULE:
                continue  # Where it was to be due may have been over when it was met.
            if _means(new, record, tasks.names[record[HANDLER]], task_id in tasks.leases):
                raise Broken("all that is meant is changed", f"{task_id.hex()} {record} by {new}")

    # --- Questions -----------------------------------------------------------------------------

    def running(self) -> list[Bulk]:
        """Return those that are under way."""
        return [bulk for bulk in self.bulks.values() if bulk.state == kept.RUNNING]

    def began_with(self, number: int, commit: int) -> bool:
        """Tell whether one began with a commit."""
        return number in self._began and self._began[number][0] == commit

    def may_begin(self) -> bool:
        """Tell whether there is room for one more."""
        return len(self.running()) < RUNNING_MAX


def _can(new: Bulk, record: Record, leased: bool) -> bool:
    """Tell whether it could be done to a task, and was not done yet."""
    if new.action is Action.RESCHEDULE:
        if leased or 0 < record[EXPIRES] <= new.at_ms or record[DUE] == new.at_ms:
            return False
        if record[STATE] == State.READY and new.at_ms <= new.ended_ms:
            return False
    return record[STATE] in _STATES[new.action] and cancelled_of(record) is None


def _means(new: Bulk, record: Record, handler: str, leased: bool) -> bool:
    """Tell whether a filter means a task."""
    for term in new.filter.split():
        field, _, value = term.partition("=")
        if field == "handler":
            fits = fnmatchcase(handler, value)
        elif field == "collection":
            fits = record[COLLECTION] == value
        elif field == "priority":
            fits = Priority(record[PRIORITY]).name.lower() == value
        else:
            # What is scheduled counts as ready once it is due, before it is made so.
            fits = value == "ready" and record[STATE] == State.READY and not leased
        if not fits:
            return False
    return True


class Tasks:
    """What is known of all tasks by the store.

    Args:
        names: Of the handlers, by number.
        records: Of the tasks.
        leases: Authorised leases.
    """

    def __init__(
        self,
        names: dict[int, str],
        records: dict[bytes, Record],
        leases: dict[bytes, tuple[int, bytes]],
    ) -> None:
        self.names = names
        self.records = records
        self.leases = leases
        self.commit = 0
        """How many commits there were."""
        self.changed: dict[bytes, int] = {}
        """With which of them a task was changed or leased the last time."""
