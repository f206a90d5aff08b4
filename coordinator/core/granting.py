"""Match ready tasks with demand, and make the grants.

Done once per flush, after everything that arrived has been applied: a task that finds a waiting
slot is stored and leased in one commit and never needs a row among the ready.
"""

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Outgoing, Scan
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.queries import Queries
from coordinator.core.ready_queue import ReadyQueue
from coordinator.core.reindexing import Reindexing
from coordinator.core.sessions import Session
from coordinator.core.task import Change, Row, Task
from protocol.limits import BATCH_BYTES_MAX, HELD_LEASES_MAX
from protocol.messages import Grant, GrantedTask, Group, Limit, Priority, Running, State
from protocol.options import FOR_HANDLER

LOAD_ROWS = 16
"""Rows of ready tasks read at once: at most this many times ``layout.ROW_ENTRIES_MAX`` tasks."""
REGATED_MAX = 1_024
"""Tasks that gates take out of the queues of one handler in one flush."""
TASK_OVERHEAD_BYTES = 128
"""What a granted task takes in a message beside its payload, rather too much than too little."""


class Granting:
    """Demand on one side, ready tasks on the other."""

    def __init__(self, ledger: Ledger, queries: Queries, reindexing: Reindexing) -> None:
        self._ledger = ledger
        self._queries = queries
        self._reindexing = reindexing
        self._held_until_ms: int | None = None
        self._held_for: list[bytes] = []
        self._regated = 0
        """Tasks that gates have taken out of the queues of one handler in one flush."""
        self._unmatched: list[Handler] = []
        """Handlers with more of them."""

    # Demand

    def demand(self, session: Session, limits: list[Limit]) -> None:
        """Take a statement of demand; that of a drained sidecar counts as none."""
        if session.drain is not None:
            return
        for name, total in limits:
            handler = session.handlers.get(name)
            if handler is None:
                self._ledger.count("demand_undeclared")
                continue
            had = session.demand(handler) > 0
            session.limits[handler] = total
            if session.demand(handler) > 0:
                if not had:
                    handler.rotation.append(session)
                self._ledger.stirred[handler] = None
            elif had:
                handler.rotation.remove(session)

    def withdraw(self, session: Session) -> None:
        """Forget all demand of a session."""
        for handler in session.handlers.values():
            if session.demand(handler) > 0:
                handler.rotation.remove(session)
        session.limits.clear()

    def running(self, now: Now, session: Session, running: list[Running]) -> None:
        """Note which attempts have begun."""
        for task_id, token, since_ms in running:
            task = self._ledger.leased.get(task_id)
            if task is not None and task.token == token and task.session is session:
                task.running_since_ms = max(task.submitted_ms, now.wall_ms - since_ms)
                self._queries.changed(now, task)

    def ungrant(self, session: Session, handler: Handler) -> None:
        """Note that a granted task was not sent: the session will take another in its place."""
        had = session.demand(handler) > 0
        session.granted[handler] -= 1
        if not had and session.demand(handler) > 0:
            handler.rotation.append(session)
        self._ledger.stirred[handler] = None

    # Grants

    def hold(self, until_ms: int, rows: list[bytes]) -> None:
        """Grant nothing for a while: some tasks may run that nobody is known to hold.

        Args:
            until_ms: When each sidecar that holds one has been told so, or has given it up.
            rows: What says so: damaged rows of leases, or that the store was restored. They stay
                until then, so that a start in between holds anew.
        """
        self._held_until_ms, self._held_for = until_ms, rows
        self._ledger.note("grants_held", rows=len(rows))

    def next_ms(self) -> int | None:
        """Return when grants go on, if they are held."""
        return self._held_until_ms

    def tick(self, now: Now) -> None:
        """Go on with grants that were held."""
        if self._held_until_ms is None or now.ms < self._held_until_ms:
            return
        for key in self._held_for:
            self._ledger.effects.writes[key] = None
        self._held_until_ms, self._held_for = None, []
        self._ledger.note("grants_go_on")
        for handler in self._ledger.handlers.values():
            self._ledger.stirred[handler] = None

    def match(self, now: Now) -> None:
        """Grant whatever can be granted."""
        if self._held_until_ms is not None:
            return
        ledger = self._ledger
        granted: dict[Session, list[tuple[Handler, list[Task]]]] = {}
        for handler in ledger.stirred:
            if handler.rotation:
                self._regated = 0
                self._match(now, handler, granted)
        for session, groups in granted.items():
            self._send(session, groups)
        if ledger.waits.watched:
            for groups in granted.values():
                for _, tasks in groups:
                    for task in tasks:
                        self._queries.changed(now, task)

    def unmatched(self) -> list[Handler]:
        """Return the handlers that were left in the middle, to be stirred for the next flush."""
        handlers, self._unmatched = self._unmatched, []
        return handlers

    def _match(
        self, now: Now, handler: Handler, granted: dict[Session, list[tuple[Handler, list[Task]]]]
    ) -> None:
        rotation = handler.rotation
        # Shares, so that one sidecar does not take all that several ask for.
        share = -(-handler.live // len(rotation))
        full = 0
        while full < len(rotation):
            session = rotation[0]
            room = HELD_LEASES_MAX - session.leases
            if room <= 0:
                full += 1
                rotation.rotate(-1)
                continue
            count = min(share, handler.live, handler.free(), session.demand(handler), room)
            if count <= 0:
                return
            if handler.gates:
                count = min(count, REGATED_MAX - self._regated)
                if count <= 0:
                    self._unmatched.append(handler)
                    return
            full = 0
            tasks = [
                task for task in handler.take(count) if self._lease(now, task, handler, session)
            ]
            if tasks:
                granted.setdefault(session, []).append((handler, tasks))
            if session.demand(handler) > 0:
                rotation.rotate(-1)
            else:
                rotation.popleft()

    def _lease(self, now: Now, task: Task, handler: Handler, session: Session) -> bool:
        """Lease a task that has been taken from its queue, unless it may not begin any more."""
        ledger = self._ledger
        del ledger.waiting[task.id]
        if task.row is not None:
            ledger.release_row(task)
        handler.changed = True
        if handler.gates and self._regate(now, task):
            return False
        if task.expires_ms and task.expires_ms <= now.wall_ms:
            ledger.expire(now, task)
            self._queries.ended(now, task)
            return False
        if task.told is not None and task.told.cancelled is not None:
            # It was leased and its lease is known no more: the row of its grant was damaged.
            ledger.cancel(now, task, task.told.cancelled)
            self._queries.ended(now, task)
            return False
        if task.told is not None:
            task.leave_park()
        task.change(Change.GRANT)
        # Row numbers only grow, and each grant takes one: so do tokens, over restarts, over a
        # restored backup, and over an id that is used again after its task was removed.
        task.token = max(task.token + 1, ledger.latest_row)
        task.deliveries += 1
        task.session = session
        task.granted_ms = now.wall_ms
        figures = handler.figures
        wait_ms = now.wall_ms - task.due_ms
        if wait_ms > 0:
            figures.wait[wait_ms.bit_length()] += 1
            figures.wait_ms += wait_ms
            if wait_ms > handler.policy.start_within_ms > 0:
                figures.late += 1
        else:
            figures.wait[0] += 1  # Or the clock was set back.
        ledger.leased[task.id] = task
        handler.leased += 1
        session.leases += 1
        session.granted[handler] = session.granted.get(handler, 0) + 1
        return True

    def _regate(self, now: Now, task: Task) -> bool:
        """Take a task away if a gate was set on its collection since it became ready."""
        if task.collection is None or task.collection not in task.handler.gates:
            return False
        self._regated += 1
        if self._ledger.make_ready(now, task):
            self._ledger.save(task)
        else:
            self._queries.ended(now, task)
        return True

    def _send(self, session: Session, groups: list[tuple[Handler, list[Task]]]) -> None:
        """Make the grants of one session, each of a size that fits into a message and a row."""
        pending: list[tuple[Handler, list[Task]]] = []
        count = size = 0
        for handler, tasks in groups:
            start = 0
            for i, task in enumerate(tasks):
                task_bytes = task.payload_bytes + TASK_OVERHEAD_BYTES
                if task.options is not None or task.told is not None:
                    task_bytes += _carried_bytes(task)
                full = size + task_bytes > BATCH_BYTES_MAX or count >= layout.ROW_ENTRIES_MAX
                if full and count:
                    if i > start:
                        pending.append((handler, tasks[start:i]))
                    self._grant(session, pending)
                    pending, start, count, size = [], i, 0, 0
                count += 1
                size += task_bytes
            pending.append((handler, tasks[start:]))
        self._grant(session, pending)

    def _grant(self, session: Session, groups: list[tuple[Handler, list[Task]]]) -> None:
        ledger = self._ledger
        leases: list[tuple[bytes, int]] = []
        apart: dict[bytes, int] = {}
        wire = []
        row = Row(layout.grant_key(ledger.next_row()), 0)
        for handler, tasks in groups:
            granted = []
            for task in tasks:
                task.row = row
                leases.append((task.id, task.token))
                if task.payload is None and task.payload_bytes:
                    apart[task.id] = task.content_crc
                granted.append(_granted(task, handler))
            wire.append(Group(handler.name, granted))
        row.left = len(leases)
        ledger.effects.writes[row.key] = layout.join_leases(row.key, session.incarnation, leases)
        session.grant_number += 1
        message = Grant(session.number, session.grant_number, wire)
        ledger.effects.messages.append(Outgoing(session.peer, message, apart))

    # The store's part of a queue

    def read_rows(self) -> None:
        """Read the next rows of queues that run low; those just written may be among them."""
        for handler in self._ledger.stirred:
            if handler.rotation:
                for queue in handler.open_queues:
                    if queue.wants_rows():
                        self._load(handler, queue)

    def _load(self, handler: Handler, queue: ReadyQueue) -> None:
        """Read the next rows of a queue into its window."""
        queue.loading = True
        start, end = queue.range_after(queue.loaded_row)

        def then(_: Now, rows: list[tuple[bytes, bytes]], __: object) -> None:
            if rows:
                self._load_tasks(handler, queue, rows)
            else:
                self._correct(handler, queue)

        self._ledger.ask(Scan(start, end, LOAD_ROWS), then, watch=False)

    def _correct(self, handler: Handler, queue: ReadyQueue) -> None:
        """Correct the count: the store holds no more rows, and would be asked forever.

        What has become ready since it was read is not written yet.
        """
        queue.loading = False
        if self._reindexing.active:
            return  # Some are still to get a row.
        excess = queue.stored - len(queue.overflow)
        if excess:
            self._ledger.note("count_corrected", handler=handler.name, by=excess)
            queue.count -= excess
            self._ledger.touch(handler)

    def _load_tasks(
        self, handler: Handler, queue: ReadyQueue, rows: list[tuple[bytes, bytes]]
    ) -> None:
        split = [(key, self._reindexing.ids(key, value)) for key, value in rows]

        def then(_: Now, found: dict[bytes, bytes], saved: set[bytes]) -> None:
            queue.loading = False
            for key, ids in split:
                self._load_row(handler, queue, (key, ids), found, saved)
                queue.loaded_row = layout.ready_row(key)
            self._ledger.touch(handler)

        keys = [layout.task_key(task_id) for _, ids in split for task_id in ids]
        self._ledger.ask(GetMany(keys), then, watch=True)

    def _load_row(
        self,
        handler: Handler,
        queue: ReadyQueue,
        entry: tuple[bytes, list[bytes]],
        found: dict[bytes, bytes],
        saved: set[bytes],
    ) -> None:
        """Put those tasks of a row into the window that are still ready by their records."""
        ledger = self._ledger
        key, ids = entry
        row: Row | None = None
        loaded: list[Task] = []
        for task_id in ids:
            present = ledger.waiting.get(task_id)
            if present is not None:
                if present.row is not None and present.row.key == key:
                    row = present.row
                continue
            record = found.get(layout.task_key(task_id))
            if record is None or task_id in ledger.leased or task_id in saved:
                continue
            task = ledger.read_record(task_id, record)
            if task is not None and task.state is State.READY and handler.queue_of(task) is queue:
                loaded.append(task)
        if row is None:
            row = Row(key, 0)
            # Written again: since it was read, the last that needed it may have removed it. All of
            # it, since the cursor of a listing counts the entries that were looked at.
            ledger.effects.writes[key] = layout.join_ids(key, ids) if loaded else None
        row.left += len(loaded)
        queue.gone = max(0, queue.gone - (len(ids) - len(loaded)))
        for task in loaded:
            task.row = row
            ledger.waiting[task.id] = task
            queue.put_loaded(task)

    def write_rows(self) -> None:
        """Write rows for tasks that became ready and were not granted."""
        ledger = self._ledger
        writes = ledger.effects.writes
        for handler in ledger.stirred:
            for queue in handler.all_queues:
                if not queue.unwritten and not queue.overflow:
                    continue
                all_in_window = queue.stored == len(queue.overflow)
                for tasks, stays in queue.rows_to_write():
                    number = ledger.next_row()
                    key = queue.row_key(number)
                    writes[key] = layout.join_ids(key, [task.id for task in tasks])
                    if stays:
                        row = Row(key, len(tasks))
                        for task in tasks:
                            task.row = row
                        if all_in_window:
                            queue.loaded_row = number


def _granted(task: Task, handler: Handler) -> GrantedTask:
    """Return a task as its handler gets it; a payload stored apart is put in by the shell."""
    policy = handler.policy
    attempts_max, timeout_ms = policy.attempts_max, policy.timeout_ms
    extras = None
    if task.options is not None:
        attempts_max = task.option("attempts_max", attempts_max)
        timeout_ms = task.option("timeout_ms", timeout_ms)
        extras = _extras(task)
    elif task.collection is not None or task.priority != Priority.NORMAL or task.deliveries > 1:
        extras = _extras(task)
    return GrantedTask(
        task.id,
        task.token,
        task.attempts + 1,
        attempts_max,
        task.deliveries,
        timeout_ms,
        task.submitted_ms,
        task.due_ms,
        task.content_type,
        b"" if task.payload is None else task.payload,
        extras,
    )


def _extras(task: Task) -> dict[str, object] | None:
    extras: dict[str, object] = {}
    if task.collection is not None:
        extras["collection"] = task.collection
    if task.priority != Priority.NORMAL:
        extras["priority"] = int(task.priority)
    if task.history and task.history[-1].error_type:
        extras["last_error"] = task.history[-1].error_type
    if task.told is not None and task.told.checkpoint is not None:
        extras["checkpoint"] = task.told.checkpoint
    if task.options is not None:
        for name in FOR_HANDLER:
            if name in task.options:
                extras[name] = task.options[name]
    return extras or None


def _carried_bytes(task: Task) -> int:
    """Return about how many bytes a granted task carries beside its payload."""
    size = 0
    for name in FOR_HANDLER:
        value = (task.options or {}).get(name, "")
        texts = value.items() if type(value) is dict else ((name, value),)
        size += sum([len(key) + 4 * len(text) for key, text in texts])
    if task.told is not None and task.told.checkpoint is not None:
        size += len(task.told.checkpoint)
    return size
