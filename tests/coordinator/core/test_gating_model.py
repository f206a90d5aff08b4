"""Stir gates and what they hold: a held task is never granted, and lifting loses none.

The state machine of the shard has gates among much else. Here is little else, so that each run is
full of them: one sidecar on a good network, restarts, and time that passes.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from coordinator.core import sweeping
from coordinator.core.effects import Effects
from coordinator.core.gates import GateKind, Scope
from coordinator.core.operations import By, LiftGate, SetGate
from coordinator.core.shard import Operated
from protocol.messages import Grant, OutcomeKind, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import a_submission

pytestmark = pytest.mark.timeout(300)

BY = By("ops", "a test")
SCOPES = [Scope(), Scope(EMAIL), Scope(EMAIL, "red"), Scope(EMAIL, "red"), Scope(EMAIL, "blue")]
ROUNDS = 200


class GatedBench(Bench):
    """A bench that looks at every grant, and at every task that is dropped."""

    def _commit(self, effects: Effects) -> None:
        before = self.audit()
        super()._commit(effects)
        after = self.audit()
        for outgoing in effects.messages:
            if isinstance(outgoing.message, Grant):
                for task in [task for _, tasks in outgoing.message.groups for task in tasks]:
                    gates = after.gates_on(after.tasks[task.id])
                    assert not gates, "a task is granted that a gate holds"
        for task_id, held in after.tasks.items():
            was = before.tasks.get(task_id)
            if held.state is State.DROPPED and (was is None or was.state is not State.DROPPED):
                gates = after.gates_on(held) | before.gates_on(held)
                assert "drop" in gates, "a task is dropped that no gate drops"


class Gating(RuleBasedStateMachine):
    """What may happen to gates and to what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        small_windows(self.patch)
        self.patch.setattr(sweeping, "GONE_MIN", 4)
        self.bench = GatedBench()
        self.sidecar = Sidecar(self.bench)
        self.sidecar.declare()
        self.total = self.submitted = self.operations = self.reported = 0

    @rule(
        count=st.integers(1, 12),
        collection=st.sampled_from([None, "red", "red", "blue"]),
        delay_ms=st.sampled_from([0, 0, 0, 700]),
        expires_ms=st.sampled_from([0, 0, 0, 2_000]),
        priority=st.integers(1, 2),
    )
    def submit(
        self, count: int, collection: str | None, delay_ms: int, expires_ms: int, priority: int
    ) -> None:
        options = {"delay_ms": delay_ms, "expires_ms": expires_ms, "priority": priority}
        own = {name: value for name, value in options.items() if value}
        made = own if collection is None else own | {"collection": collection}
        first = self.submitted + 1
        self.submitted += count
        self.sidecar.submit(
            *[a_submission(n, options=made) for n in range(first, self.submitted + 1)]
        )

    @rule(more=st.integers(1, 10))
    def demand(self, more: int) -> None:
        self.total += more
        self.sidecar.demand(self.total)

    @rule(kind=st.sampled_from(list(OutcomeKind)), count=st.integers(1, 5))
    def report(self, kind: OutcomeKind, count: int) -> None:
        tasks = self.sidecar.granted()[self.reported : self.reported + count]
        if tasks:
            self.reported += len(tasks)
            ends = success if kind is OutcomeKind.SUCCESS else lambda task: failed(task, kind)
            self.sidecar.report(*[ends(task) for task in tasks])

    @rule(
        scope=st.sampled_from(SCOPES),
        kind=st.sampled_from([GateKind.PAUSE, GateKind.PAUSE, GateKind.PAUSE, GateKind.DROP]),
        after_ms=st.sampled_from([0, 0, 900]),
        rest=st.booleans(),
    )
    def set_gate(self, scope: Scope, kind: GateKind, after_ms: int, rest: bool) -> None:
        until_ms = self.bench.now.wall_ms + after_ms if after_ms else 0
        self._operate(SetGate(scope, kind, BY, until_ms), rest)

    @precondition(lambda self: self.bench.audit().gates)
    @rule(data=st.data(), rest=st.booleans())
    def lift_gate(self, data: st.DataObject, rest: bool) -> None:
        scope = data.draw(st.sampled_from(sorted(self.bench.audit().gates)))
        self._operate(LiftGate(Scope(*scope), BY), rest)

    def _operate(self, operation: SetGate | LiftGate, rest: bool) -> None:
        """Ask for something, and let all or only a little follow before what comes next."""
        self.operations += 1
        self.bench.step(Operated(self.operations, operation))
        if rest:
            self.bench.settle()
        else:
            self.bench.flush()

    @rule(ms=st.sampled_from([1, 400, 1_000, 5_000]))
    def pass_time(self, ms: int) -> None:
        self.bench.advance(ms)
        self.sidecar.beat()

    @rule()
    def restart(self) -> None:
        self.bench.crash()
        self._greet()

    def _greet(self) -> None:
        """Come back with what was granted and not reported yet."""
        self.sidecar.hello(held=[])
        self.reported, self.total = len(self.sidecar.granted()), 0
        self.sidecar.declare()

    def teardown(self) -> None:
        try:
            self._drain()
        finally:
            self.patch.undo()

    def _drain(self) -> None:
        """Lift all gates: then every task must end."""
        for scope in self.bench.audit().gates:
            self._operate(LiftGate(Scope(*scope), BY), True)
        for _ in range(ROUNDS):
            self._greet()
            self.demand(50)
            self.report(OutcomeKind.SUCCESS, 50)
            tasks = self.bench.audit().tasks.values()
            if all(task.state.terminal for task in tasks):
                break
            self.bench.advance(2_000)
        left = [task for task in self.bench.audit().tasks.values() if not task.state.terminal]
        assert not left, "tasks are left behind a gate that was lifted"
        self.bench.settle()
        assert not self.bench.rows(b"k"), "a park that nobody needs"
        assert not self.bench.rows(b"w"), "rows of parked tasks that are left behind"


TestGating = Gating.TestCase
TestGating.settings = settings(max_examples=60, stateful_step_count=30)
