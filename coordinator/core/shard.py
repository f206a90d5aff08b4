"""The shard: one deterministic machine that accepts, schedules, leases and settles tasks.

``step`` applies one event to memory; ``flush`` returns what everything applied since the last
flush asks for. The shell carries it out in order: commit, read, send (``core.effects``). There is
no I/O, no clock and no randomness in here, so that the server, the tests and the simulator run
the same code, and one sequence of events has one result.
"""

from dataclasses import dataclass
from typing import Any

from coordinator.core import layout, records
from coordinator.core.bulk_changes import BulkChanges
from coordinator.core.calendar import Calendar
from coordinator.core.cancelling import Cancelling
from coordinator.core.changing import Changing
from coordinator.core.config import Config
from coordinator.core.draining import Draining
from coordinator.core.dropping import Dropping
from coordinator.core.effects import Effects, Now, Outgoing
from coordinator.core.gating import Gating
from coordinator.core.granting import Granting
from coordinator.core.greeting import Greeting
from coordinator.core.ledger import Ledger
from coordinator.core.operations import (
    AtOnce,
    ChangeTask,
    Done,
    DrainSidecar,
    LiftGate,
    MendRow,
    Operation,
    Refusal,
    RevertPolicy,
    SetGate,
    SetPolicy,
    StartBulk,
    StopBulk,
    UndrainSidecar,
)
from coordinator.core.outcomes import Settlement
from coordinator.core.overriding import Overriding
from coordinator.core.payloads import Spoiled
from coordinator.core.progressing import Progressing
from coordinator.core.queries import Queries
from coordinator.core.recovery import Recovery
from coordinator.core.reindexing import Reindexing
from coordinator.core.sessions import Session
from coordinator.core.submissions import Submissions
from coordinator.core.sweeping import Sweeping
from protocol import messages as m
from protocol.errors import Code
from protocol.messages import Grant, Message


@dataclass(frozen=True, slots=True)
class Received:
    """A message came from a connection."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Broke:
    """A connection sent something that breaks the protocol."""

    peer: bytes
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A read was performed."""

    number: int
    result: Any


@dataclass(frozen=True, slots=True)
class Sent:
    """Effects were committed and sent."""

    effects: Effects


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message could not be handed over: its connection has gone, or takes no more."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class NotFilled:
    """Tasks were left out of a grant: their payload is not in the store as it was submitted."""

    session: int
    """The session number of the grant."""
    spoiled: list[Spoiled]


@dataclass(frozen=True, slots=True)
class StoreLevel:
    """The store has been measured; ``refusal`` tells why nothing may be accepted, or is empty."""

    refusal: str


@dataclass(frozen=True, slots=True)
class Operated:
    """An operator asks for something; the effects that make it durable have the result."""

    number: int
    """Whatever the result shall be named by."""
    operation: Operation


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Received | Broke | Answered | Sent | Undelivered | NotFilled | StoreLevel | Operated | Tick


class Shard:
    """The facade of the core.

    Args:
        config: What is fixed for this ownership of the store.
    """

    def __init__(self, config: Config) -> None:
        self._ledger = ledger = Ledger(config)
        self._queries = Queries(ledger)
        self._submissions = Submissions(ledger)
        self._reindexing = Reindexing(ledger)
        self._granting = Granting(ledger, self._queries, self._reindexing)
        self._settlement = Settlement(ledger, self._queries)
        self._cancelling = Cancelling(ledger, self._queries)
        self._progressing = Progressing(ledger, self._queries)
        self._draining = Draining(ledger, self._granting)
        self._greeting = Greeting(
            ledger, self._granting, self._settlement, self._cancelling, self._draining
        )
        self._sweeping = Sweeping(ledger, self._reindexing)
        self._dropping = Dropping(ledger, self._queries, self._reindexing)
        self._gating = Gating(ledger, self._dropping)
        self._overriding = Overriding(ledger)
        self._changing = Changing(ledger, self._queries, self._cancelling)
        self._bulk_changes = BulkChanges(ledger, self._changing, self._reindexing)
        self._calendar = Calendar(ledger, self._queries, self._reindexing)
        self._recovery = Recovery(ledger, self._reindexing, self._granting, self._dropping)
        self._recovery.begin()

    @property
    def recovered(self) -> bool:
        """Whether memory is complete; before that only ``Answered`` and ``Sent`` may be stepped."""
        return self._recovery.done

    @property
    def counts(self) -> dict[str, int]:
        """How often each thing happened since the start."""
        return self._ledger.counts

    @property
    def ledger(self) -> Ledger:
        """Memory, for ``core.overview`` and others that look and change nothing."""
        return self._ledger

    def next_due_ms(self, now: Now) -> int | None:
        """Return after how many milliseconds a ``Tick`` is due, or None when nothing is pending."""
        elapsed = [
            time
            for time in (
                self._ledger.sessions.next_ms(),
                self._ledger.waits.next_ms(),
                self._granting.next_ms(),
                self._bulk_changes.next_ms(),
            )
            if time is not None
        ]
        due = [time - now.ms for time in elapsed]
        wall = (self._calendar.next_ms(), self._ledger.gates.next_ms())
        due += [time - now.wall_ms for time in wall if time is not None]
        return max(0, min(due)) if due else None

    def step(self, now: Now, event: Event) -> Outgoing | None:
        """Apply one event; return what may leave at once: it depends on nothing stored."""
        match event:
            case Received(peer, message):
                return self._received(now, peer, message)
            case Answered(number, result):
                self._ledger.answer(now, number, result)
            case Sent(effects):
                self._sent(effects)
            case Undelivered(outgoing):
                self._undelivered(now, outgoing)
            case NotFilled(session, spoiled):
                self._spoil(now, session, spoiled)
            case Tick():
                self._tick(now)
            case Broke(peer, code, detail):
                self._ledger.count(code)
                return Outgoing(peer, m.Refused(code, detail, 0))
            case Operated(number, operation):
                self._operated(now, number, operation)
            case StoreLevel(refusal):
                self._submissions.refuse_all = refusal
        return None

    def flush(self, now: Now) -> Effects:
        """Match, and return everything that has to be done since the last flush."""
        ledger = self._ledger
        if self.recovered:
            self._bulk_changes.go_on(now)
            self._granting.match(now)
            self._granting.write_rows()
            self._granting.read_rows()
            self._sweeping.sweep()
            self._dropping.sweep(now)
            self._gating.write()
            self._calendar.write()
            self._cancelling.flush()
            self._queries.flush()
            for handler in ledger.stirred:
                if handler.changed:
                    handler.changed = False
                    key = layout.handler_key(handler.number)
                    ledger.effects.writes[key] = records.encode_list(
                        key, [handler.name, handler.declared.changes(), handler.counts()]
                    )
            ledger.stirred.clear()
            for handler in self._granting.unmatched():
                ledger.stirred[handler] = None
        elif self._reindexing.active:
            self._calendar.write()
        effects, ledger.effects = ledger.effects, Effects()
        return effects

    def _received(self, now: Now, peer: bytes, message: Message) -> Outgoing | None:
        ledger = self._ledger
        if type(message) is m.Hello:
            self._greeting.hello(now, peer, message)
            return None
        session = ledger.sessions.of_peer(peer)
        if session is None:
            ledger.count(Code.UNKNOWN_SESSION)
            return Outgoing(peer, m.Refused(Code.UNKNOWN_SESSION, "send HELLO first", 0))
        session.used = session.number  # Only who has taken the WELCOME says anything but HELLO.
        if type(message) is m.Heartbeat:
            return self._greeting.heartbeat(now, session, message)
        return self._in_session(now, session, message)

    def _in_session(self, now: Now, session: Session, message: Message) -> Outgoing | None:
        match message:
            case m.Outcomes():
                self._settlement.take(now, session, message)
            case m.Submit(batches):
                self._submissions.submit(now, session.peer, batches)
            case m.Demand(limits):
                self._granting.demand(session, limits)
            case m.Query(questions):
                self._queries.ask(now, session, questions)
            case m.Progress(updates):
                self._progressing.take(now, session, updates)
            case m.Cancel(requests):
                self._cancelling.take(now, session, requests)
            case m.Handlers(declarations):
                self._greeting.declare(session.peer, session, declarations)
            case m.Goodbye(reason):
                self._greeting.goodbye(now, session, reason)
            case _:
                self._ledger.count(Code.UNKNOWN_MESSAGE)
                detail = f"{type(message).__name__} is not for a coordinator"
                return Outgoing(session.peer, m.Refused(Code.UNKNOWN_MESSAGE, detail, 0))
        return None

    def _operated(self, now: Now, number: int, operation: Operation) -> None:
        answer: Done | Refusal = Done()
        match operation:
            case ChangeTask():
                self._changing.one(number, operation)  # Answered when its record was read.
                return
            case StartBulk():
                answer = self._bulk_changes.start(now, operation)
            case StopBulk():
                answer = self._bulk_changes.stop(now, operation)
            case MendRow(key):
                self._reindexing.mend(key)
            case _:
                answer = self._operate(now, operation)
        self._ledger.effects.results.append((number, answer))

    def _operate(self, now: Now, operation: AtOnce) -> Done | Refusal:
        match operation:
            case SetGate():
                return self._gating.set(now, operation)
            case LiftGate():
                return self._gating.lift(now, operation)
            case SetPolicy():
                return self._overriding.set(now, operation)
            case RevertPolicy():
                return self._overriding.revert(now, operation)
            case DrainSidecar():
                return self._draining.set(now, operation)
            case UndrainSidecar():
                return self._draining.lift(now, operation)

    def _sent(self, effects: Effects) -> None:
        for peer, message, _ in effects.messages:
            if type(message) is Grant:
                session = self._ledger.sessions.of_peer(peer)
                if session is not None and session.number == message.session:
                    session.grant_sent = message.number

    def _spoil(self, now: Now, session: int, spoiled: list[Spoiled]) -> None:
        for task_id, token, error_type in spoiled:
            task = self._ledger.leased.get(task_id)
            if task is not None and task.token == token:
                if task.session is not None and task.session.number == session:
                    self._granting.ungrant(task.session, task.handler)
                self._settlement.spoil(now, task, error_type)

    def _undelivered(self, now: Now, outgoing: Outgoing) -> None:
        """Cut off a connection that does not take its messages, and take back an unsent grant.

        A sidecar waits for each answer until its next session: so it is made to greet again, by
        refusing what comes over that connection. Its demand is void until then, or the next grant
        would take the same way. Nobody can have begun what a grant names that never left.
        """
        ledger = self._ledger
        ledger.count("undelivered")
        message = outgoing.message
        session = ledger.sessions.of_peer(outgoing.peer)
        if session is not None:
            self._granting.withdraw(session)
            ledger.sessions.disconnect(session)
        if type(message) is not Grant:
            return
        for _, tasks in message.groups:
            for granted in tasks:
                task = ledger.leased.get(granted.id)
                if task is not None and task.token == granted.token:
                    self._settlement.give_back(now, task)

    def _tick(self, now: Now) -> None:
        self._greeting.expire(now)
        self._granting.tick(now)
        self._queries.overdue(now)
        self._calendar.tick(now)
        self._gating.tick(now)
