"""What operators have ordered, as the store has it, and whether each order took place as a whole.

Every order is given under a name of its own (``By.owner``), so that whatever comes of it can be
told from everything else. The audit log is the account of them: what it says is played back here,
row by row, and must be exactly what the gates, policies and tasks of the same commit have become.
"""

from dataclasses import dataclass

from coordinator.core import layout, records
from coordinator.core.audit import AuditRow
from coordinator.core.gates import GateKind, Scope
from coordinator.core.gating import gate_of
from coordinator.core.operations import (
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
from coordinator.core.overriding import overrides_of
from coordinator.store.base import Writes
from protocol.ids import to_text
from tests.simulation.workload import Plan
from tests.simulation.world import Broken, World


@dataclass(slots=True)
class Standing:
    """A gate that stands."""

    scope: Scope
    kind: GateKind
    owner: str
    until_ms: int
    dropped: int = 0
    """How many tasks it has ended, by its row."""
    counted: int = 0
    """And by the tasks."""

    def covers(self, handler: str, collection: str | None) -> bool:
        """Tell whether tasks of a handler and a collection are meant by it."""
        scope = self.scope
        if scope.handler and scope.handler != handler:
            return False
        return not scope.collection or scope.collection == collection


class Orders:
    """All orders of one run.

    Args:
        world: The world.
        plan: The plan of the run, for the policies that services declare.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self.sent: dict[str, Operation] = {}
        """What was ever asked for, by the name under which it was."""
        self.audited: set[str] = set()
        """Those whose row in the audit log is durable."""
        self.fresh: list[AuditRow] = []
        """The rows of the last commit."""
        self.gates: dict[Scope, Standing] = {}
        self.moved: set[Scope] = set()
        """Scopes whose gate was set or went with the last commit."""
        self._stood: list[Standing] = []
        """Gates that stood at any moment before the last commit was complete."""
        self.overrides: dict[str, dict[str, int]] = {}
        """What is changed of the policy of each handler."""
        self.drains: dict[str, str] = {}
        """Who has drained the sidecars of each name that is drained."""
        self.drains_moved: set[str] = set()
        """Names that were drained or undrained with the last commit."""
        self._policies: dict[str, list[dict[str, int]]] = {}
        """The policies of handlers during the last commit, where they were changed in it."""
        self._attempts_ever: dict[str, int] = {}
        self._latest = 0

    # --- A commit ------------------------------------------------------------------------------

    def committed(self, writes: Writes, names: dict[int, str], wall_ms: int) -> None:
        """Take the rows of a commit that are about orders.

        Args:
            writes: The commit.
            names: Of the handlers, by number.
            wall_ms: The latest time of day at which it may have been made.
        """
        audit: list[AuditRow] = []
        gates: list[tuple[bytes, bytes | None]] = []
        policies: list[tuple[bytes, bytes | None]] = []
        drains: dict[str, bytes | None] = {}
        for key, value in writes.items():
            letter = key[:1]
            if letter == b"a" and value is not None:
                fields = records.decode_list(key, value)
                audit.append(AuditRow(layout.number_of(key), *fields))
            elif letter == b"o":
                gates.append((key, value))
            elif letter == b"v":
                policies.append((key, value))
            elif letter == b"q":
                drains[layout.drained_sidecar(key)] = value
        if self.fresh or self.moved:
            self.fresh, self.moved, self._policies, self.drains_moved = [], set(), {}, set()
            self._stood = list(self.gates.values())
        if audit:
            self.fresh = sorted(audit, key=lambda row: row.number)
            for row in self.fresh:
                self._play(row, wall_ms)
            self._check_moved({Scope(*layout.scope_of(key)) for key, _ in gates})
        for key, value in gates:
            self._check_gate(key, value)
        self._check_drains(drains)
        for key, value in policies:
            self._check_policy(names[layout.handler_of(key)], key, value)
        for handler in self._policies:
            number = next(number for number, name in names.items() if name == handler)
            if layout.override_key(number) not in writes:
                raise Broken("no order is half done", f"policy of {handler} in {self.fresh}")

    def _play(self, row: AuditRow, wall_ms: int) -> None:
        """Do what a row of the audit log says was done."""
        self._latest += 1
        if row.number != self._latest:
            raise Broken("the audit log has no gaps", f"{row}, after {self._latest - 1}")
        self._world.hit(f"audit_{row.action}")
        order = self.sent.get(row.owner)
        what, _, word = row.action.partition(".")
        if what == "gate" and word in ("end", "swept"):
            self._play_end(row, wall_ms)
        elif word == "done":
            pass  # The rows of the changes of many tasks are looked at in ``bulk_orders``.
        elif order is None or row.owner in self.audited or not _fits(row, order):
            raise Broken("nobody but operators gives orders, each once", f"{row} of {order}")
        else:
            self.audited.add(row.owner)
            self._play_order(row, order)

    def _play_end(self, row: AuditRow, wall_ms: int) -> None:
        scope, gate = next(
            ((s, g) for s, g in self.gates.items() if str(s) == row.target), (None, None)
        )
        if row.action == "gate.swept":
            return
        due = gate is not None and 0 < gate.until_ms <= wall_ms
        if scope is None or gate is None or gate.owner != row.owner or not due:
            raise Broken("a gate ends at its end", f"{row}, of {gate} at {wall_ms}")
        self.moved.add(scope)
        del self.gates[scope]

    def _play_order(self, row: AuditRow, order: Operation) -> None:
        if isinstance(order, SetGate):
            before = self.gates.get(order.scope)
            gate = Standing(order.scope, order.kind, row.owner, order.until_ms)
            if before is not None and before.kind is gate.kind:
                gate.dropped, gate.counted = before.dropped, before.counted
            self.gates[order.scope] = gate
            self._stood.append(gate)
            self.moved.add(order.scope)
        elif isinstance(order, LiftGate):
            if self.gates.pop(order.scope, None) is None:
                raise Broken("a gate that is lifted stood", f"{row}")
            self.moved.add(order.scope)
        elif isinstance(order, SetPolicy | RevertPolicy):
            handler = order.handler
            changes = self.overrides.setdefault(handler, {})
            self._policies.setdefault(handler, [self.policy(handler)])
            if isinstance(order, SetPolicy):
                changes.update(order.changes)
            else:
                for field in order.fields or tuple(changes):
                    del changes[field]
            self._policies[handler].append(self.policy(handler))
            allowed = [policy["attempts_max"] for policy in self._policies[handler]]
            self._attempts_ever[handler] = max(self.attempts_ever(handler), *allowed)

        elif isinstance(order, DrainSidecar):
            self.drains[order.sidecar] = row.owner
            self.drains_moved.add(order.sidecar)
        elif isinstance(order, UndrainSidecar):
            if self.drains.pop(order.sidecar, None) is None:
                raise Broken("a drain that is lifted stood", f"{row}")
            self.drains_moved.add(order.sidecar)

    def _check_drains(self, rows: dict[str, bytes | None]) -> None:
        """Rows of drains are written when they move, and say what was ordered."""
        if rows.keys() != self.drains_moved:
            raise Broken("no order is half done", f"drains {rows.keys()}, {self.drains_moved}")
        for name, value in rows.items():
            key = layout.drain_key(name)
            owner = None if value is None else records.decode_list(key, value)[0]
            if owner != self.drains.get(name):
                raise Broken("drains are as was ordered", f"{name}: {owner}, not {self.drains}")

    def _check_moved(self, written: set[Scope]) -> None:
        missing = self.moved - written
        if missing:
            raise Broken("no order is half done", f"{missing} not written, {self.fresh}")

    def _check_gate(self, key: bytes, value: bytes | None) -> None:
        """A row of a gate says what has become of all orders about it."""
        scope = Scope(*layout.scope_of(key))
        expected = self.gates.get(scope)
        if value is None or expected is None:
            if value is not None or expected is not None:
                raise Broken("gates are as was ordered", f"{scope}: {value!r}, not {expected}")
            return
        gate = gate_of(key, records.decode_list(key, value))
        stored = (gate.kind, gate.owner, gate.until_ms)
        if stored != (expected.kind, expected.owner, expected.until_ms):
            raise Broken("gates are as was ordered", f"{scope}: {stored}, not {expected}")
        expected.dropped = gate.dropped

    def _check_policy(self, handler: str, key: bytes, value: bytes | None) -> None:
        fields = [] if value is None else records.decode_list(key, value)
        stored = {name: change.value for name, change in overrides_of(fields).items()}
        if stored != self.overrides.get(handler, {}):
            expected = self.overrides.get(handler)
            raise Broken("policies are as was ordered", f"{handler}: {stored}, not {expected}")

    # --- Gates ---------------------------------------------------------------------------------

    def holder(self, handler: str, collection: str | None) -> Standing | None:
        """Return a gate that holds tasks of a handler and collection, one that drops before all."""
        held: Standing | None = None
        for gate in self.gates.values():
            if gate.covers(handler, collection):
                if gate.kind is GateKind.DROP:
                    return gate
                held = gate
        return held

    def dropped(self, handler: str, collection: str | None, error: str) -> None:
        """Check that a gate which drops stood over a task that was dropped, and was the one named.

        Raises:
            Broken: None did.
        """
        for gate in self._stood:
            named = error.startswith(f"dropped: drop of {gate.scope} by {gate.owner}")
            if named and gate.kind is GateKind.DROP and gate.covers(handler, collection):
                gate.counted += 1
                return
        raise Broken("only a gate that drops drops", f"{handler} {collection} {error}")

    def check_dropped(self) -> None:
        """Check that gates count what they have dropped, after all tasks of a commit."""
        for scope, gate in self.gates.items():
            if scope in self.moved:
                gate.counted = gate.dropped  # The one before it may have dropped with it.
            elif gate.counted != gate.dropped:
                raise Broken("a gate counts what it drops", f"{gate}")

    def dropping(self, handler: str, collection: str | None) -> Standing | None:
        """Return a gate that has dropped such tasks through all of the last commit."""
        for gate in self.gates.values():
            lasts = gate.kind is GateKind.DROP and gate.scope not in self.moved
            if lasts and gate.covers(handler, collection):
                return gate
        return None

    # --- Policies ------------------------------------------------------------------------------

    def policy(self, handler: str) -> dict[str, int]:
        """Return the policy of a handler that is in effect."""
        changes = self.overrides.get(handler)
        policy = self._plan.policies[handler]
        if not changes:
            return policy
        policy = policy | changes
        if policy["backoff_ms_min"] > policy["backoff_ms_max"]:
            (moved,) = [name for name in ("backoff_ms_min", "backoff_ms_max") if name in changes]
            policy |= dict.fromkeys(("backoff_ms_min", "backoff_ms_max"), changes[moved])
        return policy

    def policies(self, handler: str) -> list[dict[str, int]]:
        """Return all that were in effect when what the last commit says was decided."""
        return self._policies.get(handler) or [self.policy(handler)]

    def policy_moved(self, handler: str) -> bool:
        """Tell whether the last commit has changed the policy of a handler."""
        return handler in self._policies

    def attempts_ever(self, handler: str) -> int:
        """Return the most attempts that a policy has allowed, or 0 if it was never changed."""
        return self._attempts_ever.get(handler, 0)


def _fits(row: AuditRow, order: Operation) -> bool:
    """Tell whether a row of the audit log is about an order."""
    if getattr(order, "dry_run", False):
        return False
    match order:
        case SetGate(scope, kind):
            expected = f"gate.{kind.value}", str(scope)
        case LiftGate(scope):
            expected = "gate.lift", str(scope)
        case SetPolicy(handler):
            expected = "policy.set", handler
        case RevertPolicy(handler):
            expected = "policy.revert", handler
        case ChangeTask(action, task_id):
            expected = f"task.{action.value}", to_text(task_id)
        case DrainSidecar(sidecar):
            expected = "sidecar.drain", sidecar
        case UndrainSidecar(sidecar):
            expected = "sidecar.undrain", sidecar
        case StartBulk(action, text):
            expected = f"{action.value}.start", text
        case _:
            stops = isinstance(order, StopBulk) and row.details.get("number") == order.number
            return stops and row.action.endswith(".stop")
    return (row.action, row.target) == expected


def owner_in(text: str) -> str | None:
    """Return who is named as the one who did something: ``... by NAME (why)``."""
    _, found, rest = text.partition("by ")
    return rest.split(" ", 1)[0].split(";", 1)[0].rstrip(";") if found else None
