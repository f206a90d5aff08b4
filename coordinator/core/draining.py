"""Drains: an operator's hold on sidecars, by their name.

A drained sidecar is granted nothing: what it says of its demand is not taken. It is told by DRAIN,
so that it gives back what has not begun. A drain counts for all sessions of that name, also for
those that come later, until it is lifted. What a sidecar was told is told again with every BEAT,
since a message may be lost: it is a state, and to hear it twice does no harm.
"""

from typing import Any

from coordinator.core import layout, records
from coordinator.core.drains import DRAINS_MAX, Drain
from coordinator.core.effects import Now
from coordinator.core.granting import Granting
from coordinator.core.ledger import Ledger
from coordinator.core.operations import By, Done, DrainSidecar, Refusal, UndrainSidecar
from coordinator.core.sessions import Session
from protocol import messages as m


class Draining:
    """The drains of a shard."""

    def __init__(self, ledger: Ledger, granting: Granting) -> None:
        self._ledger = ledger
        self._granting = granting

    # Operators

    def set(self, now: Now, wanted: DrainSidecar) -> Done | Refusal:
        """Drain all sidecars of a name; none of them is granted anything from now on."""
        ledger = self._ledger
        before = ledger.drains.get(wanted.sidecar)
        if before is None and len(ledger.drains) >= DRAINS_MAX:
            return Refusal("too_many_drains", f"there are {DRAINS_MAX}; lift some")
        by = wanted.by
        since_ms = now.wall_ms if before is None else before.created_ms
        drain = Drain(wanted.sidecar, by.owner, by.reason, since_ms)
        ledger.drains[drain.sidecar] = drain
        ledger.effects.writes.update([row_of(drain)])
        for session in ledger.sessions.of_sidecar(drain.sidecar):
            self._granting.withdraw(session)
            session.drain = drain
            self._tell(session)
        self._record(now, "sidecar.drain", drain, by, before)
        return Done(drain)

    def lift(self, now: Now, wanted: UndrainSidecar) -> Done | Refusal:
        """Lift a drain; sidecars state their demand again when they hear of it."""
        ledger = self._ledger
        drain = ledger.drains.pop(wanted.sidecar, None)
        if drain is None:
            return Refusal("unknown_drain", f"no sidecar {wanted.sidecar!r} is drained")
        ledger.effects.writes[layout.drain_key(drain.sidecar)] = None
        for session in ledger.sessions.of_sidecar(drain.sidecar):
            session.drain = None
            self._tell(session)
        self._record(now, "sidecar.undrain", drain, wanted.by, drain)
        return Done(drain)

    def _record(self, now: Now, action: str, drain: Drain, by: By, before: Drain | None) -> None:
        """Tell what was done, with how much these sidecars hold."""
        ledger = self._ledger
        sessions = ledger.sessions.of_sidecar(drain.sidecar)
        leases = sum(session.leases for session in sessions)
        details: dict[str, Any] = {"sessions": len(sessions), "leases": leases}
        if before is not None:
            details["before"] = before.describe()
        ledger.record(now, by, action, drain.sidecar, details)
        event = action.replace(".", "_") + "ed"
        ledger.note(event, sidecar=drain.sidecar, owner=by.owner, leases=leases)

    # Sidecars

    def welcomed(self, session: Session) -> None:
        """Tell a sidecar that has just been welcomed, if it is drained."""
        session.drain = self._ledger.drains.get(session.sidecar)
        if session.drain is not None:
            self._tell(session)

    def remind(self, session: Session) -> None:
        """Tell a sidecar once more what it was told since its WELCOME."""
        if session.drain_told:
            self._tell(session)

    def _tell(self, session: Session) -> None:
        if self._ledger.sessions.of_peer(session.peer) is not session:
            return  # It is told when it is back.
        session.drain_told = True
        why = "" if session.drain is None else session.drain.describe()
        message = m.Drain(session.number, session.drain is not None, why)
        self._ledger.send(session.peer, message)


def row_of(drain: Drain) -> tuple[bytes, bytes]:
    """Return key and value of a drain; its key has the name."""
    key = layout.drain_key(drain.sidecar)
    return key, records.encode_list(key, [drain.owner, drain.reason, drain.created_ms])


def drain_of(key: bytes, fields: list[Any] | None) -> Drain:
    """Return the drain in a row; one whose row is damaged holds, which loses nothing."""
    sidecar = layout.drained_sidecar(key)
    if fields is None:
        return Drain(sidecar, "unknown", "its row was damaged; who has set it is not known", 0)
    return Drain(sidecar, *fields)
