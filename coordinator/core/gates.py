"""Gates: an operator's hold on a handler, on a collection of a handler, or on everything.

A gate that pauses keeps ready tasks from being granted; one that drops ends them. What is leased
runs on. Several may hold one task: then one that drops wins, and among those that pause the task
waits until the last of them is lifted.

A whole handler that is held has no open queue, so nothing is looked at. Tasks of a collection that
is held are put aside, each once, when they come to the head of their queue or become ready
(``core.parks``): others of their handler do not wait for them.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from coordinator.core.handler import Handler

GATES_MAX = 1_000
"""Gates at one time."""


class GateKind(Enum):
    """What a gate does with tasks that are ready."""

    PAUSE = "pause"
    DROP = "drop"


class Scope(NamedTuple):
    """What a gate holds."""

    handler: str = ""
    """Empty: everything."""
    collection: str = ""
    """Empty: all tasks of the handler."""

    def __str__(self) -> str:
        if not self.handler:
            return "everything"
        return f"{self.handler}/{self.collection}" if self.collection else self.handler


@dataclass(slots=True)
class Gate:
    """One gate. Everything down to ``dropped`` is in its row."""

    scope: Scope
    kind: GateKind
    owner: str
    """Who has set it."""
    reason: str
    created_ms: int
    until_ms: int = 0
    """When it ends by itself; 0: never."""
    dropped: int = 0
    """Tasks that it has ended."""
    # Not in its row.
    changed: bool = True
    """Whether its row is behind."""
    sweeping: bool = False
    """Whether the tasks that were ready before it are still being looked through."""
    swept: int = 0
    """How many of them have been looked at."""

    @property
    def drops(self) -> bool:
        """Whether it ends tasks."""
        return self.kind is GateKind.DROP

    def describe(self) -> str:
        """Return what it is and who has set it, in words."""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.kind.value} of {self.scope} by {self.owner}{why}"


class Gates:
    """All gates, and what they mean for each handler."""

    def __init__(self) -> None:
        self.by_scope: dict[Scope, Gate] = {}
        self._next_ms: int | None = None

    def put(self, gate: Gate) -> None:
        """Take a gate in place of the one on the same scope."""
        self.by_scope[gate.scope] = gate
        self._look()

    def remove(self, scope: Scope) -> Gate | None:
        """Remove and return the gate on a scope."""
        gate = self.by_scope.pop(scope, None)
        self._look()
        return gate

    def next_ms(self) -> int | None:
        """Return the time of day at which the next gate ends by itself."""
        return self._next_ms

    def ended(self, wall_ms: int) -> list[Gate]:
        """Return the gates whose end has come."""
        return [gate for gate in self.by_scope.values() if 0 < gate.until_ms <= wall_ms]

    def _look(self) -> None:
        ends = [gate.until_ms for gate in self.by_scope.values() if gate.until_ms]
        self._next_ms = min(ends, default=None)

    def apply(self, handler: "Handler") -> None:
        """Let a handler know which gates concern it."""
        held: dict[str, Gate] = {}
        if self.by_scope:
            everything, own = self.by_scope.get(Scope()), self.by_scope.get(Scope(handler.name))
            whole = _stronger(everything, own)
            if whole is not None:
                held[""] = whole
            for scope, gate in self.by_scope.items():
                if scope.handler == handler.name and scope.collection:
                    held[scope.collection] = gate
        handler.gates = held
        handler.reopen()


def _stronger(first: Gate | None, second: Gate | None) -> Gate | None:
    if first is None or (second is not None and second.drops and not first.drops):
        return second
    return first


def gate_on(gates: dict[str, Gate], collection: str | None) -> Gate | None:
    """Return the gate that decides over tasks of a collection, of those on their handler."""
    return _stronger(gates.get(""), gates.get(collection) if collection else None)
