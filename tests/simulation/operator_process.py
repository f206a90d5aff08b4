"""An operator, or several: at times that the seed draws they hold, drop, change and cancel.

An order that has no answer because the coordinator has died is forgotten by who gave it: whether
it took place is seen from the store. In the end all gates are lifted and all policies reverted.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.gates import GateKind, Scope
from coordinator.core.operations import (
    Action,
    By,
    ChangeTask,
    DrainSidecar,
    LiftGate,
    Operation,
    RevertPolicy,
    SetGate,
    SetPolicy,
    StartBulk,
    StopBulk,
    UndrainSidecar,
)
from protocol.messages import State
from tests.simulation.record import HANDLER, STATE, park_of
from tests.simulation.workload import COLLECTIONS, HANDLERS, LATER, ROUGH
from tests.simulation.world import MS, SECOND, World

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

POLICIES: dict[str, tuple[int, ...]] = {
    "concurrency": (0, 1, 2, 3),
    "attempts_max": (1, 2, 4, 6),
    "timeout_ms": (150, 600, 1_500),
    "backoff_ms_min": (0, 100, 600),
    "backoff_ms_max": (300, 3_000),
}
FILTERS = (
    *("", f"handler={ROUGH}", "handler=svc.*", "handler=svc.s*", f"handler={LATER}"),
    *("collection=red", f"handler={ROUGH} collection=blue", "priority=low", "state=ready"),
    *("state=scheduled", "priority=critical state=ready"),
)
DEAD_FILTERS = FILTERS[:8]
SOON_US = 60 * MS
"""Within what an order is taken back, or its coordinator dies, while it is still carried out."""
LAST_WORD_US = 300 * MS
"""How often the end of all holds is asked for, until it is durable."""


class OperatorProcess:
    """Gives orders until it is told to stop.

    Args:
        world: The world.
        run: What it has orders for.
    """

    def __init__(self, world: World, run: "Simulation") -> None:
        self._world = world
        self._run = run
        self._orders = run.checks.model.orders
        self._changes = run.checks.model.changes
        rng = world.rng
        kinds: list[Callable[[], None]] = [
            *[self._set_gate] * 3,
            self._lift_gate,
            *[self._set_policy] * 2,
            self._revert_policy,
            *[self._change_task] * 6,
            *[self._start_bulk] * 2,
            self._stop_bulk,
            *[self._drain_sidecar] * 2,
        ]
        self._kinds = rng.sample(kinds, rng.choice((0, 4, 8, len(kinds))))
        self._every_us = rng.choice((30, 150, 500)) * MS
        self._lingers_us = rng.choice((300 * MS, 2 * SECOND, 10 * SECOND))
        """How long gates and policies stay, about."""
        self._dies = rng.choice((0.0, 0.03))
        """Share of orders after which the coordinator dies soon."""
        self._going_on = True
        self._given = 0
        self._drained_for_good: set[str] = set()
        self.stays: Scope | None = None
        """What is held on when everything else has ended."""
        if self._kinds:
            self._next()

    def _next(self) -> None:
        self._world.after(self._world.rng.randrange(2 * self._every_us), self._act)

    def _act(self) -> None:
        if self._going_on:
            for _ in range(self._world.rng.choice((1, 1, 1, 3))):
                self._world.rng.choice(self._kinds)()
            if self._world.chance(self._dies):
                self._soon(lambda: self._run.kill_coordinator(self._world.between(20 * MS, SECOND)))
            self._next()

    def _by(self) -> By:
        self._given += 1
        return By(f"op{self._given}", self._world.rng.choice(("", "because")))

    def _give(self, by: By, order: Operation) -> None:
        number = self._given
        self._orders.sent[by.owner] = order
        self._world.after(self._world.rng.randrange(MS), lambda: self._send(number, order))

    def _send(self, number: int, order: Operation) -> None:
        coordinator = self._run.coordinator
        if coordinator is not None:
            coordinator.run(lambda: coordinator.operate(number, order))

    def _soon(self, action: Callable[[], None]) -> None:
        def act() -> None:
            if self._going_on:
                action()

        self._world.after(self._world.between(MS, SOON_US), act)

    def _later(self, action: Callable[[], None]) -> None:
        if self._world.chance(0.8):
            self._world.after(self._world.between(20 * MS, self._lingers_us), action)

    def _time(self, owner: str, low_ms: int, high_ms: int) -> int:
        """Return a time of day that no other order names."""
        at_ms = self._run.wall_ms() + self._world.rng.randrange(low_ms, high_ms)
        while not self._changes.move(at_ms, owner):
            at_ms += 1
        return at_ms

    # --- Gates and policies --------------------------------------------------------------------

    def _scope(self) -> Scope:
        rng = self._world.rng
        if rng.random() < 0.15:
            return Scope()
        handler = rng.choice(HANDLERS) if rng.random() < 0.95 else "svc.unknown"
        return Scope(handler, rng.choice(("", *COLLECTIONS)))

    def _set_gate(self) -> None:
        rng = self._world.rng
        scope = self._scope()
        drops = rng.random() < (0.4 if scope.collection else 0.1)
        until_ms = 0
        if rng.random() < 0.4:
            until_ms = self._run.wall_ms() + self._world.between(1, 4_000)
        if drops and rng.random() < 0.5:
            scope = Scope(self._busiest(), rng.choice(("", *COLLECTIONS)))
        by = self._by()
        self._give(by, SetGate(scope, GateKind.DROP if drops else GateKind.PAUSE, by, until_ms))
        if drops and rng.random() < 0.3:
            self._soon(lambda: self._lift(scope))
        else:
            self._later(lambda: self._lift(scope))

    def _busiest(self) -> str:
        """Return the handler with most tasks that wait, of those of which attempts run."""
        model = self._run.checks.model
        leased = {model.records[task_id][HANDLER] for task_id in model.leases}
        waiting = Counter(
            record[HANDLER]
            for record in model.records.values()
            if record[STATE] == State.READY and record[HANDLER] in leased
        )
        number = max(waiting, key=lambda number: (waiting[number], number), default=0)
        return model.names.get(number, ROUGH)

    def _lift_gate(self) -> None:
        scopes = list(self._orders.gates) or [self._scope()]
        self._lift(self._world.rng.choice(scopes))

    def _lift(self, scope: Scope) -> None:
        if self._going_on:
            by = self._by()
            self._give(by, LiftGate(scope, by))

    def _set_policy(self) -> None:
        rng = self._world.rng
        handler = rng.choice(HANDLERS)
        fields = rng.sample(list(POLICIES), rng.choice((1, 1, 2)))
        by = self._by()
        changes = {name: rng.choice(POLICIES[name]) for name in fields}
        self._give(by, SetPolicy(handler, changes, by, dry_run=rng.random() < 0.1))
        self._later(lambda: self._revert(handler, tuple(fields)))

    def _revert_policy(self) -> None:
        handlers = [name for name, changed in self._orders.overrides.items() if changed]
        self._revert(self._world.rng.choice(handlers or HANDLERS), ())

    def _revert(self, handler: str, fields: tuple[str, ...]) -> None:
        if self._going_on:
            by = self._by()
            self._give(by, RevertPolicy(handler, fields, by))

    # --- Tasks ---------------------------------------------------------------------------------

    def _change_task(self) -> None:
        rng = self._world.rng
        action = rng.choice(tuple(Action))
        by = self._by()
        at_ms = self._time(by.owner, -1_000, 5_000) if action is Action.RESCHEDULE else 0
        tried = rng.random() < 0.1
        self._give(by, ChangeTask(action, self._task(action), by, at_ms, dry_run=tried))

    def _task(self, action: Action) -> bytes:
        """Return a task, most often one to which it can be done."""
        rng = self._world.rng
        model = self._run.checks.model
        if rng.random() < 0.1:
            return rng.randbytes(16)
        if rng.random() < 0.1 and model.removed:
            return rng.choice(sorted(model.removed))
        fit = list(model.records)
        if rng.random() < 0.8 and action in (Action.REQUEUE, Action.PURGE):
            fit = [i for i in fit if model.records[i][STATE] == State.DEAD]
        elif rng.random() < 0.5 and action is Action.CANCEL:
            fit = list(model.leases)
        elif rng.random() < 0.5 and action is Action.RESCHEDULE:
            fit = [i for i in fit if park_of(model.records[i])]
        elif rng.random() < 0.8:
            fit = model.unended()
        return rng.choice(fit) if fit else rng.randbytes(16)

    def _start_bulk(self) -> None:
        rng = self._world.rng
        action = rng.choice((*Action, Action.REQUEUE, Action.REQUEUE))
        by = self._by()
        at_ms = self._time(by.owner, -1_000, 5_000) if action is Action.RESCHEDULE else 0
        dead = action in (Action.REQUEUE, Action.PURGE)
        text = rng.choice(DEAD_FILTERS if dead else FILTERS)
        rate = rng.choice((5, 20, 20, 200, 1_000))
        self._give(by, StartBulk(action, text, by, at_ms, rate, 0, exact=False))
        if rng.random() < 0.3:
            self._soon(self._stop_bulk)

    def _stop_bulk(self) -> None:
        rng = self._world.rng
        running = [bulk.number for bulk in self._changes.running()]
        number = running[-1] if running else rng.randrange(5)
        by = self._by()
        self._give(by, StopBulk(number, by))

    # --- Sidecars ------------------------------------------------------------------------------

    def _drain_sidecar(self) -> None:
        name = self._world.rng.choice(self._run.hosts).a_sidecar_name()
        by = self._by()
        self._give(by, DrainSidecar(name, by))
        self._later(lambda: self._undrain(name))

    def _undrain(self, name: str) -> None:
        if self._going_on:
            by = self._by()
            self._give(by, UndrainSidecar(name, by))

    # --- The end -------------------------------------------------------------------------------

    def cease(self) -> None:
        """End all holds, but for one in some runs: what it covers must wait, and nothing else."""
        self._going_on = False
        if self._kinds and self._world.chance(0.3):
            self.stays = self._scope()
            self._world.hit("gate_stays")
        if self._world.chance(0.3):
            # All but the first host, where everything is served.
            names = [h.sidecar.name for h in self._run.hosts[1:] if h.sidecar is not None]
            self._drained_for_good = set(names) & self._orders.drains.keys()
            self._world.hit("drain_stays", len(self._drained_for_good))
        self._say_last()

    def lift_last(self) -> None:
        """Lift what was left on."""
        self.stays = None

    def _say_last(self) -> None:
        orders = self._orders
        for scope in list(orders.gates):
            if scope != self.stays:
                by = self._by()
                self._give(by, LiftGate(scope, by))
        if self.stays is not None and not self._stands(self.stays):
            by = self._by()
            self._give(by, SetGate(self.stays, GateKind.PAUSE, by))
        for handler, changed in orders.overrides.items():
            if changed:
                by = self._by()
                self._give(by, RevertPolicy(handler, (), by))
        for name in orders.drains:
            if name not in self._drained_for_good:
                by = self._by()
                self._give(by, UndrainSidecar(name, by))
        # For ever: an order that waited in a process which was stopped may come after all.
        self._world.after(LAST_WORD_US, self._say_last)

    def _stands(self, scope: Scope) -> bool:
        gate = self._orders.gates.get(scope)
        return gate is not None and gate.kind is GateKind.PAUSE and not gate.until_ms

    @property
    def settled(self) -> bool:
        """Whether nothing is held or changed any more, but for what is to stay."""
        orders = self._orders
        if self.stays is not None and not self._stands(self.stays):
            return False
        if not orders.drains.keys() <= self._drained_for_good:
            return False
        standing = [] if self.stays is None else [self.stays]
        return list(orders.gates) == standing and not any(orders.overrides.values())
