"""Set, lift and end gates; make and clear away the parks that come of them."""

from typing import Any

from coordinator.core import layout, records
from coordinator.core.dropping import Dropping
from coordinator.core.effects import Now, Scan
from coordinator.core.gates import GATES_MAX, Gate, GateKind, Scope
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.operations import By, Done, LiftGate, Refusal, SetGate
from coordinator.core.parks import Park

LOOKS_MAX = 4
"""How often the rows of an empty park are looked through before it is left as it is."""


class Gating:
    """The gates of a shard."""

    def __init__(self, ledger: Ledger, dropping: Dropping) -> None:
        self._ledger = ledger
        self._dropping = dropping

    def set(self, now: Now, wanted: SetGate) -> Done | Refusal:
        """Set a gate; nothing that it holds is granted from now on."""
        ledger = self._ledger
        gates = ledger.gates
        before = gates.by_scope.get(wanted.scope)
        if before is None and len(gates.by_scope) >= GATES_MAX:
            return Refusal("too_many_gates", f"there are {GATES_MAX}; lift some")
        by = wanted.by
        gate = Gate(wanted.scope, wanted.kind, by.owner, by.reason, now.wall_ms, wanted.until_ms)
        if before is not None and before.kind is gate.kind:
            gate.created_ms, gate.dropped = before.created_ms, before.dropped
        gates.put(gate)
        self._apply(gate.scope)
        details: dict[str, Any] = {"until_ms": gate.until_ms, "ready": self._ready(gate.scope)}
        if before is not None:
            details["before"] = before.describe()
        self._tell(now, f"gate.{gate.kind.value}", gate, by, details)
        if gate.drops:
            self._dropping.begin(gate)
        return Done(gate)

    def lift(self, now: Now, wanted: LiftGate) -> Done | Refusal:
        """Lift a gate; what it held goes on."""
        gate = self._ledger.gates.by_scope.get(wanted.scope)
        if gate is None:
            return Refusal("unknown_gate", f"there is no gate on {wanted.scope}")
        self._remove(now, gate, "gate.lift", wanted.by)
        return Done(gate)

    def tick(self, now: Now) -> None:
        """End the gates whose time is over."""
        for gate in self._ledger.gates.ended(now.wall_ms):
            self._remove(now, gate, "gate.end", By(gate.owner, gate.reason))

    def _remove(self, now: Now, gate: Gate, action: str, by: By) -> None:
        ledger = self._ledger
        held = self._ready(gate.scope)
        ledger.gates.remove(gate.scope)
        ledger.effects.writes[layout.gate_key(*gate.scope)] = None
        self._apply(gate.scope)
        self._tell(now, action, gate, by, {"ready": held, "dropped": gate.dropped})

    def _apply(self, scope: Scope) -> None:
        for handler in self._handlers(scope):
            self._ledger.gates.apply(handler)
            self._ledger.touch(handler)

    def _handlers(self, scope: Scope) -> list[Handler]:
        if not scope.handler:
            return list(self._ledger.handlers.values())
        handler = self._ledger.handlers.get(scope.handler)
        return [] if handler is None else [handler]

    def _ready(self, scope: Scope) -> int:
        """Return how many ready tasks are known to be in a scope; of a collection, the parked."""
        handlers = self._handlers(scope)
        if scope.collection:
            parks = [handler.park_of(scope.collection) for handler in handlers]
            return sum(park.count for park in parks if park is not None)
        return sum(handler.ready for handler in handlers)

    def _tell(self, now: Now, action: str, gate: Gate, by: By, details: dict[str, Any]) -> None:
        ledger = self._ledger
        ledger.record(now, by, action, str(gate.scope), details)
        ledger.note(
            action.replace(".", "_"), scope=str(gate.scope), kind=gate.kind.value, owner=by.owner
        )

    # With each flush

    def write(self) -> None:
        """Write the rows of gates and parks that have changed; clear away empty parks."""
        ledger = self._ledger
        for handler in ledger.stirred:
            for park in list(handler.parks.values()):
                counts = park.counts()
                if counts != park.written:
                    park.written = counts
                    key = layout.park_key(park.number)
                    fields = [handler.number, park.collection, counts]
                    ledger.effects.writes[key] = records.encode_list(key, fields)
                if not park.count and park.collection not in handler.gates:
                    self._clear_away(handler, park)
        for gate in ledger.gates.by_scope.values():
            if gate.changed:
                gate.changed = False
                key = layout.gate_key(*gate.scope)
                ledger.effects.writes[key] = records.encode_list(key, fields_of(gate))

    def _clear_away(self, handler: Handler, park: Park) -> None:
        """Remove a park that is empty and not needed, once none of its rows is left."""
        if park.busy or park.ending >= LOOKS_MAX:
            return
        park.ending += 1
        queue = park.queues[0]
        queue.loading = True  # Or this would be asked again before it is answered.
        start, end = park.queues[0].row_key(0), park.queues[-1].row_key((1 << 64) - 1)

        def then(_: Now, rows: list[tuple[bytes, bytes]], __: object) -> None:
            queue.loading = False
            self._ledger.touch(handler)
            if park.count or park.collection in handler.gates:
                return
            if rows:
                for queue_ in park.queues:
                    queue_.littered = True  # Looked through, and removed, by ``core.sweeping``.
                return
            del handler.parks[park.number]
            handler.reopen()
            self._ledger.effects.writes[layout.park_key(park.number)] = None

        self._ledger.ask(Scan(start, end, 1), then, watch=False)


def fields_of(gate: Gate) -> list[int | str]:
    """Return what is in a gate's row; its key has the scope."""
    return [
        *(gate.kind.value, gate.owner, gate.reason),
        *(gate.created_ms, gate.until_ms, gate.dropped),
    ]


def gate_of(key: bytes, fields: list[int | str] | None) -> Gate:
    """Return the gate in a row; one whose row is damaged pauses, which loses nothing."""
    scope = Scope(*layout.scope_of(key))
    if fields is None:
        why = "its row was damaged; what it was is not known"
        return Gate(scope, GateKind.PAUSE, "unknown", why, 0)
    kind, owner, reason, created_ms, until_ms, dropped = fields
    gate = Gate(scope, GateKind(kind), str(owner), str(reason), int(created_ms), int(until_ms))
    gate.dropped, gate.changed = int(dropped), False
    return gate
