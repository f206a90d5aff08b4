"""Two sidecars under fire: one from an app or service beside others, one from its coordinator."""

import random
from typing import TypeVar

from protocol import codec, local
from protocol import messages as m
from protocol.errors import ProtocolError
from protocol.submission import encode_batch
from protocol.version import LOCAL_MAGIC
from sidecar.core import events as e
from tests.fuzz.mutate import Template
from tests.fuzz.world import TIMEOUT_MS, Harmed, SidecarBench
from tests.support.builders import a_granted_task, a_submission, an_attach

GOOD_HANDLER, BAD_HANDLER = "email.zz-good", "email.send"
SLOTS = 8
GRANTED_MAX = 40
TURN_MS = (0, 0, 1, 40, 700, 3_000)

M = TypeVar("M", bound=m.Message)


class _Target:
    """A sidecar's core, a coordinator that may behave, and a service and an app that do."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bench = SidecarBench()
        self._session = 0
        self._grant_number = 0
        self._store = b"s" * 16
        self._limits: dict[str, int] = {}
        """Demand that the coordinator was told."""
        self._granted: dict[str, int] = {}
        self._tasks = 0
        self._good = self._bench.open()
        self._app = self._bench.open()
        self._bad = self._bench.open()
        self._welcome()
        self._attach(self._good, GOOD_HANDLER)
        self._local(self._app, an_attach())
        self._bench.settle()

    # The coordinator

    def _welcome(self) -> None:
        """Let the coordinator take the sidecar in, over a fresh connection."""
        self._bench.step(e.LinkUp())
        self._bench.settle()
        for _ in range(50):
            if any(isinstance(message, m.Hello) for message in self._bench.said()):
                break
            self._bench.advance(1_000)
        else:
            raise Harmed("the sidecar never greets again")
        self._session += 1_000
        self._grant_number = 0
        self._limits.clear()
        self._granted.clear()
        welcome = m.Welcome(1, self._session, False, 1, self._store, TIMEOUT_MS, [], "0.1.0")
        self._bench.step(e.FromCoordinator(welcome))
        self._bench.settle()
        self._coordinate()

    def _coordinate(self) -> list[m.Message]:
        """Answer what the sidecar says as a coordinator does; return what it has said."""
        said = self._bench.said()
        for message in said:
            answer: m.Message | None = None
            match message:
                case m.Heartbeat(clock_ms, limits, _):
                    self._limits.update(limits)
                    answer = m.Beat(self._session, clock_ms, self._grant_number)
                case m.Demand(limits):
                    self._limits.update(limits)
                case m.Outcomes(number, _):
                    answer = m.Recorded(number, [])
                case m.Submit(batches):
                    answer = m.Accepted([m.Verdict(b.request, None, "", 0, []) for b in batches])
                case m.Query(questions):
                    answer = m.Answer([m.Reply(q.request, "unknown_task", None) for q in questions])
                case m.Hello():
                    self._session += 1
                    self._grant_number = 0
                    self._limits.clear()
                    self._granted.clear()
                    answer = m.Welcome(
                        1, self._session, True, 1, self._store, TIMEOUT_MS, [], "0.1.0"
                    )
                case _:
                    pass
            if answer is not None:
                self._bench.step(e.FromCoordinator(answer))
        return said

    def _grant(self, handler: str, count: int) -> m.Grant:
        """Return the next grant."""
        tasks = []
        for _ in range(count):
            self._tasks += 1
            tasks.append(a_granted_task(self._tasks, token=self._tasks, timeout_ms=2_000))
        return m.Grant(self._session, self._grant_number + 1, [m.Group(handler, tasks)])

    def _send_grant(self, handler: str, count: int) -> list[m.GrantedTask]:
        grant = self._grant(handler, count)
        self._grant_number += 1
        self._granted[handler] = self._granted.get(handler, 0) + count
        self._bench.step(e.FromCoordinator(grant))
        return grant.groups[0].tasks

    # Apps and services

    def _local(self, connection: int, message: m.Message) -> None:
        self._bench.step(e.FromLocal(connection, message))

    def _attach(self, connection: int, handler: str) -> None:
        self._local(connection, self._an_attach(handler))
        self._local(connection, m.Demand([m.Limit(handler, 10_000)]))

    def _an_attach(self, handler: str) -> m.Attach:
        return an_attach(
            service="email",
            declarations=[m.Declaration(handler, {"attempts_max": 3})],
            slots=[m.Limit(handler, SLOTS)],
        )

    # Those that behave

    def _check_good(self) -> None:
        """See that a task reaches the service that behaves, and a submission the coordinator.

        Raises:
            Harmed: It does not.
        """
        self._bench.settle()
        self._coordinate()
        self._bench.settle()
        self._bench.told(self._good)
        self._bench.told(self._app)
        if {self._good, self._app} & self._bench.closed:
            raise Harmed("the connection of another was closed")
        if self._limits.get(GOOD_HANDLER, 0) <= self._granted.get(GOOD_HANDLER, 0):
            raise Harmed(f"no demand is stated for the handler of another: {self._limits}")
        [task] = self._send_grant(GOOD_HANDLER, 1)
        self._bench.settle()
        handed = [t for x in self._of(self._good, m.Tasks) for g in x.groups for t in g.tasks]
        if handed != [task]:
            raise Harmed(f"a task of another does not arrive: {handed}")
        outcome = m.Outcome(task.id, task.token, m.OutcomeKind.SUCCESS, 1, None)
        self._local(self._good, m.Outcomes(0, [outcome]))
        batch = encode_batch([a_submission(self._tasks)])
        self._local(self._app, m.Submit([m.Batch(77, batch)]))
        self._bench.settle()
        said = self._coordinate()
        self._bench.settle()
        if not any(outcome in x.outcomes for x in said if isinstance(x, m.Outcomes)):
            raise Harmed("an outcome of another does not arrive")
        if not any(b.tasks == batch for x in said if isinstance(x, m.Submit) for b in x.batches):
            raise Harmed("a submission of another does not arrive")
        verdicts = [v for x in self._of(self._app, m.Accepted) for v in x.verdicts]
        if m.Verdict(77, None, "", 0, []) not in verdicts:
            raise Harmed("the verdict on a submission of another does not arrive")

    def _of(self, connection: int, kind: type[M]) -> list[M]:
        return [x for x in self._bench.to_local.get(connection, []) if isinstance(x, kind)]


class LocalTarget(_Target):
    """A sidecar that an app or service beside others does not behave towards."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._reader = local.Reader(expect_magic=False)
        self._held: list[m.GrantedTask] = []
        [self._kept] = self._send_grant(GOOD_HANDLER, 1)
        self._bench.settle()
        self.revive()

    def revive(self) -> None:
        """Give the one that does not behave a connection and tasks, if it has none."""
        if self._bad in self._bench.closed:
            self._bench.told(self._bad)
            self._bad = self._bench.open()
            self._reader = local.Reader(expect_magic=False)
            self._held = []
        self._bench.settle()
        if self._rng.random() < 0.8 and not self._held:
            self._attach(self._bad, BAD_HANDLER)
            self._bench.settle()
        self._take()

    def templates(self) -> list[Template]:
        """Return frames that are right just now."""
        some = self._held[:6] or [a_granted_task(1)]
        failure = m.Failure("ValueError", "not like this", "Traceback ...", 5)
        kinds = self._rng.choices(list(m.OutcomeKind), k=len(some))
        outcomes = [
            m.Outcome(t.id, t.token, kind, 1_000, failure if kind else m.Result(None, b"{}"))
            for t, kind in zip(some, kinds, strict=True)
        ]
        messages: list[m.Message] = [
            self._an_attach(BAD_HANDLER),
            m.Demand([m.Limit(BAD_HANDLER, 20_000)]),
            m.Outcomes(0, outcomes),
            m.Submit([m.Batch(5, encode_batch([a_submission(3)]))]),
            m.Submit([m.Batch(6, encode_batch([a_submission(3)]), True)]),
            m.Query([m.Question(1, some[0].id, 500)]),
            m.Inspect(),
            m.Goodbye("stopping"),
        ]
        return [Template(codec.encode(message)) for message in messages]

    def fire_bytes(self, data: bytes) -> list[m.Message]:
        """Let bytes arrive at the connection of the one that does not behave."""
        rng = self._rng
        size = len(data)
        if rng.random() < 0.03:
            size = rng.choice((0, 1, size + 1, size - 1, 2**24, 2**31, 2**32 - 1)) % 2**32
        stream = size.to_bytes(4, "big") + data
        if rng.random() < 0.01:
            stream = LOCAL_MAGIC + stream
        cut = int(rng.random() * len(stream)) if rng.random() < 0.2 else len(stream)
        messages = []
        try:
            for part in (stream[:cut], stream[cut:]):
                for message in self._reader.feed(part):
                    messages.append(message)
                    self._local(self._bad, message)
        except ProtocolError as error:
            self._bench.step(e.LocalRefused(self._bad, error))
            self._bench.settle()
            if self._bad not in self._bench.closed:
                raise Harmed("a connection that broke the protocol stays open") from None
        return messages

    def turn(self) -> None:
        """Do what follows from what has arrived; let some time pass."""
        bench = self._bench
        bench.settle()
        self._coordinate()
        if len(self._held) < GRANTED_MAX:
            room = self._limits.get(BAD_HANDLER, 0) - self._granted.get(BAD_HANDLER, 0)
            if room > 0:
                self._send_grant(BAD_HANDLER, min(room, 5))
        bench.advance(self._rng.choice(TURN_MS))
        self._coordinate()
        self._take()
        self.revive()

    def _take(self) -> None:
        told = [g for x in self._of(self._bad, m.Tasks) for g in x.groups]
        self._bench.told(self._bad)
        self._held = ([t for g in told for t in g.tasks] + self._held)[:GRANTED_MAX]

    def check(self) -> None:
        """See that others have what they had, and get what they ask for."""
        kept = m.Outcome(self._kept.id, self._kept.token, m.OutcomeKind.SUCCESS, 1, None)
        self._local(self._good, m.Outcomes(0, [kept]))
        self._check_good()


class CoordinatorTarget(_Target):
    """A sidecar whose coordinator does not behave; another takes over from it in the end."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._attach(self._bad, BAD_HANDLER)
        self._bench.settle()

    def templates(self) -> list[Template]:
        """Return frames that are right just now."""
        task = a_granted_task(self._tasks or 1, token=self._tasks or 1)
        lease = m.Lease(task.id, task.token)
        messages: list[m.Message] = [
            m.Welcome(1, self._session + 1, True, 1, self._store, TIMEOUT_MS, [lease], "0.1.0"),
            self._grant(BAD_HANDLER, 3),
            m.Recorded(self._rng.randrange(5), [m.Unrecorded(0, "stale_token")]),
            m.Beat(self._session, self._bench.now_ms, self._grant_number),
            m.Accepted([m.Verdict(self._rng.randrange(9), None, "", 0, [])]),
            m.Answer([m.Reply(self._rng.randrange(9), "unknown_task", None)]),
            m.Revoke([m.Revoked(task.id, task.token, "cancelled")]),
            m.Refused(self._rng.choice(("busy", "unknown_session", "stale_epoch")), "no", 10),
            m.Goodbye("stopping"),
        ]
        return [Template(codec.encode(message)) for message in messages]

    def fire(self, message: m.Message) -> None:
        """Let a message arrive."""
        if type(message) is m.Grant and message.session == self._session:
            self._grant_number = max(self._grant_number, message.number) % 2**40
        self._bench.step(e.FromCoordinator(message))

    def turn(self) -> None:
        """Do what follows from what has arrived; let some time pass."""
        bench, rng = self._bench, self._rng
        batch = m.Batch(5, encode_batch([a_submission(3)]), rng.random() < 0.5)
        self._local(self._app, m.Submit([batch]))
        self._local(self._app, m.Query([m.Question(1, bytes(16), 500)]))
        told = [t for x in self._of(self._bad, m.Tasks) for g in x.groups for t in g.tasks]
        outcomes = [m.Outcome(t.id, t.token, m.OutcomeKind.SUCCESS, 1, None) for t in told]
        bench.told(self._bad)
        if outcomes:
            self._local(self._bad, m.Outcomes(0, outcomes[: rng.randint(1, len(outcomes))]))
        bench.advance(rng.choice(TURN_MS))
        if rng.random() < 0.5:
            self._coordinate()
        bench.said()
        if not bench.core.session_open and rng.random() < 0.3:
            self._welcome()

    def check(self) -> None:
        """See that the sidecar is at the service of another coordinator at once."""
        self._store = self._rng.randbytes(16)
        self._welcome()
        self._bench.settle()
        self._coordinate()
        self._check_good()
