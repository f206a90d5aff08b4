"""A sidecar as the model sees it: it keeps the rules of the protocol on a network that does not.

What it sends waits in its outbox and what it is sent in its inbox, until the test moves it on, or
loses it. It believes in its leases until its own deadline, as a real sidecar does.
"""

from collections import deque
from collections.abc import Callable

from coordinator.core.sessions import margin_ms
from protocol.messages import (
    Answer,
    Beat,
    Cancel,
    Declaration,
    Demand,
    Failure,
    Goodbye,
    Grant,
    GrantedTask,
    Handlers,
    Heartbeat,
    Hello,
    Lease,
    Limit,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Progress,
    Query,
    Recorded,
    Refused,
    Running,
    Submit,
    Welcome,
)
from tests.support.builders import a_hello

TIMEOUT_MS = 10_000
BELIEF_MS = TIMEOUT_MS - margin_ms(TIMEOUT_MS)
OUTCOMES_FIRST = 1


class Peer:
    """One sidecar process after the other, on one connection after the other.

    Args:
        number: Tells sidecars apart.
        declarations: What it serves.
        clock_ms: Its own elapsed clock.
    """

    def __init__(
        self, number: int, declarations: list[Declaration], clock_ms: Callable[[], int]
    ) -> None:
        self.number = number
        self.appetite = 3
        """How many tasks of each handler it asks for after each WELCOME."""
        self.declarations = declarations
        self.clock_ms = clock_ms
        self._lives = 0
        self._connections = 0
        self.start()

    def start(self) -> None:
        """Begin a new process; everything that the former one knew is gone."""
        self._lives += 1
        self.incarnation = bytes([self.number]) * 8 + self._lives.to_bytes(8, "big")
        self.session = 0
        self.awaits_welcome = False
        self.deadline_ms = 0
        self.held: dict[bytes, GrantedTask] = {}
        self.totals: dict[str, int] = {}
        self.granted: dict[str, int] = {}
        self.grants_seen = 0
        self.grant_missed = False
        self.finished: list[Outcome] = []
        """Outcomes of leases that it has lost meanwhile, and of which it may speak at any time."""
        self.unrecorded: dict[int, list[Outcome]] = {}
        self._number = 0
        self._hello_ms = 0
        self.reconnect()

    def reconnect(self) -> None:
        """Take a new connection; what was under way on the former one is lost."""
        self._connections += 1
        self.routing_id = b"%d.%d" % (self.number, self._connections)
        self.inbox: deque[Message] = deque()
        self.outbox: deque[Message] = deque()

    @property
    def ready(self) -> bool:
        """Whether it has a session and believes in it."""
        return not self.awaits_welcome and self.session > 0 and self.clock_ms() < self.deadline_ms

    def believes_in(self, task_id: bytes, token: int) -> bool:
        """Whether an attempt with an earlier token may be running here."""
        task = self.held.get(task_id)
        return task is not None and task.token < token and self.clock_ms() < self.deadline_ms

    # Out

    def hello(self) -> None:
        """Open or resume the session."""
        self.give_up_in_time()
        kept = [Lease(task.id, task.token) for task in self.held.values()]
        kept += [Lease(o.id, o.token) for group in self.unrecorded.values() for o in group]
        self._hello_ms = self.clock_ms()
        self.awaits_welcome = True
        changes = {"incarnation": self.incarnation, "session": self.session, "held": kept}
        hello = a_hello(**changes)
        assert isinstance(hello, Hello)
        self.outbox.append(hello)

    def demand(self, handler: str, more: int) -> None:
        """Ask for more tasks of a handler than were granted so far."""
        self.totals[handler] = self.granted.get(handler, 0) + more
        self.outbox.append(Demand(self._limits()))

    def heartbeat(self, *, begun: bool) -> None:
        """Renew the session; say that everything held has begun, or nothing."""
        running = [Running(t.id, t.token, 5) for t in self.held.values()] if begun else []
        self.outbox.append(Heartbeat(self.clock_ms(), self._limits(), running))

    def report(self, *outcomes: Outcome) -> None:
        """Report outcomes; what was held is held no more."""
        self._number += 1
        for outcome in outcomes:
            task = self.held.get(outcome.id)
            if task is not None and task.token == outcome.token:
                del self.held[outcome.id]
        self.unrecorded[self._number] = list(outcomes)
        self.outbox.append(Outcomes(self._number, list(outcomes)))

    def goodbye(self) -> None:
        """Leave: nothing runs any more."""
        self.held.clear()
        self.outbox.append(Goodbye("stopping"))
        self.session = 0

    def send(self, message: Submit | Query | Cancel | Progress) -> None:
        """Pass on what an app or a service wants."""
        self.outbox.append(message)

    def _limits(self) -> list[Limit]:
        return [Limit(handler, total) for handler, total in self.totals.items()]

    # In

    def take(self, message: Message) -> None:
        """Take a message."""
        self.give_up_in_time()
        match message:
            case Welcome():
                self._welcome(message)
            case Grant() if message.session == self.session and self.ready:
                self._grant(message)
            case Beat(session, clock_ms, grants) if session == self.session:
                self.deadline_ms = max(self.deadline_ms, clock_ms + BELIEF_MS)
                self.grant_missed |= grants > self.grants_seen
            case Recorded(number, _):
                self.unrecorded.pop(number, None)
            case Refused():
                self.session = 0
            case Answer() | Grant() | Beat() | _:
                pass

    def _welcome(self, welcome: Welcome) -> None:
        self.awaits_welcome = False
        self.session = welcome.session
        self.deadline_ms = self._hello_ms + BELIEF_MS
        self.totals.clear()
        self.granted.clear()
        self.grants_seen = 0
        self.grant_missed = False
        for lease in welcome.lost:
            task = self.held.get(lease.id)
            if task is not None and task.token == lease.token:
                self._lose(task)
        self.outbox.append(Handlers(self.declarations))
        for handler, _ in self.declarations:
            self.demand(handler, self.appetite)
        for number, outcomes in self.unrecorded.items():
            self.outbox.append(Outcomes(number, outcomes))

    def _grant(self, grant: Grant) -> None:
        self.grant_missed |= grant.number != self.grants_seen + 1
        self.grants_seen = grant.number
        for handler, tasks in grant.groups:
            self.granted[handler] = self.granted.get(handler, 0) + len(tasks)
            for task in tasks:
                self.held[task.id] = task

    def give_up_in_time(self) -> None:
        """At the deadline every attempt is revoked."""
        if self.clock_ms() >= self.deadline_ms:
            for task in list(self.held.values()):
                self._lose(task)

    def _lose(self, task: GrantedTask) -> None:
        del self.held[task.id]
        self.finished.append(Outcome(task.id, task.token, OutcomeKind.SUCCESS, 1, None))
        self.finished.append(Outcome(task.id, task.token, OutcomeKind.RETRY, 1, Failure("x")))
