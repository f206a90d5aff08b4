"""Drive the shard with sidecars on a bad network through crashes, and hold it to its promises.

``watch`` checks every commit and every message; the rules here only stir. In the end the faults
stop, and every task that was accepted must come to its end.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.core.gates import GateKind, Scope
from coordinator.core.operations import (
    Action,
    By,
    ChangeTask,
    LiftGate,
    Operation,
    SetGate,
    StartBulk,
    StopBulk,
)
from coordinator.core.shard import Operated, StoreLevel, Tick
from protocol.messages import (
    Cancel,
    Cancellation,
    Declaration,
    Failure,
    GrantedTask,
    Outcome,
    OutcomeKind,
    Progress,
    Query,
    Question,
    Result,
    State,
    Submission,
    Submit,
    Update,
)
from tests.coordinator.core.bench import small_windows
from tests.coordinator.core.peer import TIMEOUT_MS, Peer
from tests.coordinator.core.watch import Watch
from tests.support.builders import a_batch, task_id

pytestmark = pytest.mark.timeout(300)  # Some seconds; but a failure takes its time to shrink.

POLICIES = {
    "a.plain": {"attempts_max": 4, "backoff_ms_min": 100, "backoff_ms_max": 3_000},
    "a.narrow": {"attempts_max": 3, "concurrency": 2, "crashes_max": 2, "deferrals_max": 2},
}
RETENTION = {
    "retention_succeeded_ms": 20_000,
    "retention_dead_ms": 30_000,
    "retention_other_ms": 20_000,
}
DRAIN_ROUNDS = 600

TROUBLES = ("resume", "reconnect", "lose all on the way", "cut", "turn", "leave", "die")
CATASTROPHES = (
    "hold commits",
    "crash before the commit",
    "crash after the commit",
    "fill the store",
    "set the clock back",
)

peers = st.integers(0, 2)
handlers = st.sampled_from(sorted(POLICIES))
options = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "delay_ms": st.sampled_from([1, 400, 5_000, 60_000]),
        "expires_ms": st.sampled_from([1, 300, 6_000]),
        "priority": st.integers(0, 3),
        "attempts_max": st.integers(1, 5),
        "collection": st.sampled_from(["red", "blue"]),
    },
)
kinds = st.sampled_from(list(OutcomeKind))
scopes = st.sampled_from(
    [Scope(), *[Scope(name, only) for name in POLICIES for only in ("", "red", "red", "blue")]]
)
BY = By("ops", "a test")
moments = st.sampled_from([1, 60, 400, 1_000, 3_000, 9_000, 11_000, 25_000])


class Machine(RuleBasedStateMachine):
    """What may happen to one shard."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        small_windows(self.patch)
        declarations = [Declaration(name, policy) for name, policy in POLICIES.items()]
        clock: Callable[[], int] = lambda: self.watch.now.ms  # noqa: E731
        self.peers = [Peer(number, declarations, clock) for number in range(3)]
        self.watch = Watch(self.peers, POLICIES, **RETENTION)
        self.submitted: list[Submission] = []
        self.requests = 0
        self.operations = 0
        self.smooth = [True] * len(self.peers)
        """Whose network does its work by itself; on the others each message is moved by a rule."""
        self.full = False
        self.holding = False
        """Whether commits are ended by a rule only."""
        self.go_on()

    def go_on(self) -> None:
        """Let everything happen that nobody holds up."""
        for _ in range(4):
            for number, sidecar in enumerate(self.peers):
                if self.smooth[number]:
                    if not sidecar.session and not sidecar.awaits_welcome:
                        sidecar.hello()
                    self.transmit(number, len(sidecar.outbox))
                    self.arrive(number, len(sidecar.inbox))
            if not self.holding:
                self.settle()
            elif self.watch.held is None:
                self.watch.begin()

    @invariant()
    def stir(self) -> None:
        self.go_on()

    # Apps

    @rule(peer=peers, handler=handlers, own=options, count=st.integers(1, 12), twice=st.booleans())
    def submit(
        self, peer: int, handler: str, own: dict[str, Any] | None, count: int, twice: bool
    ) -> None:
        first = len(self.submitted) + 1
        made = [
            Submission(task_id(n), handler, b"%d" % n * (n % 20), None, own)
            for n in range(first, first + count)
        ]
        self.submitted += made
        self._submit(peer, made + made[:1] if twice else made)

    @precondition(lambda self: self.submitted)
    @rule(peer=peers, data=st.data(), other=st.booleans())
    def submit_again(self, peer: int, data: st.DataObject, other: bool) -> None:
        known = [task for task in self.submitted if task.id not in self.watch.removed]
        if known:
            task = data.draw(st.sampled_from(known))
            self._submit(peer, [task._replace(payload=b"other") if other else task])

    def _submit(self, peer: int, tasks: list[Submission]) -> None:
        self.requests += 1
        self.watch.asked[peer, self.requests] = tasks
        self.peers[peer].send(Submit([a_batch(*tasks, request=self.requests)]))

    @precondition(lambda self: self.submitted)
    @rule(
        peer=peers,
        data=st.data(),
        wait_ms=st.sampled_from([0, 500, 20_000]),
        revision=st.sampled_from([-1, 0]),
    )
    def ask(self, peer: int, data: st.DataObject, wait_ms: int, revision: int) -> None:
        task = data.draw(st.sampled_from(self.submitted))
        self.requests += 1
        self.peers[peer].send(Query([Question(self.requests, task.id, wait_ms, revision)]))

    @precondition(lambda self: self.submitted)
    @rule(peer=peers, data=st.data())
    def cancel(self, peer: int, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.submitted))
        self.requests += 1
        self.peers[peer].send(Cancel([Cancellation(self.requests, task.id, "")]))

    # Sidecars

    @rule(peer=peers, handler=handlers, more=st.integers(0, 9))
    def demand(self, peer: int, handler: str, more: int) -> None:
        self.peers[peer].demand(handler, more)

    @rule(peer=peers, begun=st.booleans())
    def heartbeat(self, peer: int, begun: bool) -> None:
        self.peers[peer].heartbeat(begun=begun)

    @rule(peer=peers, data=st.data(), kind=kinds, count=st.integers(1, 4))
    def report(self, peer: int, data: st.DataObject, kind: OutcomeKind, count: int) -> None:
        sidecar = self.peers[peer]
        sidecar.give_up_in_time()
        tasks = list(sidecar.held.values())[:count]
        if tasks:
            after_ms = data.draw(st.sampled_from([None, 0, 700]))
            sidecar.report(*[outcome(task, kind, after_ms) for task in tasks])

    @rule(peer=peers, count=st.integers(1, 4), told=st.integers(-1, 1000))
    def tell(self, peer: int, count: int, told: int) -> None:
        tasks = list(self.peers[peer].held.values())[:count]
        checkpoint = b"%d" % told if told % 2 else None
        if tasks:
            updates = [Update(task.id, task.token, told, "", checkpoint) for task in tasks]
            self.peers[peer].send(Progress(updates))

    @rule(peer=peers, data=st.data(), kind=kinds)
    def report_late(self, peer: int, data: st.DataObject, kind: OutcomeKind) -> None:
        late = self.peers[peer].finished
        if late:
            chosen = data.draw(st.lists(st.sampled_from(late), min_size=1, max_size=3))
            self.peers[peer].report(*chosen, chosen[0]._replace(kind=kind, value=None))

    # The network

    @rule(peer=peers, out=st.integers(0, 5), into=st.integers(0, 5))
    def move(self, peer: int, out: int, into: int) -> None:
        self.transmit(peer, out)
        self.arrive(peer, into)

    def transmit(self, peer: int, count: int) -> None:
        sidecar = self.peers[peer]
        for _ in range(min(count, len(sidecar.outbox))):
            self.watch.receive(sidecar.routing_id, sidecar.outbox.popleft())

    def arrive(self, peer: int, count: int) -> None:
        sidecar = self.peers[peer]
        for _ in range(min(count, len(sidecar.inbox))):
            sidecar.take(sidecar.inbox.popleft())

    @rule(peer=peers, what=st.sampled_from(TROUBLES))
    def trouble(self, peer: int, what: str) -> None:
        sidecar = self.peers[peer]
        match what:
            case "resume":
                if not sidecar.awaits_welcome:
                    sidecar.hello()
            case "reconnect":
                sidecar.reconnect()
                sidecar.hello()
            case "lose all on the way":
                sidecar.inbox.clear()
                sidecar.outbox.clear()
            case "cut":
                self.watch.unreachable ^= {sidecar.routing_id}
            case "turn":
                self.smooth[peer] = not self.smooth[peer]
            case "leave":
                sidecar.goodbye()
            case "die":
                sidecar.start()

    # The coordinator

    @rule()
    def finish(self) -> None:
        if self.watch.held is not None:
            self.watch.finish()

    def settle(self) -> None:
        self.finish()
        self.watch.settle()

    @rule(what=st.sampled_from(CATASTROPHES))
    def catastrophe(self, what: str) -> None:
        match what:
            case "hold commits":
                self.holding = not self.holding
            case "crash before the commit" | "crash after the commit":
                self.watch.crash(committed=what.startswith("crash after"))
            case "fill the store":
                self.full = not self.full
                self.watch.step(StoreLevel("full" if self.full else ""))
            case "set the clock back":
                self.watch.pass_time(0, wall_ms=-50)

    # Operators

    @rule(
        scope=scopes,
        kind=st.sampled_from([GateKind.PAUSE, GateKind.PAUSE, GateKind.DROP]),
        after_ms=st.sampled_from([0, 0, 500, 20_000]),
    )
    def set_gate(self, scope: Scope, kind: GateKind, after_ms: int) -> None:
        until_ms = self.watch.now.wall_ms + after_ms if after_ms else 0
        self._operate(SetGate(scope, kind, BY, until_ms))

    @precondition(lambda self: self.watch.seen.gates)
    @rule(data=st.data())
    def lift_gate(self, data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from(sorted(self.watch.seen.gates)))
        self._operate(LiftGate(Scope(*scope), BY))

    @precondition(lambda self: self.watch.seen.tasks)
    @rule(
        data=st.data(), action=st.sampled_from(list(Action)), after_ms=st.sampled_from([0, 2_000])
    )
    def change_task(self, data: st.DataObject, action: Action, after_ms: int) -> None:
        tasks = self.watch.seen.tasks
        dead = [known for known in sorted(tasks) if tasks[known].state is State.DEAD]
        task = data.draw(st.sampled_from(dead or sorted(tasks)))
        if action is Action.PURGE:
            self.watch.purges.add(task)
        self._operate(ChangeTask(action, task, BY, self.watch.now.wall_ms + after_ms))

    @rule(
        action=st.sampled_from(list(Action)),
        after_ms=st.sampled_from([0, 2_000]),
        handler=handlers,
        rate=st.sampled_from([1, 10, 1_000]),
    )
    def change_many(self, action: Action, after_ms: int, handler: str, rate: int) -> None:
        if action is Action.PURGE:
            self.watch.purges.update(task.id for task in self.submitted)
        at_ms = self.watch.now.wall_ms + after_ms
        self._operate(StartBulk(action, f"handler={handler}", BY, at_ms, rate, 0, exact=True))

    def _operate(self, operation: Operation) -> None:
        self.operations += 1
        self.watch.step(Operated(self.operations, operation))

    # Time

    @rule(ms=moments)
    def pass_time(self, ms: int) -> None:
        """Let time pass; who has a smooth network keeps its session meanwhile."""
        while ms > 0:
            step_ms = min(ms, TIMEOUT_MS // 5)
            ms -= step_ms
            self.watch.pass_time(step_ms)
            for number, sidecar in enumerate(self.peers):
                sidecar.give_up_in_time()
                if self.smooth[number] and sidecar.ready:
                    sidecar.heartbeat(begun=True)
            self.go_on()
            self.watch.step(Tick())

    # Promises

    @invariant()
    def every_acknowledged_task_is_kept_or_has_ended(self) -> None:
        for known in self.watch.accepted:
            assert known in self.watch.seen.tasks or known in self.watch.ends

    def teardown(self) -> None:
        try:
            self._drain()
        finally:
            self.patch.undo()

    def _drain(self) -> None:
        """Stop all faults: then every task must end, and its waits be answered."""
        watch = self.watch
        self.holding = False
        self.smooth = [True] * len(self.peers)
        watch.unreachable.clear()
        self.settle()
        watch.step(StoreLevel(""))
        for scope in watch.seen.gates:
            self._operate(LiftGate(Scope(*scope), BY))
        for number in list(watch.shard.ledger.bulks):
            self._operate(StopBulk(number, BY))
        for sidecar in self.peers:
            sidecar.reconnect()
            sidecar.hello()
        self.go_on()
        for _ in range(DRAIN_ROUNDS):
            for sidecar in self.peers:
                self._work(sidecar)
            self.go_on()
            if all(task.state.terminal for task in watch.seen.tasks.values()):
                break
            watch.advance(min(TIMEOUT_MS // 5, watch.shard.next_due_ms(watch.now) or 1))
        left = [task for task in watch.audit().tasks.values() if not task.state.terminal]
        assert not left, [(task.id.hex(), task.state, task.handler.name) for task in left]
        counts = list(watch.audit().counts.values())
        assert all(not any(count[:5]) for count in counts), counts
        assert watch.waiting() == 0
        assert not watch.seen.parks, "a park that nobody needs"
        assert not watch.rows(b"w"), "rows of parked tasks that are left behind"

    def _work(self, sidecar: Peer) -> None:
        if not sidecar.ready or sidecar.grant_missed:
            sidecar.reconnect()
            sidecar.hello()
            return
        sidecar.heartbeat(begun=False)
        for handler in POLICIES:
            sidecar.demand(handler, 50)
        if sidecar.held:
            sidecar.report(*[outcome(t, OutcomeKind.SUCCESS, None) for t in sidecar.held.values()])


def outcome(task: GrantedTask, kind: OutcomeKind, after_ms: int | None) -> Outcome:
    value: Result | Failure = Failure("ValueError", "bad", "trace", after_ms)
    if kind is OutcomeKind.SUCCESS:
        value = Result(None, task.payload)
    return Outcome(task.id, task.token, kind, 1_000, value)


TestShard = Machine.TestCase
TestShard.settings = settings(max_examples=50, stateful_step_count=50)
