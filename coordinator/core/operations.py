"""What operators ask for, as values: the HTTP side makes them, the core carries them out.

The answer to one is given when everything it has changed is durable.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from coordinator.core.gates import GateKind, Scope


@dataclass(frozen=True, slots=True)
class By:
    """Who asks for something, by their own word, and why."""

    owner: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SetGate:
    """Set a gate, in place of the one on the same scope."""

    scope: Scope
    kind: GateKind
    by: By
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class LiftGate:
    """Lift a gate."""

    scope: Scope
    by: By


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Change fields of a handler's policy."""

    handler: str
    changes: dict[str, int]
    by: By
    dry_run: bool = False
    """Whether only to say what would be: the result is a copy of the handler."""


@dataclass(frozen=True, slots=True)
class RevertPolicy:
    """Let what the owner has declared count again; no fields means all."""

    handler: str
    fields: tuple[str, ...]
    by: By
    dry_run: bool = False
    """As of ``SetPolicy``."""


@dataclass(frozen=True, slots=True)
class DrainSidecar:
    """Grant nothing to sidecars of a name, until that is lifted."""

    sidecar: str
    by: By


@dataclass(frozen=True, slots=True)
class UndrainSidecar:
    """Lift a drain."""

    sidecar: str
    by: By


class Action(Enum):
    """What can be done to a task."""

    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    REQUEUE = "requeue"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class ChangeTask:
    """Do something to one task."""

    action: Action
    task_id: bytes
    by: By
    at_ms: int = 0
    """To when it is rescheduled."""
    dry_run: bool = False
    """Whether only to say whether it could be done."""


@dataclass(frozen=True, slots=True)
class StartBulk:
    """Do something to all tasks that a filter means."""

    action: Action
    filter: str
    by: By
    at_ms: int
    rate: int
    """Tasks a second, at most."""
    expected: int
    """How many were counted before."""
    exact: bool
    """Whether those were all."""


@dataclass(frozen=True, slots=True)
class StopBulk:
    """Stop one of these where it is."""

    number: int
    by: By


@dataclass(frozen=True, slots=True)
class MendRow:
    """Look at the row of a dead letter, which could not be read."""

    key: bytes


AtOnce = SetGate | LiftGate | SetPolicy | RevertPolicy | DrainSidecar | UndrainSidecar
"""Those that are carried out in one step, and answered with the next commit."""
Operation = AtOnce | ChangeTask | StartBulk | StopBulk | MendRow


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to an operation that changes nothing."""

    code: str
    """One of ``coordinator.http.problems.CODES``."""
    detail: str


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to an operation that is durable."""

    value: Any = None
