"""A shard under fire: one peer that behaves, one that does not, and one that has no session."""

import random
from typing import TypeVar

from protocol import codec
from protocol import messages as m
from protocol.errors import ProtocolError
from protocol.limits import QUERY_IDS_MAX
from protocol.submission import check, decode_batch, encode_batch
from tests.coordinator.core.audit import Audit
from tests.fuzz.mutate import Template
from tests.fuzz.world import Harmed, ShardBench
from tests.support.builders import a_hello

GOOD, BAD, STRANGER = b"good", b"bad", b"stranger"
GOOD_HANDLER, BAD_HANDLER = "good.work", "email.send"
INCARNATIONS = {GOOD: b"g" * 16, BAD: b"b" * 16}
M = TypeVar("M", bound=m.Message)
TASKS = 16
QUIET_MS = 3_000
"""How far time moves at once: the one that behaves is never silent for longer."""
TURN_MS = (0, 0, 1, 40, 700, QUIET_MS)


class ShardTarget:
    """One shard with its peers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bench = ShardBench()
        self._sessions = {GOOD: 0, BAD: 0}
        self._held: dict[bytes, list[m.GrantedTask]] = {GOOD: [], BAD: []}
        self._asked = 0
        self._requests = 0
        self._kept: m.GrantedTask
        self._greet(GOOD, GOOD_HANDLER, 1)
        self._submit(GOOD, GOOD_HANDLER, 1)
        self._bench.settle()
        self._take(GOOD)
        self._kept = self._held[GOOD][0]
        """A lease that the one that behaves holds all the time."""
        self.revive()

    # What the one that does not behave could say

    def revive(self) -> None:
        """Give the one that does not behave a session, demand and tasks."""
        self._take(BAD)
        self._greet(BAD, BAD_HANDLER, 4 * TASKS)
        self._submit(BAD, BAD_HANDLER, TASKS)
        self._bench.settle()
        self._take(BAD)

    def templates(self) -> list[Template]:
        """Return frames that are right just now."""
        leases = [m.Lease(t.id, t.token) for t in self._held[BAD]]
        some = leases or [m.Lease(bytes(16), 1)]
        failure = m.Failure("ValueError", "not like this", "Traceback ...", 5)
        kinds = list(m.OutcomeKind)
        outcomes = [
            m.Outcome(*lease, kind, 1_000, None if kind is m.OutcomeKind.RETURNED else value)
            for lease, kind in zip(some, self._rng.choices(kinds, k=len(some)), strict=True)
            for value in [m.Result(None, b"{}") if kind is m.OutcomeKind.SUCCESS else failure]
        ]
        limits = [m.Limit(BAD_HANDLER, 1_000)]
        questions = [m.Question(i, lease.id, i * 500) for i, lease in enumerate(some)]
        messages: list[m.Message] = [
            self._hello(BAD),
            m.Handlers([m.Declaration(BAD_HANDLER, {"attempts_max": 2, "concurrency": 50})]),
            m.Demand(limits),
            *[m.Heartbeat(1, [], [m.Running(*lease, 10)]) for lease in some[TASKS // 2 :]],
            *[m.Outcomes(i, [outcome]) for i, outcome in enumerate(outcomes[: TASKS // 2])],
            m.Query(questions[:3]),
            m.Query(questions[3:]),
            m.Submit([m.Batch(7, encode_batch(self._tasks(BAD_HANDLER, 3)))]),
            m.Goodbye("stopping"),
        ]
        return [Template(codec.encode(message)) for message in messages]

    def batch(self) -> Template:
        """Return a batch of tasks that is right."""
        return Template(encode_batch(self._tasks(BAD_HANDLER, 3)))

    # Fire

    def fire(self, message: m.Message) -> None:
        """Let a message arrive, from the peer with a session or from the one without."""
        if self._rng.random() < 0.8:
            self._bench.receive(BAD, message)
        elif type(message) is not m.Hello or self._rng.random() < 0.2:
            self._bench.receive(STRANGER, message)

    def fire_batch(self, data: bytes) -> None:
        """Let a batch arrive; look at it as the coordinator does, too."""
        try:
            raw = decode_batch(data)
        except ProtocolError:
            pass
        else:
            for place, item in enumerate(raw):
                check(place, item)
        self._bench.receive(BAD, m.Submit([m.Batch(self._rng.randrange(9), data)]))

    def broke(self, error: ProtocolError) -> None:
        """Let a frame arrive that is none."""
        self._bench.broke(BAD, error)

    def turn(self) -> None:
        """Do what follows from what has arrived; let some time pass."""
        # Now and then longer than a session lives without a sign.
        silence = [QUIET_MS] * 5 if self._rng.random() < 0.15 else [self._rng.choice(TURN_MS)]
        for ms in silence:
            self._bench.receive(GOOD, m.Heartbeat(self._bench.now.ms, [], []))
            self._bench.advance(ms)
        self._take(BAD)

    # The one that behaves

    def check(self) -> None:
        """See that the peer that behaves has what it had, and gets what it asks for.

        Raises:
            Harmed: It was harmed.
        """
        bench = self._bench
        for _ in range(5):  # Longer than a session lives without a sign.
            bench.receive(GOOD, m.Heartbeat(bench.now.ms, [], []))
            bench.advance(QUIET_MS)
        self._take(GOOD)
        kept = m.Lease(self._kept.id, self._kept.token)
        self._say(GOOD, self._hello(GOOD, [kept]))
        welcome = self._last(GOOD, m.Welcome)
        if not welcome.resumed or welcome.lost:
            raise Harmed(f"the lease of another peer is gone: {welcome}")
        self._sessions[GOOD] = welcome.session
        task = self._submit(GOOD, GOOD_HANDLER, 1)[0]
        self._say(GOOD, m.Handlers([m.Declaration(GOOD_HANDLER, {})]))
        self._say(GOOD, m.Demand([m.Limit(GOOD_HANDLER, 1)]))
        granted = [t for t in self._granted(GOOD) if t.id == task.id]
        if not granted:
            raise Harmed("a task of another peer is not granted")
        outcome = m.Outcome(task.id, granted[0].token, m.OutcomeKind.SUCCESS, 1, None)
        self._say(GOOD, m.Outcomes(1, [outcome]))
        if self._last(GOOD, m.Recorded).exceptions:
            raise Harmed("an outcome of another peer is not taken")
        self._say(GOOD, m.Query([m.Question(1, task.id, 0)]))
        [reply] = self._last(GOOD, m.Answer).replies
        if reply.status is None or reply.status.state is not m.State.SUCCEEDED:
            raise Harmed(f"a task of another peer did not succeed: {reply}")
        self._check_store()
        if any(isinstance(message, m.Refused) for message in self._bench.sent.get(GOOD, [])):
            raise Harmed("another peer was refused something")
        self._bench.take(GOOD)

    def _check_store(self) -> None:
        """See that the store holds together, and that each task in it can be asked for."""
        audit = Audit(self._bench.disk.pairs)
        problems = audit.problems()
        if problems:
            raise Harmed(f"the store does not hold together: {problems}")
        questions = [m.Question(i, task_id, 0) for i, task_id in enumerate(audit.tasks)]
        for i in range(0, len(questions), QUERY_IDS_MAX):
            self._say(GOOD, m.Query(questions[i : i + QUERY_IDS_MAX]))

    def _last(self, peer: bytes, kind: type[M]) -> M:
        found = [x for x in self._bench.sent.get(peer, []) if isinstance(x, kind)]
        if not found:
            raise Harmed(f"another peer waits for {kind.__name__} in vain")
        return found[-1]

    # Both

    def _greet(self, peer: bytes, handler: str, demand: int) -> None:
        self._say(peer, self._hello(peer))
        self._take(peer)
        self._say(peer, m.Handlers([m.Declaration(handler, {})]))
        self._say(peer, m.Demand([m.Limit(handler, demand)]))

    def _hello(self, peer: bytes, held: list[m.Lease] | None = None) -> m.Hello:
        if held is None:
            held = [m.Lease(t.id, t.token) for t in self._held[peer]]
        return a_hello(incarnation=INCARNATIONS[peer], session=self._sessions[peer], held=held)

    def _tasks(self, handler: str, count: int) -> list[m.Submission]:
        now_ms, rng = self._bench.now.wall_ms, self._rng
        ids = [
            (now_ms << 80 | 0x7 << 76 | 0b10 << 62 | rng.getrandbits(62)).to_bytes(16, "big")
            for _ in range(count)
        ]
        options = [None, None, {"delay_ms": 50, "priority": 1}, {"expires_ms": 5_000}]
        return [
            m.Submission(
                id_, handler, b"{}" * rng.choice((1, 1, 1, 700)), None, rng.choice(options)
            )
            if handler == BAD_HANDLER
            else m.Submission(id_, handler, b"{}")
            for id_ in ids
        ]

    def _submit(self, peer: bytes, handler: str, count: int) -> list[m.Submission]:
        self._requests += 1
        tasks = self._tasks(handler, count)
        self._say(peer, m.Submit([m.Batch(self._requests, encode_batch(tasks))]))
        return tasks

    def _say(self, peer: bytes, message: m.Message) -> None:
        self._bench.receive(peer, message)
        self._bench.settle()

    def _granted(self, peer: bytes) -> list[m.GrantedTask]:
        grants = [x for x in self._bench.sent.get(peer, []) if isinstance(x, m.Grant)]
        return [task for grant in grants for group in grant.groups for task in group.tasks]

    def _take(self, peer: bytes) -> None:
        for message in self._bench.take(peer):
            if isinstance(message, m.Welcome):
                self._sessions[peer] = message.session
                if not message.resumed:
                    self._held[peer] = []
            elif isinstance(message, m.Grant):
                tasks = [t for group in message.groups for t in group.tasks]
                self._held[peer] = (tasks + self._held[peer])[:TASKS]
