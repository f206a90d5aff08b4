"""What the shard knows in memory, and the changes of one task that every duty makes through it.

The duties around it (submissions, granting, outcomes, queries, retention) decide *when* something
happens to a task; the ledger keeps memory, index rows and record consistent when it does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordinator.core import fingerprints, layout, records
from coordinator.core.audit import AuditLog
from coordinator.core.config import Config
from coordinator.core.effects import Ask, Effects, Note, Now, Outgoing, Read
from coordinator.core.gates import Gate, Gates
from coordinator.core.handler import Handler
from coordinator.core.parks import Park
from coordinator.core.sessions import Sessions
from coordinator.core.task import Change, Row, Task
from coordinator.core.timers import Timers
from coordinator.core.waits import Waits
from protocol import limits
from protocol.messages import Message, State

if TYPE_CHECKING:
    from coordinator.core.bulk import Bulk
    from coordinator.core.drains import Drain
    from coordinator.core.operations import By

LIVE_MAX = 65_536
"""Ready tasks in memory over all queues; beyond it, only queues with demand bring tasks in."""
ROW_BITS = 40
"""Row numbers of one epoch: enough for years at ten thousand a second. They only grow over
restarts as long as no epoch uses up its own."""

Then = Callable[[Now, Any, set[bytes]], None]
"""What to do with the result of a read; the set names tasks saved since the read was asked for,
and grows with those that are saved meanwhile."""
_NOTHING: set[bytes] = set()


class Ledger:
    """Memory of one shard.

    Invariants: a task in memory is in exactly one of ``waiting`` and ``leased``; a lease is in
    ``leased`` from the step that made it to the step that ended it, and its grant row is in the
    store from the commit before the grant was sent.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.effects = Effects()
        self.handlers: dict[str, Handler] = {}
        self.handlers_by_number: dict[int, Handler] = {}
        self.handlers_made = 0
        """The largest number that a handler has had."""
        self.gates = Gates()
        self.audit = AuditLog()
        self.bulks: dict[int, Bulk] = {}
        """Changes of many tasks, under way and the latest that have ended, by number."""
        self.sessions = Sessions()
        self.drains: dict[str, Drain] = {}
        """Drains of sidecars, by their name; ``Session.drain`` is the one that concerns it."""
        self.timers = Timers()
        self.waits = Waits()
        self.waiting: dict[bytes, Task] = {}
        """Ready tasks in the windows of their queues."""
        self.leased: dict[bytes, Task] = {}
        self.stirred: dict[Handler, None] = {}
        """Handlers whose queues, demand or leases changed since the last flush; in order."""
        self.ended: dict[int, list[bytes]] = {}
        """Tasks that ended since the last flush, by the time at which they are removed."""
        self.counts: dict[str, int] = {}
        """How often each thing happened since the start: error codes, outcomes, events."""
        self._row = config.epoch << ROW_BITS
        self._asked = 0
        self._then: dict[int, Then] = {}
        self._saved_since: dict[int, set[bytes]] = {}

    # Effects

    def send(self, peer: bytes, message: Message) -> None:
        """Send a message once everything applied so far is durable."""
        self.effects.messages.append(Outgoing(peer, message))

    def record(self, now: Now, by: "By", action: str, target: str, details: dict[str, Any]) -> None:
        """Write into the audit, with the next commit, what somebody has done to what."""
        fields = (now.wall_ms, by.owner, action, target, by.reason)
        self.audit.add(self.effects.writes, fields, details)

    def note(self, event: str, **fields: Any) -> None:
        """Tell operators of something rare."""
        self.effects.notes.append(Note(event, fields))

    def tell(self, event: str, **fields: Any) -> None:
        """Tell those who watch of something that may happen to many tasks."""
        self.effects.events.append(Note(event, fields))

    def count(self, name: str, times: int = 1) -> None:
        """Count something."""
        self.counts[name] = self.counts.get(name, 0) + times

    @property
    def latest_row(self) -> int:
        """The largest number that an index row of the store has had."""
        return self._row

    def next_row(self) -> int:
        """Return a number that no index row of the store has had."""
        self._row += 1
        return self._row

    def ask(self, read: Read, then: Then, *, watch: bool) -> None:
        """Read from the store, after everything applied so far; call ``then`` with the result.

        Args:
            read: What to read.
            then: Called in a later step.
            watch: Whether ``then`` needs to know which tasks were saved in between, because it
                takes the records that were read for the truth.
        """
        self._asked += 1
        self._then[self._asked] = then
        if watch:
            self._saved_since[self._asked] = set()
        self.effects.reads.append(Ask(self._asked, read))

    def answer(self, now: Now, number: int, result: Any) -> None:
        """Hand over the result of a read.

        Also what ``then`` itself saves counts as saved since: a result may name a task twice.
        """
        then = self._then.pop(number)
        then(now, result, self._saved_since.get(number, _NOTHING))
        self._saved_since.pop(number, None)

    # Handlers

    def handler(self, name: str) -> Handler | None:
        """Return the handler of a name, made if it is new; None if there are too many."""
        handler = self.handlers.get(name)
        if handler is None:
            if len(self.handlers) >= limits.HANDLERS_MAX:
                return None
            self.handlers_made += 1
            handler = Handler(self.handlers_made, name)
            self.add_handler(handler)
            self.touch(handler)
            self.write_name(handler)
            self.note("handler_created", handler=name)
        return handler

    def add_handler(self, handler: Handler) -> None:
        """Take a handler."""
        self.handlers[handler.name] = handler
        self.handlers_by_number[handler.number] = handler
        self.gates.apply(handler)
        self.handlers_made = max(self.handlers_made, handler.number)

    def write_name(self, handler: Handler) -> None:
        """Write the second copy of a handler's name, with the next commit."""
        key = layout.name_key(handler.number)
        self.effects.writes[key] = records.encode_list(key, [handler.name])

    def touch(self, handler: Handler) -> None:
        """Note that a handler's stored counts or policy change with the next commit."""
        handler.changed = True
        self.stirred[handler] = None

    # Tasks

    def peek(self, task_id: bytes, record: bytes) -> Task | None:
        """Return the task in a record, for those who only look; None if the record is damaged."""
        try:
            return records.decode(task_id, record, self.handlers_by_number.__getitem__)
        except layout.Damaged:
            return None

    def read_record(self, task_id: bytes, record: bytes) -> Task | None:
        """Return the task in a record, or None after an alarm if the record is corrupt."""
        try:
            return records.decode(task_id, record, self.handlers_by_number.__getitem__)
        except layout.Damaged as error:
            self.count("record_corrupt")
            self.note("record_corrupt", task_id=task_id.hex(), detail=str(error))
            return None

    def save(self, task: Task) -> None:
        """Write the task's record with the next commit."""
        self._write(task, records.encode(task))

    def save_leased(self, task: Task) -> None:
        """Write the record of a task that is leased and stays so."""
        self._write(task, records.encode_before_lease(task))

    def _write(self, task: Task, record: bytes) -> None:
        self.effects.writes[b"t" + task.id] = record
        if self._saved_since:
            for saved in self._saved_since.values():
                saved.add(task.id)

    def make_ready(self, now: Now, task: Task, *, front: bool = False) -> bool:
        """Put a task that is READY into its queue, or where the gates on it want it.

        Returns:
            False if it has ended: a gate drops it. Otherwise its record is to be saved.
        """
        handler = task.handler
        queue = handler.queues[task.priority]
        task.row = None
        if handler.gates:
            gate = handler.gate_on(task.collection)
            if gate is not None and gate.drops:
                self.drop(now, task, gate)
                return False
            if task.collection is not None and task.collection in handler.gates:
                self._park(task, task.collection)
                return True
        if front:
            queue.put_back(task)
            self.waiting[task.id] = task
        elif queue.put(task, room=len(self.waiting) < LIVE_MAX or bool(handler.rotation)):
            self.waiting[task.id] = task
        self.touch(handler)
        return True

    def _park(self, task: Task, collection: str) -> None:
        """Put a task aside, with those of its collection."""
        handler = task.handler
        park = handler.park_of(collection)
        if park is None:
            park = Park(self.next_row(), handler.number, collection)
            handler.parks[park.number] = park
            handler.reopen()
        park.ending = 0
        task.tell().park = park.number
        park.queues[task.priority].put(task, room=False)
        self.touch(handler)

    def schedule(self, task: Task) -> None:
        """Set the timer of a task that is SCHEDULED."""
        task.row = None
        self.timers.add(task.due_ms, layout.TIMER_DUE, task.id)
        task.handler.scheduled += 1
        self.touch(task.handler)

    def guard_expiry(self, task: Task) -> None:
        """Set the timer of a task that may expire while it waits.

        Set again when a lease ends: it may have rung during the lease, before the clock was set
        back to a time at which the task has not expired.
        """
        if task.expires_ms:
            self.timers.add(task.expires_ms, layout.TIMER_EXPIRE, task.id)

    def leave_queue(self, task: Task) -> None:
        """Take a READY or SCHEDULED task out of what waits, by another way than a grant."""
        if task.state is State.SCHEDULED:
            task.handler.scheduled -= 1
        elif self.waiting.pop(task.id, None) is not None:
            task.handler.queue_of(task).left()
        else:
            task.handler.queue_of(task).left_store()
        self.release_row(task)
        self.touch(task.handler)

    def release_row(self, task: Task) -> None:
        """Leave the index row that stands for the task; the last to leave removes it."""
        row = task.row
        if row is not None:
            task.row = None
            self.release(row)

    def release(self, row: Row) -> None:
        """Note that one task needs a row no more."""
        row.left -= 1
        if row.left == 0:
            self.effects.writes[row.key] = None

    def end_lease(self, task: Task) -> None:
        """Take a task out of the leases."""
        del self.leased[task.id]
        self.release_row(task)
        handler = task.handler
        handler.leased -= 1
        if task.session is not None:
            task.session.leases -= 1
            task.session = None
        task.running_since_ms = 0
        self.stirred[handler] = None

    def finish(self, now: Now, task: Task) -> None:
        """Record that a task has ended; its state is terminal already."""
        task.finished_ms = now.wall_ms
        if task.told is not None:
            task.told = None
        if task.state is State.SUCCEEDED and task.payload_bytes:
            if task.payload is None:
                self.effects.writes[layout.payload_key(task.id)] = None
            task.payload = None
            task.payload_bytes = 0
        if task.state is State.DEAD:
            task.handler.dead += 1
            self.touch(task.handler)
            self.write_dead(task)
        figures = task.handler.figures
        figures.finished[task.state] += 1
        total_ms = now.wall_ms - task.submitted_ms
        if total_ms > 0:
            figures.total[total_ms.bit_length()] += 1
            figures.total_ms += total_ms
        else:
            figures.total[0] += 1
        self.save(task)
        remove_ms = now.wall_ms + self.config.retention_ms(task.state)
        ended = self.ended.get(remove_ms)
        if ended is None:
            self.ended[remove_ms] = [task.id]
        else:
            ended.append(task.id)

    def write_dead(self, task: Task) -> None:
        """Write the index row of a dead letter."""
        key = layout.dead_key(task.handler.number, task.finished_ms, task.id)
        fields = [fingerprints.error_type_of(task), fingerprints.pattern_of(task)]
        self.effects.writes[key] = records.encode_list(key, fields)

    def leave_dead(self, task: Task) -> None:
        """Take a task out of the dead letters."""
        key = layout.dead_key(task.handler.number, task.finished_ms, task.id)
        self.effects.writes[key] = None
        task.handler.dead -= 1
        self.touch(task.handler)

    def remove(self, task: Task) -> None:
        """Remove all that is kept of a task that has ended."""
        self.effects.writes[layout.task_key(task.id)] = None
        if task.payload_apart:
            self.effects.writes[layout.payload_key(task.id)] = None
        if task.state is State.DEAD:
            self.leave_dead(task)
        for saved in self._saved_since.values():
            saved.add(task.id)

    def expire(self, now: Now, task: Task) -> None:
        """End a task that waits and may not begin any more."""
        task.change(Change.EXPIRE)
        task.error = "expired before an attempt began"
        self.count("expired")
        self.finish(now, task)

    def cancel(self, now: Now, task: Task, reason: str) -> None:
        """End a task that nobody wants any more; it has left its queue, or its lease has ended."""
        task.change(Change.CANCEL)
        task.error = f"cancelled: {reason}" if reason else "cancelled"
        self.count("cancelled")
        self.finish(now, task)

    def drop(self, now: Now, task: Task, gate: Gate) -> None:
        """End a task that is READY and in no queue, because a gate says so."""
        task.change(Change.DROP)
        task.error = f"dropped: {gate.describe()}"[: limits.ERROR_MESSAGE_CHARS_MAX]
        gate.dropped += 1
        gate.changed = True
        self.touch(task.handler)
        self.count("dropped")
        self.finish(now, task)
