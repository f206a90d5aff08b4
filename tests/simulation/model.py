"""What the store says, commit by commit, and whether it may say so.

This is a second, much simpler account of tasks and leases, kept from nothing but what became
durable. A lease is *authorised* from the commit of its grant until the commit that settles it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core import layout, records
from coordinator.core.changing import REQUEUED
from coordinator.core.config import Config
from coordinator.store.base import Writes
from protocol.messages import AttemptRecord, State
from tests.simulation.changes import Changes, Tasks
from tests.simulation.orders import Orders
from tests.simulation.record import (
    ATTEMPTS,
    COLLECTION,
    CRASHES,
    CRC,
    DEFERRALS,
    DELIVERIES,
    DUE,
    ERROR,
    EXPIRES,
    FINISHED,
    HANDLER,
    HISTORY,
    NEVER_CHANGE,
    OPTIONS,
    PRIORITY,
    RESULT,
    STATE,
    TOKEN,
    Record,
    cancelled_of,
    content_crc,
)
from tests.simulation.workload import Entry, Plan
from tests.simulation.world import Broken, World

if TYPE_CHECKING:
    from tests.simulation.attempts import Attempts

WALL_JUMP_MS = 60_000
"""More than the time of day ever jumps back."""


class Model:
    """Tasks and leases as the store has them.

    Args:
        world: The world.
        plan: The plan of the run.
        config: Of the coordinator, for its retention.
        wall_ms: The coordinator's time of day.
        attempts: Who runs what.
    """

    def __init__(
        self,
        world: World,
        plan: Plan,
        config: Config,
        wall_ms: Callable[[], int],
        attempts: "Attempts",
    ) -> None:
        self._world = world
        self._plan = plan
        self._config = config
        self._wall_ms = wall_ms
        self._attempts = attempts
        self.epoch = 0
        self.flushed_wall_ms = 0
        """The time of day when what is being committed was flushed."""
        self.records: dict[bytes, Record] = {}
        self.removed: set[bytes] = set()
        self.leases: dict[bytes, tuple[int, bytes]] = {}
        """Authorised leases: token and incarnation of the holder, by task."""
        self.granted: dict[bytes, int] = {}
        """The last token granted of each task, or the number that it began with."""
        self.tokens_before: dict[bytes, int] = {}
        """The last token of a task whose id may be used again."""
        self.deliveries: dict[bytes, int] = {}
        self.leased: dict[int, int] = {}
        """Authorised leases of each handler."""
        self.charges: dict[bytes, int] = {}
        """How many attempts tasks must have cost once what was flushed is committed."""
        self.deaths: dict[bytes, set[int]] = {}
        """When tasks had died that were requeued since."""
        self.just_granted: set[bytes] = set()
        """What the last commit granted."""
        self.unbegun: set[tuple[bytes, int]] = set()
        """Leases that had not begun when the process that waited to do so died."""
        self.returned: set[tuple[bytes, int]] = set()
        """Leases that have come back unused since the last flush."""
        self.sidecars: dict[bytes, str] = {}
        """Their names, by their incarnations."""
        self.postponed: set[tuple[int, int]] = set()
        """Handlers and priorities of ready tasks that were rescheduled."""
        self.names: dict[int, str] = {}
        self.just_named: set[str] = set()
        """Handlers that were made with the last commit."""
        self.contents: dict[bytes, dict[int, Entry]] = {}
        """What was ever submitted under each id, by its checksum."""
        self.orders = Orders(world, plan)
        self.changes = Changes(world, self.orders, clock_steps=plan.wall_jumps)
        self.tasks = Tasks(self.names, self.records, self.leases)

    def committed(self, writes: Writes) -> None:
        """Take a commit."""
        self.tasks.commit += 1
        self._take_names(writes)
        self.orders.committed(writes, self.names, self._late_ms())
        for key, value in writes.items():
            if key[:1] == b"t":
                self._take_record(key[1:], value)
        self.changes.committed(writes, self.tasks)
        self.orders.check_dropped()
        for task_id, attempts in self.charges.items():
            if self.records[task_id][ATTEMPTS] != attempts:
                raise Broken("a lost lease is charged", f"{task_id.hex()} {self.records[task_id]}")
        self.just_granted.clear()
        for key, value in writes.items():
            if key[:1] == b"g" and value is not None:
                holder, leases = layout.split_leases(key, value)
                for task_id, token in leases:
                    self._take_lease(task_id, token, holder)

    def _take_names(self, writes: Writes) -> None:
        self.just_named.clear()
        for key, value in writes.items():
            if key[:1] == b"h" and value is not None and layout.handler_of(key) not in self.names:
                name = self.names[layout.handler_of(key)] = records.decode_list(key, value)[0]
                self.just_named.add(name)
            elif key[:1] == b"n" and value is not None:
                self.sidecars[key[1:]] = records.decode_list(key, value)[0]

    def _late_ms(self) -> int:
        """Return the latest time of day at which something in this commit may have been done."""
        return self.flushed_wall_ms + (WALL_JUMP_MS if self._plan.wall_jumps else 0)

    # --- Records -------------------------------------------------------------------------------

    def _take_record(self, task_id: bytes, value: bytes | None) -> None:
        old = self.records.get(task_id)
        if value is None:
            self._take_removal(task_id, old)
            return
        new = records.decode_list(layout.task_key(task_id), value)
        self.records[task_id] = new
        self.tasks.changed[task_id] = self.tasks.commit
        self.changes.wrote(new[STATE])
        if old is None:
            self._check_new(task_id, new)
        elif old[STATE] == State.DEAD:
            self._check_requeued(task_id, old, new)
        elif self._is_marked(task_id, old, new):
            return
        else:
            self._check_change(task_id, old, new)
        self._check_ordered(task_id, old, new)
        if new[STATE] >= State.SUCCEEDED:
            self._check_end(task_id, new)

    def _check_new(self, task_id: bytes, new: Record) -> None:
        entry = self.contents.get(task_id, {}).get(new[CRC])
        if entry is None:
            raise Broken("no task without a submit", task_id.hex())
        # One that is not wanted may be accepted and ended in one commit.
        begins = (State.SCHEDULED, State.READY, State.EXPIRED, State.CANCELLED, State.DROPPED)
        # No lease of an earlier task with this id may look like a lease of this one.
        above = new[TOKEN] > self.tokens_before.get(task_id, 0)
        if new[STATE] not in begins or not above or new[ATTEMPTS]:
            raise Broken("a task begins at the beginning", f"{task_id.hex()} {new}")
        self.granted[task_id] = new[TOKEN]

    def _is_marked(self, task_id: bytes, old: Record, new: Record) -> bool:
        """Tell whether a record is that of a leased task, which is to be cancelled."""
        lease = self.leases.get(task_id)
        reason = cancelled_of(new)
        if lease is None or new[STATE] != State.READY or new[TOKEN] != lease[0] - 1:
            return False
        where = f"{task_id.hex()} from {old} to {new}"
        if reason is None or new[DELIVERIES] != self.deliveries.get(task_id, 0) - 1:
            raise Broken("a lease is not in the record", where)
        if any(old[place] != new[place] for place in (*NEVER_CHANGE, ATTEMPTS, CRASHES, HISTORY)):
            raise Broken("a task keeps its content", where)
        if cancelled_of(old) is None:
            self.changes.cancelled(task_id, reason)
        return True

    def _check_change(self, task_id: bytes, old: Record, new: Record) -> None:
        where = f"{task_id.hex()} from {old} to {new}"
        if old[STATE] >= State.SUCCEEDED:
            raise Broken("what has ended is final", where)
        if any(old[place] != new[place] for place in (*NEVER_CHANGE, EXPIRES)):
            raise Broken("a task keeps its content", where)
        if new[STATE] in (State.LEASED, State.RUNNING):
            raise Broken("a lease is not in the record", where)
        if new[TOKEN] < old[TOKEN]:
            raise Broken("tokens only grow", where)
        if new[TOKEN] != self.granted.get(task_id, 0):
            raise Broken("only the present lease is settled", where)
        if new[DELIVERIES] != self.deliveries.get(task_id, 0):
            raise Broken("each delivery is counted", where)
        if not old[ATTEMPTS] <= new[ATTEMPTS] <= old[ATTEMPTS] + 1:
            raise Broken("an attempt is charged once", where)
        if new[CRASHES] > old[CRASHES] and new[STATE] < State.SUCCEEDED:
            self._check_crash(task_id, new, where)
        self._check_attempts(task_id, old, new, where)
        if self.leases.pop(task_id, None) is not None:
            self.leased[new[HANDLER]] -= 1
            self._check_stopped(old, new, where)
        elif new[ATTEMPTS] != old[ATTEMPTS] and new[STATE] < State.SUCCEEDED:
            raise Broken("only a lease costs an attempt", where)
        elif new[STATE] == State.SCHEDULED and new[DUE] != old[DUE]:
            self.changes.moved(task_id, new[DUE])
            if old[STATE] == State.READY:
                self.postponed.add((new[HANDLER], new[PRIORITY]))

    def _check_attempts(self, task_id: bytes, old: Record, new: Record, where: str) -> None:
        """No more attempts than the policy allows, or allowed when the task was granted."""
        ever = max(self._allowed(new, self.orders.attempts_ever(self._handler(new))))
        if new[ATTEMPTS] > ever or new[ATTEMPTS] > new[DELIVERIES]:
            raise Broken("attempts are bounded", where)
        charged = new[ATTEMPTS] > old[ATTEMPTS]
        if charged and (task_id, new[TOKEN]) in self.returned and task_id not in self.charges:
            raise Broken("what comes back unused is not charged", where)
        if charged and new[STATE] < State.SUCCEEDED and new[ATTEMPTS] >= max(self._allowed(new)):
            raise Broken("attempts are bounded", where)

    def _handler(self, record: Record) -> str:
        return self.names[record[HANDLER]]

    def _allowed(self, record: Record, least: int = 0) -> list[int]:
        """Return how many attempts a task may cost, by each policy that may have counted."""
        own = (record[OPTIONS] or {}).get("attempts_max")
        if own is not None:
            return [own]
        policies = self.orders.policies(self._handler(record))
        return [max(least, policy["attempts_max"]) for policy in policies]

    def _check_stopped(self, old: Record, new: Record, where: str) -> None:
        """A lease has ended: what was to be cancelled is, unless it has succeeded."""
        if cancelled_of(old) is None:
            return
        if new[STATE] not in (State.CANCELLED, State.SUCCEEDED):
            raise Broken("what is cancelled is not tried again", where)
        late = new[STATE] == State.SUCCEEDED
        self._world.hit("cancelled_but_succeeded" if late else "cancelled_once_stopped")

    def _check_requeued(self, task_id: bytes, old: Record, new: Record) -> None:
        """A dead letter changes by an order only, and begins anew then, but for its tokens."""
        where = f"{task_id.hex()} from {old} to {new}"
        last = AttemptRecord(*new[HISTORY][-1]) if new[HISTORY] else None
        if last is None or last.error_type != REQUEUED or new[STATE] == State.DEAD:
            raise Broken("what has ended is final", where)
        if any(old[place] != new[place] for place in NEVER_CHANGE):
            raise Broken("a task keeps its content", where)
        if new[EXPIRES] != old[EXPIRES] and (new[EXPIRES] or old[EXPIRES] > self._late_ms()):
            raise Broken("a task keeps its content", where)
        if any(new[place] for place in (ATTEMPTS, CRASHES, DEFERRALS, DELIVERIES)):
            raise Broken("what is requeued begins anew", where)
        if new[TOKEN] <= self.granted[task_id]:
            raise Broken("tokens only grow", where)
        self.granted[task_id] = new[TOKEN]
        self.deliveries[task_id] = 0
        self.deaths.setdefault(task_id, set()).add(old[FINISHED])
        self.changes.requeued(task_id, last.message)

    def _check_ordered(self, task_id: bytes, old: Record | None, new: Record) -> None:
        """What an operator has ordered of a task, or of all that a gate covers, is heeded."""
        state = new[STATE]
        handler, collection = self._handler(new), new[COLLECTION]
        if state == State.DROPPED:
            self.orders.dropped(handler, collection, new[ERROR])
            leased = old is not None and new[DELIVERIES] > old[DELIVERIES]
            self._world.hit("dropped_after_attempt" if leased else "dropped_waiting")
        elif state == State.CANCELLED:
            if old is None or cancelled_of(old) is None:
                self.changes.cancelled(task_id, new[ERROR])
        elif state == State.READY and self.orders.gates:
            gate = self.orders.dropping(handler, collection)
            if gate is not None:
                raise Broken("nothing becomes ready that is to be dropped", f"{new} by {gate}")
        if state in (State.DROPPED, State.CANCELLED):
            self._attempts.over(task_id, State(state).name.lower())

    def _check_crash(self, task_id: bytes, new: Record, where: str) -> None:
        if (task_id, new[TOKEN]) in self.unbegun:
            raise Broken("what has not begun does not crash", where)
        if new[CRASHES] >= self._plan.policies[self._handler(new)]["crashes_max"]:
            raise Broken("crashes are bounded", where)

    def _check_end(self, task_id: bytes, new: Record) -> None:
        where = f"{task_id.hex()} {new}"
        state = State(new[STATE])
        if not new[FINISHED]:
            raise Broken("an end has a time", where)
        if state is State.SUCCEEDED:
            if new[RESULT] is None or int.from_bytes(new[RESULT][1], "big") != new[TOKEN]:
                raise Broken("the result is of the last attempt", where)
        elif state is State.DEAD:
            self._check_death(new, where)
        elif state is State.EXPIRED:
            if not 0 < new[EXPIRES] <= self._late_ms():
                raise Broken("nothing expires before its time", where)
            self._world.hit("expired_waiting" if not new[DELIVERIES] else "expired_after_attempt")

    def _check_death(self, new: Record, where: str) -> None:
        policy = self._plan.policies[self._handler(new)]
        error = new[ERROR]
        if error.startswith("crashed"):
            reason, holds = "crashes", new[CRASHES] >= policy["crashes_max"]
        elif "attempts used up" in error:
            reason, holds = "attempts", new[ATTEMPTS] >= min(self._allowed(new))
        elif error.startswith("deferred"):
            reason, holds = "deferrals", new[DEFERRALS] > policy["deferrals_max"]
        else:
            reason, holds = "fatal", error.startswith("fatal")
        if not holds:
            raise Broken("the dead have a reason", where)
        self._world.hit(f"dead_of_{reason}")

    def _take_removal(self, task_id: bytes, old: Record | None) -> None:
        if old is None:
            return
        if old[STATE] < State.SUCCEEDED:
            raise Broken("only what has ended is removed", f"{task_id.hex()} {old}")
        kept_ms = self._config.retention_ms(State(old[STATE]))
        overdue = old[FINISHED] + kept_ms <= self._late_ms()
        if old[STATE] == State.DEAD:
            self.changes.removed(task_id, overdue=overdue)
        elif not overdue:
            raise Broken("the retention is kept", f"{task_id.hex()} {old}")
        del self.records[task_id]
        self.removed.add(task_id)
        self.tokens_before[task_id] = self.granted.pop(task_id)
        self.deliveries.pop(task_id, None)

    # --- Leases --------------------------------------------------------------------------------

    def _take_lease(self, task_id: bytes, token: int, holder: bytes) -> None:
        record = self.records.get(task_id)
        where = f"{task_id.hex()} token {token:#x}, record {record}"
        if record is None:
            raise Broken("only a task is leased", where)
        if record[STATE] != State.READY:
            raise Broken("only a ready task is leased", where)
        if task_id in self.leases:
            raise Broken("never two leases at once", f"{where}; also {self.leases[task_id]}")
        if token <= self.granted.get(task_id, 0) or token < self.epoch << 32:
            raise Broken("tokens only grow", f"{where}; before {self.granted.get(task_id, 0):#x}")
        if 0 < record[EXPIRES] <= self.flushed_wall_ms:
            raise Broken("no attempt after the expiry", where)
        if cancelled_of(record) is not None:
            raise Broken("what is cancelled is not tried again", where)
        if self.sidecars[holder] in self.orders.drains:
            raise Broken("nothing is granted to who is drained", f"{where}; {self.orders.drains}")
        if self.orders.gates:
            gate = self.orders.holder(self._handler(record), record[COLLECTION])
            if gate is not None:
                raise Broken("what a gate holds is not granted", f"{where}; {gate}")
        self.leases[task_id] = (token, holder)
        self.tasks.changed[task_id] = self.tasks.commit
        self.just_granted.add(task_id)
        self.granted[task_id] = token
        self.deliveries[task_id] = self.deliveries.get(task_id, 0) + 1
        handler = record[HANDLER]
        self.leased[handler] = self.leased.get(handler, 0) + 1
        name = self.names[handler]
        limit = self.orders.policy(name)["concurrency"]
        if limit:
            if self.leased[handler] > limit:
                raise Broken("concurrency is limited", f"{name} {where}")
            if self.leased[handler] == limit:
                changed = "concurrency" in self.orders.overrides.get(name, {})
                self._world.hit("changed_limit_reached" if changed else "concurrency_limit_reached")
        self._attempts.granted(task_id, token)

    # --- Questions -----------------------------------------------------------------------------

    def submitted(self, entry: Entry) -> None:
        """Take note of what an app submits."""
        contents = self.contents.setdefault(entry.id, {})
        contents[content_crc(entry.handler, entry.payload)] = entry

    def unended(self) -> list[bytes]:
        """Return the tasks that have not ended."""
        return [
            task_id for task_id, record in self.records.items() if record[STATE] < State.SUCCEEDED
        ]

    def holds(self, entry: Entry) -> bool:
        """Tell whether a task is in the store as it was submitted, or was and has been removed."""
        record = self.records.get(entry.id)
        if record is None or entry.id in self.removed:
            return entry.id in self.removed
        return bool(record[CRC] == content_crc(entry.handler, entry.payload))
