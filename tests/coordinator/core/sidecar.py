"""A sidecar that says exactly what a test tells it to say, and remembers what it was sent."""

from typing import Any, TypeVar

from protocol.messages import (
    Accepted,
    Answer,
    Batch,
    Cancel,
    Cancellation,
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
    Question,
    Recorded,
    Reply,
    Result,
    Revoke,
    Revoked,
    Running,
    Status,
    Submission,
    Submit,
    Update,
    Verdict,
    Welcome,
)
from protocol.submission import encode_batch
from tests.coordinator.core.bench import Bench
from tests.support.builders import a_hello

_M = TypeVar("_M")

EMAIL = "email.send"
"""The handler of ``builders.a_submission``."""


class Sidecar:
    """One sidecar; every call lets the shard do all that follows from it.

    Args:
        bench: Where it is connected.
        number: Tells sidecars apart.
        welcome: Whether to open a session at once.
    """

    def __init__(self, bench: Bench, number: int = 1, *, welcome: bool = True) -> None:
        self.bench = bench
        self.peer = b"peer-%d" % number
        self.name = f"host-{number}"
        self.incarnation = number.to_bytes(16, "big")
        self.session = 0
        self._outcomes = 0
        self._requests = 0
        if welcome:
            self.hello()

    # Sessions

    def hello(self, **changes: Any) -> Welcome:
        """Say HELLO and return the WELCOME."""
        self.say_hello(**changes)
        return self.last(Welcome)

    def say_hello(self, **changes: Any) -> None:
        """Say HELLO, whatever comes of it."""
        self.say(self.hello_message(**changes))

    def hello_message(self, **changes: Any) -> Hello:
        """Return its HELLO."""
        who = {"sidecar": self.name, "incarnation": self.incarnation, "session": self.session}
        return a_hello(**who | changes)

    def beat(self, *running: Running, demand: dict[str, int] | None = None) -> Message:
        """Send a heartbeat; return what came back at once."""
        limits = [Limit(name, total) for name, total in (demand or {}).items()]
        self.bench.receive(self.peer, Heartbeat(77, limits, list(running)))
        answer = self.received()[-1]
        self.bench.settle()
        return answer

    def goodbye(self) -> None:
        """Leave."""
        self.say(Goodbye("stopping"))

    # Work

    def declare(self, handler: str = EMAIL, **policy: int) -> None:
        """Serve one handler, and no other from now on."""
        self.say(Handlers([Declaration(handler, policy)]))

    def say_handlers(self, *handlers: str) -> None:
        """Serve several handlers, and no other from now on."""
        self.say(Handlers([Declaration(handler, {}) for handler in handlers]))

    def serve(self, total: int = 1000, handler: str = EMAIL, **policy: int) -> None:
        """Serve one handler and ask for its tasks."""
        self.declare(handler, **policy)
        self.demand(total, handler)

    def demand(self, total: int, handler: str = EMAIL) -> None:
        """State a total of demand."""
        self.say(self.demand_message(total, handler))

    def demand_message(self, total: int, handler: str = EMAIL) -> Demand:
        """Return a statement of demand."""
        return Demand([Limit(handler, total)])

    def granted(self) -> list[GrantedTask]:
        """Return all tasks granted so far, in order."""
        return [
            task
            for message in self.received()
            if isinstance(message, Grant)
            for group in message.groups
            for task in group.tasks
        ]

    def grant(self) -> GrantedTask:
        """Return the task granted last."""
        return self.granted()[-1]

    def report(self, *outcomes: Outcome) -> list[str | None]:
        """Report outcomes; return for each None, or the code with which it was not taken."""
        self.say(self.outcomes_message(*outcomes))
        recorded = self.last(Recorded)
        assert recorded.number == self._outcomes, "the outcomes were not answered"
        codes = dict(recorded.exceptions)
        return [codes.get(place) for place in range(len(outcomes))]

    def outcomes_message(self, *outcomes: Outcome) -> Outcomes:
        """Return the next report of outcomes."""
        self._outcomes += 1
        return Outcomes(self._outcomes, list(outcomes))

    # Submitting

    def submit(self, *submissions: Submission) -> Verdict:
        """Submit one batch and return the verdict."""
        return self.submit_raw(encode_batch(list(submissions)))

    def submit_raw(self, tasks: bytes) -> Verdict:
        """Submit the bytes of a batch and return the verdict."""
        self._requests += 1
        self.say(Submit([Batch(self._requests, tasks)]))
        return self.verdict(self._requests)

    def verdict(self, request: int) -> Verdict:
        """Return the only verdict on a request."""
        (verdict,) = [
            verdict
            for message in self.received()
            if isinstance(message, Accepted)
            for verdict in message.verdicts
            if verdict.request == request
        ]
        return verdict

    # Asking

    def ask(
        self, task_id: bytes, request: int = 0, *, wait_ms: int = 0, revision: int = -1
    ) -> None:
        """Ask for a task's status; the answer is among ``replies``."""
        self.say(Query([Question(request, task_id, wait_ms, revision)]))

    def cancel(self, task_id: bytes, reason: str = "") -> Reply:
        """Cancel a task and return the reply."""
        self._requests += 1
        self.say(Cancel([Cancellation(self._requests, task_id, reason)]))
        (reply,) = [reply for reply in self.replies() if reply.request == self._requests]
        return reply

    def progress(self, task: GrantedTask, **told: Any) -> None:
        """Tell of an attempt."""
        self.say(Progress([Update(task.id, task.token, **told)]))

    def revoked(self) -> list[Revoked]:
        """Return what it was told to stop so far."""
        return [r for m in self.received() if isinstance(m, Revoke) for r in m.revoked]

    def status(self, task_id: bytes) -> Status:
        """Return a task's status."""
        self.ask(task_id)
        status = self.replies()[-1].status
        assert status is not None, "no such task"
        return status

    def replies(self) -> list[Reply]:
        """Return all replies so far."""
        return [r for m in self.received() if isinstance(m, Answer) for r in m.replies]

    # Messages

    def say(self, message: Message) -> None:
        """Send a message."""
        self.bench.receive(self.peer, message)
        self.bench.settle()
        welcomes = [m.session for m in self.received() if isinstance(m, Welcome)]
        self.session = max([self.session, *welcomes])

    def received(self) -> list[Message]:
        """Return all messages so far."""
        return self.bench.to(self.peer)

    def last(self, kind: type[_M]) -> _M:
        """Return the last message of one kind."""
        return [message for message in self.received() if isinstance(message, kind)][-1]


def success(task: GrantedTask, body: bytes | None = None) -> Outcome:
    """Return a success, with a result or without."""
    result = None if body is None else Result(None, body)
    return Outcome(task.id, task.token, OutcomeKind.SUCCESS, 1_500, result)


def failed(
    task: GrantedTask, kind: OutcomeKind = OutcomeKind.RETRY, failure: Failure | None = None
) -> Outcome:
    """Return another outcome than success."""
    return Outcome(task.id, task.token, kind, 1_500, failure or Failure("ValueError", "bad"))


def lease_of(task: GrantedTask) -> Lease:
    """Return the lease of a granted task."""
    return Lease(task.id, task.token)
