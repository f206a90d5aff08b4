"""Sidecars as operators see them: their sessions, and the drains that hold some of them."""

from dataclasses import dataclass
from typing import Any

from coordinator.core.drains import Drain
from coordinator.core.effects import Now
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.sessions import Session, margin_ms

STATES = ("ready", "draining", "drained", "silent", "away", "absent")


@dataclass(frozen=True, slots=True)
class SidecarRow:
    """One session, or a drained name that has none."""

    name: str
    service: str
    state: str
    """ready; draining: drained, and it still holds leases; drained: it holds none; silent: not
    heard for half its timeout, or cut off; away: not back since the start; absent: a name that is
    drained, and no session has it."""
    silent_ms: int
    """How long it has not been heard."""
    timeout_ms: int
    leases: int
    demand: int
    handlers: list[str]
    session: int
    drained_by: str
    """Who has drained it, by their own word; empty: it is not drained."""
    drain_reason: str
    drained_ms: int
    """Since when; 0 if it is not drained."""


@dataclass(frozen=True, slots=True)
class DrainRow:
    """One drain, and what it has still to wait for."""

    sidecar: str
    owner: str
    """Who has set it, by their own word."""
    reason: str
    created_ms: int
    sessions: int
    """Sidecars of that name that have a session."""
    leases: int
    """What they hold; nothing is added."""


def sidecar_rows(ledger: Ledger, now: Now) -> list[SidecarRow]:
    """Return all sessions, and the drained names that have none, by name."""
    rows = [sidecar_row(ledger, session, now) for session in ledger.sessions]
    there = {row.name for row in rows}
    rows += [_absent(drain) for name, drain in ledger.drains.items() if name not in there]
    return sorted(rows, key=lambda row: (row.name, row.session))


def sidecar_row(ledger: Ledger, session: Session, now: Now) -> SidecarRow:
    """Return one session."""
    silent_ms = max(0, now.ms - heard_ms(session))
    connected = ledger.sessions.of_peer(session.peer) is session
    if session.number == 0:
        state = "away"
    elif not connected or silent_ms > session.timeout_ms // 2:
        state = "silent"
    elif session.drain is not None:
        state = "draining" if session.leases else "drained"
    else:
        state = "ready"
    return SidecarRow(
        name=session.sidecar,
        service=session.service,
        state=state,
        silent_ms=silent_ms,
        timeout_ms=session.timeout_ms,
        leases=session.leases,
        demand=sum(max(0, session.demand(handler)) for handler in session.handlers.values()),
        handlers=sorted(session.handlers),
        session=session.number,
        **_drained(session.drain),
    )


def _absent(drain: Drain) -> SidecarRow:
    return SidecarRow(drain.sidecar, "", "absent", 0, 0, 0, 0, [], 0, **_drained(drain))


def _drained(drain: Drain | None) -> dict[str, Any]:
    if drain is None:
        return {"drained_by": "", "drain_reason": "", "drained_ms": 0}
    return {
        "drained_by": drain.owner,
        "drain_reason": drain.reason,
        "drained_ms": drain.created_ms,
    }


def heard_ms(session: Session) -> int:
    """Return when a sidecar was last heard: its deadline was set from then."""
    return session.deadline_ms - session.timeout_ms - margin_ms(session.timeout_ms)


def drain_row(ledger: Ledger, drain: Drain) -> DrainRow:
    """Return one drain."""
    sessions = ledger.sessions.of_sidecar(drain.sidecar)
    leases = sum([session.leases for session in sessions])
    fields = (drain.sidecar, drain.owner, drain.reason, drain.created_ms)
    return DrainRow(*fields, len(sessions), leases)


def drains_of_all(handler: Handler) -> list[Drain]:
    """Return the drains that keep a handler's tasks waiting; none if a sidecar may get them."""
    drains = {session.sidecar: session.drain for session in handler.sessions}
    found = [drain for _, drain in sorted(drains.items()) if drain is not None]
    return found if len(found) == len(drains) else []
