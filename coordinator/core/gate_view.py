"""Gates, changed policies and held tasks as operators see them."""

from dataclasses import dataclass

from coordinator.core.gates import Gate
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger


@dataclass(frozen=True, slots=True)
class GateRow:
    """One gate."""

    scope: str
    """everything, a handler, or handler/collection."""
    handler: str
    """Empty: everything."""
    collection: str
    """Empty: all of the handler."""
    kind: str
    """pause or drop."""
    owner: str
    """Who has set it, by their own word."""
    reason: str
    created_ms: int
    until_ms: int
    """When it ends by itself; 0: never."""
    held: int
    """Ready tasks that it is known to hold. Those of a collection are counted as they come to the
    head of their queue."""
    dropped: int
    """Tasks that it has ended."""
    sweeping: bool
    """Whether it still looks through the tasks that were ready before it."""
    looked_at: int
    """How many of those it has looked at."""


@dataclass(frozen=True, slots=True)
class OverrideRow:
    """One field of a policy that an operator has changed."""

    declared: int
    """What the owner of the handler says."""
    effective: int
    """What counts."""
    owner: str
    """Who has changed it, by their own word."""
    reason: str
    set_ms: int


def gate_rows(ledger: Ledger) -> list[GateRow]:
    """Return all gates, the widest first."""
    return [gate_row(ledger, gate) for _, gate in sorted(ledger.gates.by_scope.items())]


def gate_row(ledger: Ledger, gate: Gate) -> GateRow:
    """Return one gate."""
    return GateRow(
        scope=str(gate.scope),
        handler=gate.scope.handler,
        collection=gate.scope.collection,
        kind=gate.kind.value,
        owner=gate.owner,
        reason=gate.reason,
        created_ms=gate.created_ms,
        until_ms=gate.until_ms,
        held=_held(ledger, gate),
        dropped=gate.dropped,
        sweeping=gate.sweeping,
        looked_at=gate.swept,
    )


def _held(ledger: Ledger, gate: Gate) -> int:
    name, collection = gate.scope
    if not name:
        return sum(handler.ready for handler in ledger.handlers.values())
    handler = ledger.handlers.get(name)
    if handler is None:
        return 0
    if not collection:
        return handler.ready
    park = handler.park_of(collection)
    return 0 if park is None else park.count


def gate_of_handler(handler: Handler) -> str:
    """Return what gates do with a handler, in a word."""
    whole = handler.gates.get("")
    if whole is not None:
        return whole.kind.value
    return "collections" if handler.gates else ""


def override_rows(handler: Handler) -> dict[str, OverrideRow]:
    """Return what operators have changed of a handler's policy, by field."""
    return {
        name: OverrideRow(
            declared=getattr(handler.declared, name),
            effective=getattr(handler.policy, name),
            owner=override.owner,
            reason=override.reason,
            set_ms=override.set_ms,
        )
        for name, override in sorted(handler.overrides.items())
    }
