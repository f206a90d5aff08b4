"""Open, resume, renew and end sessions."""

from coordinator.core import layout, records
from coordinator.core.cancelling import Cancelling
from coordinator.core.draining import Draining
from coordinator.core.effects import Now, Outgoing
from coordinator.core.granting import Granting
from coordinator.core.ledger import Ledger
from coordinator.core.outcomes import Settlement
from coordinator.core.sessions import Session
from coordinator.core.task import Task
from protocol import version
from protocol.errors import Code, InvalidField
from protocol.limits import HANDLERS_PER_SESSION_MAX, SESSIONS_MAX
from protocol.messages import Beat, Declaration, Heartbeat, Hello, Lease, Refused, Welcome
from protocol.policy import Policy

BUSY_RETRY_MS = 1000


class Greeting:
    """The sessions of a shard."""

    def __init__(
        self,
        ledger: Ledger,
        granting: Granting,
        settlement: Settlement,
        cancelling: Cancelling,
        draining: Draining,
    ) -> None:
        self._ledger = ledger
        self._cancelling = cancelling
        self._draining = draining
        self._granting = granting
        self._settlement = settlement
        self._numbers = ledger.config.epoch << 32

    def hello(self, now: Now, peer: bytes, hello: Hello) -> None:
        """Open a session, or resume the one of this incarnation."""
        ledger = self._ledger
        refusal = self._refusal(hello)
        if refusal is not None:
            ledger.count(refusal.code)
            ledger.note("hello_refused", sidecar=hello.sidecar, code=refusal.code)
            ledger.send(peer, refusal)
            return
        session = ledger.sessions.of_incarnation(hello.incarnation)
        resumed = session is not None
        if session is None:
            session = self._open(hello, now)
        elif session.service != hello.service:
            self._know(session, hello)
        session.renew(now.ms)
        session.used = max(session.used, hello.session)
        self._numbers += 1
        self._granting.withdraw(session)
        displaced = ledger.sessions.of_peer(peer)
        if displaced is not None:
            # Its grants would go astray: the connection belongs to who said HELLO last.
            self._granting.withdraw(displaced)
        ledger.sessions.connect(session, peer, self._numbers)
        welcome = Welcome(
            version=version.negotiate(hello.version_min, hello.version_max) or 0,
            session=session.number,
            resumed=resumed,
            epoch=ledger.config.epoch,
            store=ledger.config.store,
            timeout_ms=session.timeout_ms,
            lost=self._reconcile(now, session, hello.held),
            software=version.SOFTWARE,
        )
        ledger.send(peer, welcome)
        self._draining.welcomed(session)
        self._cancelling.remind(session)
        ledger.count("session_resumed" if resumed else "session_opened")
        ledger.note(
            "session_resumed" if resumed else "session_opened",
            sidecar=session.sidecar,
            service=session.service,
            session=session.number,
            held=len(hello.held),
            lost=len(welcome.lost),
        )

    def _refusal(self, hello: Hello) -> Refused | None:
        ledger = self._ledger
        if version.negotiate(hello.version_min, hello.version_max) is None:
            return Refused(
                Code.UNSUPPORTED_VERSION,
                f"versions {hello.version_min} to {hello.version_max} are not spoken here; "
                f"this coordinator speaks {version.VERSION_MIN} to {version.VERSION_MAX}",
                0,
            )
        if hello.store is not None and hello.store != ledger.config.store:
            return Refused(
                Code.WRONG_STORE,
                f"this coordinator's store is {ledger.config.store.hex()}, the sidecar knew "
                f"{hello.store.hex()}; if that is meant, restart the sidecar",
                0,
            )
        if hello.store is not None and hello.epoch > ledger.config.epoch:
            return Refused(
                Code.STALE_EPOCH,
                f"epoch {hello.epoch} has been seen; this coordinator has {ledger.config.epoch}",
                BUSY_RETRY_MS,
            )
        session = ledger.sessions.of_incarnation(hello.incarnation)
        if session is not None and hello.session < session.used:
            # It comes late, from a connection that was given up: what it says is held is long
            # out of date, and leases that it does not name run.
            return Refused(
                Code.UNKNOWN_SESSION,
                f"a HELLO after session {hello.session}; {session.used} has been used since",
                BUSY_RETRY_MS,
            )
        if session is None and len(ledger.sessions) >= SESSIONS_MAX:
            return Refused(Code.BUSY, f"{SESSIONS_MAX} sessions are open", BUSY_RETRY_MS)
        return None

    def _open(self, hello: Hello, now: Now) -> Session:
        timeout_ms = self._ledger.config.session_timeout_ms
        session = Session(hello.incarnation, hello.sidecar, hello.service, timeout_ms)
        session.renew(now.ms)
        self._ledger.sessions.add(session)
        self._save(session)
        return session

    def _know(self, session: Session, hello: Hello) -> None:
        """Learn again whose session it is: its record was damaged."""
        if session.service:
            self._ledger.count("service_changed")  # Which no honest process does.
            return
        session.sidecar, session.service = hello.sidecar, hello.service
        self._save(session)

    def _save(self, session: Session) -> None:
        key = layout.session_key(session.incarnation)
        fields = [session.sidecar, session.service, session.timeout_ms]
        self._ledger.effects.writes[key] = records.encode_list(key, fields)

    def _reconcile(self, now: Now, session: Session, held: list[Lease]) -> list[Lease]:
        """Take back what the sidecar does not hold; return what it holds without a lease."""
        leased = self._ledger.leased
        claimed = set(held)
        lost_on_the_way = [
            task
            for task in leased.values()
            if task.session is session and (task.id, task.token) not in claimed
        ]
        for task in lost_on_the_way:
            self._settlement.give_back(now, task)
        lost = []
        for lease in held:
            holder = leased.get(lease.id)
            if holder is None or holder.token != lease.token or holder.session is not session:
                lost.append(lease)
        return lost

    def declare(self, peer: bytes, session: Session, declarations: list[Declaration]) -> None:
        """Take the handlers that a sidecar serves from now on, and their policies."""
        if len(declarations) > HANDLERS_PER_SESSION_MAX:
            detail = f"{len(declarations)} handlers; the limit is {HANDLERS_PER_SESSION_MAX}"
            self._refuse(peer, Code.TOO_MANY_HANDLERS, detail)
            return
        declared = {}
        for name, changes in declarations:
            try:
                policy = Policy().with_changes(changes)
            except InvalidField as error:
                self._refuse(peer, Code.INVALID_OPTION, f"{name}: {error.detail}")
                continue
            handler = self._ledger.handler(name)
            if handler is None:
                self._refuse(peer, Code.TOO_MANY_HANDLERS, f"no room for a new handler {name}")
                continue
            if handler.declared != policy:
                handler.declare(policy)
                self._ledger.touch(handler)
            declared[name] = handler
        for name, handler in session.handlers.items():
            if name not in declared:
                handler.sessions.discard(session)
                if session.demand(handler) > 0:
                    handler.rotation.remove(session)
                session.limits.pop(handler, None)
        for handler in declared.values():
            handler.sessions.add(session)
        session.handlers = declared

    def _refuse(self, peer: bytes, code: str, detail: str) -> None:
        self._ledger.count(code)
        self._ledger.send(peer, Refused(code, detail, 0))

    def heartbeat(self, now: Now, session: Session, message: Heartbeat) -> Outgoing:
        """Renew a session; the answer waits for no commit."""
        session.renew(now.ms)
        self._granting.running(now, session, message.running)
        self._granting.demand(session, message.limits)
        self._draining.remind(session)
        return Outgoing(session.peer, Beat(session.number, message.clock_ms, session.grant_sent))

    def goodbye(self, now: Now, session: Session, reason: str) -> None:
        """End a session whose sidecar is leaving; what it still holds was not begun."""
        for task in self._leases(session):
            self._settlement.give_back(now, task)
        self._ledger.sessions.remove(session)
        self._end(session, "session_closed", reason)

    def expire(self, now: Now) -> None:
        """End the sessions whose deadline has passed: their leases are lost."""
        for session in self._ledger.sessions.take_expired(now.ms):
            leases = self._leases(session)
            for task in leases:
                self._settlement.lose(now, task)
            self._ledger.count("lease_expired", len(leases))
            self._end(session, "session_expired", f"{len(leases)} leases lost")

    def _leases(self, session: Session) -> list[Task]:
        return [task for task in self._ledger.leased.values() if task.session is session]

    def _end(self, session: Session, event: str, detail: str) -> None:
        ledger = self._ledger
        self._granting.withdraw(session)
        for handler in session.handlers.values():
            handler.sessions.discard(session)
        ledger.waits.drop_session(session)
        ledger.effects.writes[layout.session_key(session.incarnation)] = None
        ledger.count(event)
        ledger.note(event, sidecar=session.sidecar, service=session.service, detail=detail)
