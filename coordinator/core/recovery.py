"""Bring the shard's memory back from the store at the start.

Only what is hot is read: handlers with their counts, sessions, leases. Waiting tasks stay in the
store until somebody asks for them, so that a start with millions of them takes no longer.

What is damaged stops no start. A handler has its name from the second copy, its counts from a walk
over all records, and its policy from the next sidecar that declares it. For leases whose grant is
damaged see ``Granting.hold``: their tasks are found by the same walk.
"""

from collections.abc import Callable
from typing import Any

from coordinator.core import bulk, layout, records
from coordinator.core.draining import drain_of, row_of
from coordinator.core.dropping import Dropping
from coordinator.core.effects import GetMany, Now, Scan
from coordinator.core.gates import Scope
from coordinator.core.gating import gate_of
from coordinator.core.granting import Granting
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.overriding import overrides_of
from coordinator.core.parks import Park
from coordinator.core.reindexing import Reindexing
from coordinator.core.sessions import Session, margin_ms
from coordinator.core.task import Change, Row
from protocol.messages import State
from protocol.policy import Policy

PAGE = 512
Take = Callable[[Now, list[tuple[bytes, bytes]]], None]


class Recovery:
    """The start of a shard: handlers, then sessions, then leases."""

    def __init__(
        self, ledger: Ledger, reindexing: Reindexing, granting: Granting, dropping: Dropping
    ) -> None:
        self._ledger = ledger
        self._reindexing = reindexing
        self._granting = granting
        self._dropping = dropping
        self._lacks_dead = False
        """Whether there are dead letters and no rows of them."""
        self.done = False
        self._names: dict[int, str] = {}
        self._damaged_grants: list[bytes] = []
        self._recount = False

    def begin(self) -> None:
        """Ask for the first page; the rest follows by itself until ``done``."""
        self._ledger.timers.begin_recovery()
        self._scan(b"o", self._take_gates, self._drains)

    def _drains(self) -> None:
        self._scan(b"q", self._take_drains, self._handler_names)

    def _handler_names(self) -> None:
        self._scan(b"m", self._take_names, self._handlers)

    def _handlers(self) -> None:
        self._scan(b"h", self._take_handlers, self._nameless)

    def _nameless(self) -> None:
        """Bring back the handlers whose own row is damaged or gone; see to both copies of names."""
        ledger = self._ledger
        for number, name in self._names.items():
            if number not in ledger.handlers_by_number:
                self._recount = True
                ledger.add_handler(Handler(number, name))
        for number, handler in ledger.handlers_by_number.items():
            if number not in self._names:
                ledger.write_name(handler)
        self._overrides()

    def _overrides(self) -> None:
        self._scan(b"v", self._take_overrides, self._parks)

    def _parks(self) -> None:
        self._scan(b"k", self._take_parks, self._bulks)

    def _bulks(self) -> None:
        self._scan(b"b", self._take_bulks, self._sessions)

    def _sessions(self) -> None:
        self._scan(b"n", self._take_sessions, self._leases)

    def _leases(self) -> None:
        self._scan(b"g", self._take_grants, self._finish)

    def _finish(self) -> None:
        # The last page of grants has asked for its records; they come before these answers.
        self._ledger.ask(
            Scan(*layout.range_of(b"a"), 1, reverse=True), self._take_audit, watch=False
        )
        self._ledger.ask(Scan(*layout.range_of(b"d"), 1), self._take_dead, watch=False)
        self._ledger.ask(GetMany([layout.REINDEX_KEY, layout.RESTORED_KEY]), self._see, watch=False)

    def _take_audit(self, _: Now, rows: list[tuple[bytes, bytes]], __: Any) -> None:
        for key, _value in rows:
            self._ledger.audit.latest = layout.number_of(key)

    def _take_dead(self, _: Now, rows: list[tuple[bytes, bytes]], __: Any) -> None:
        dead = any(handler.dead for handler in self._ledger.handlers.values())
        self._lacks_dead = dead and not rows

    def _take_bulks(self, now: Now, rows: list[tuple[bytes, bytes]]) -> None:
        """Take changes of many tasks; those that were under way go on."""
        for key, value in rows:
            change = bulk.decode(key, value, now)
            self._ledger.bulks[change.number] = change
            if change.state == bulk.RUNNING:
                change.resumed += 1
                self._ledger.effects.writes[key] = bulk.encode(change)[1]
                self._ledger.note("operation_resumed", number=change.number, done=change.changed)

    def _see(self, now: Now, found: dict[bytes, bytes], _: Any) -> None:
        """Make up for what is damaged, or was when the process before this one ended."""
        holding = [*self._damaged_grants]
        if layout.RESTORED_KEY in found:  # Sidecars may hold what was leased after the backup.
            holding.append(layout.RESTORED_KEY)
        if holding:
            timeout_ms = max(
                self._ledger.config.session_timeout_ms, self._ledger.sessions.timeout_ms_max
            )
            until_ms = now.ms + timeout_ms + margin_ms(timeout_ms)
            self._granting.hold(until_ms, holding)
        if self._damaged_grants or self._recount:
            self._reindexing.recount(self._done)
            return
        if layout.REINDEX_KEY in found or self._lacks_dead:
            self._reindexing.begin()
        self._done(now)

    def _done(self, _: Now) -> None:
        self.done = True
        for gate in self._ledger.gates.by_scope.values():
            if gate.drops:
                self._dropping.begin(gate)
        for handler in self._ledger.handlers.values():
            if handler.parks:
                self._ledger.touch(handler)  # One may have been about to be cleared away.
        self._ledger.note(
            "recovered",
            handlers=len(self._ledger.handlers),
            sessions=len(self._ledger.sessions),
            leases=len(self._ledger.leased),
            ready=sum(handler.ready for handler in self._ledger.handlers.values()),
            scheduled=sum(handler.scheduled for handler in self._ledger.handlers.values()),
        )

    def _scan(self, letter: bytes, take: Take, following: Callable[[], None]) -> None:
        start, end = layout.range_of(letter)

        def then(now: Now, rows: list[tuple[bytes, bytes]], _: Any) -> None:
            take(now, rows)
            if len(rows) == PAGE:
                self._ledger.ask(Scan(layout.after(rows[-1][0]), end, PAGE), then, watch=False)
            else:
                following()

        self._ledger.ask(Scan(start, end, PAGE), then, watch=False)

    def _take_names(self, _: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            number = layout.handler_of(key)
            self._ledger.handlers_made = max(self._ledger.handlers_made, number)
            try:
                [self._names[number]] = records.decode_list(key, value)
            except layout.Damaged as error:
                self._alarm("name of handler", number, error)

    def _take_handlers(self, _: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            number = layout.handler_of(key)
            self._ledger.handlers_made = max(self._ledger.handlers_made, number)
            try:
                name, changes, counts = records.decode_list(key, value)
            except layout.Damaged as error:
                self._alarm("handler", number, error)
                continue
            handler = Handler(number, name)
            handler.declare(Policy().with_changes(changes))
            handler.restore(counts)
            self._ledger.add_handler(handler)

    def _take_gates(self, _: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            fields = None
            try:
                fields = records.decode_list(key, value)
            except layout.Damaged as error:
                self._alarm("gate", str(Scope(*layout.scope_of(key))), error)
            self._ledger.gates.put(gate_of(key, fields))

    def _take_drains(self, _: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            try:
                drain = drain_of(key, records.decode_list(key, value))
            except layout.Damaged as error:
                drain = drain_of(key, None)
                self._alarm("drain", drain.sidecar, error)
                self._ledger.effects.writes.update([row_of(drain)])
            self._ledger.drains[drain.sidecar] = drain

    def _take_overrides(self, _: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            handler = self._ledger.handlers_by_number.get(layout.handler_of(key))
            try:
                fields = records.decode_list(key, value)
            except layout.Damaged as error:
                self._alarm("changes of a policy", layout.handler_of(key), error)
                continue
            if handler is not None:
                handler.overrides = overrides_of(fields)
                handler.declare(handler.declared)

    def _take_parks(self, _: Now, rows: list[tuple[bytes, bytes]]) -> None:
        """Take the parks; the tasks of one that is damaged get rows in their handler's queues."""
        for key, value in rows:
            number = layout.number_of(key)
            try:
                owner, collection, counts = records.decode_list(key, value)
            except layout.Damaged as error:
                self._alarm("park", number, error)
                self._ledger.effects.writes[key] = None
                self._recount = True
                continue
            handler = self._ledger.handlers_by_number[owner]
            park = handler.parks[number] = Park(number, owner, collection)
            park.restore(counts)
            park.written = counts
            handler.reopen()

    def _take_sessions(self, now: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            try:
                fields = records.decode_list(key, value)
            except layout.Damaged as error:
                self._alarm("session", key[1:].hex(), error)
                self._add_unknown_session(now, key[1:])
            else:
                self._add_session(now, key[1:], *fields)

    def _add_unknown_session(self, now: Now, incarnation: bytes) -> Session:
        """Keep a session alive of which nothing but its leases is known."""
        timeout_ms = self._ledger.config.session_timeout_ms
        return self._add_session(now, incarnation, "unknown", "", timeout_ms)

    def _add_session(
        self, now: Now, incarnation: bytes, sidecar: str, service: str, timeout_ms: int
    ) -> Session:
        """Keep a session alive for one full timeout, whatever was left of it."""
        session = Session(incarnation, sidecar, service, timeout_ms)
        session.drain = self._ledger.drains.get(sidecar)
        session.renew(now.ms)
        self._ledger.sessions.add(session)
        return session

    def _alarm(self, kind: str, which: object, error: layout.Damaged) -> None:
        self._ledger.count("record_corrupt")
        self._ledger.note("record_corrupt", kind=kind, which=which, detail=str(error))

    def _take_grants(self, now: Now, rows: list[tuple[bytes, bytes]]) -> None:
        if not rows:
            return
        grants = []
        for key, value in rows:
            try:
                grants.append((key, *layout.split_leases(key, value)))
            except layout.Damaged as error:
                self._reindexing.alarm(key, error)
                self._damaged_grants.append(key)

        def then(now: Now, found: dict[bytes, bytes], _: Any) -> None:
            for key, holder, leases in grants:
                self._take_leases(now, key, holder, leases, found)

        keys = [layout.task_key(task_id) for _, _, leases in grants for task_id, _ in leases]
        self._ledger.ask(GetMany(keys), then, watch=False)

    def _take_leases(
        self,
        now: Now,
        key: bytes,
        holder: bytes,
        leases: list[tuple[bytes, int]],
        found: dict[bytes, bytes],
    ) -> None:
        """Take those leases of a grant that have not been settled: the record would tell."""
        ledger = self._ledger
        row = Row(key, 0)
        for task_id, token in leases:
            record = found.get(layout.task_key(task_id))
            task = None if record is None else ledger.read_record(task_id, record)
            if task is None or task.state is not State.READY or task.token >= token:
                continue
            session = ledger.sessions.of_incarnation(holder)
            if session is None:
                session = self._add_unknown_session(now, holder)
            task.leave_park()
            task.change(Change.GRANT)
            task.token = token
            task.deliveries += 1
            task.granted_ms = now.wall_ms
            task.session = session
            task.row = row
            row.left += 1
            ledger.leased[task_id] = task
            task.handler.leased += 1
            session.leases += 1
        if row.left == 0:
            ledger.effects.writes[key] = None
