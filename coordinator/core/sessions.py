"""Sessions: the live association of one sidecar process with this shard.

A session belongs to the incarnation of a sidecar, and leases live and die with it. It is kept in
the store, so that a coordinator that starts gives every sidecar one full timeout to come back.
Its deadline is the coordinator's: the sidecar gives up one margin before the timeout, this side
waits one margin after it, counted from what it received, which is later than what was sent.
"""

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.core.drains import Drain
    from coordinator.core.handler import Handler

MARGIN_MS_MIN = 250


def margin_ms(timeout_ms: int) -> int:
    """Return how far the two sides' deadlines stay away from the timeout."""
    return max(timeout_ms // 10, MARGIN_MS_MIN)


class Session:
    """One session.

    Invariant: ``granted[h] <= limits[h]`` whenever a grant of handler ``h`` has just been made.
    """

    __slots__ = (
        "deadline_ms",
        "drain",
        "drain_told",
        "grant_number",
        "grant_sent",
        "granted",
        "handlers",
        "incarnation",
        "leases",
        "limits",
        "number",
        "peer",
        "service",
        "sidecar",
        "timeout_ms",
        "used",
        "waits",
    )

    def __init__(self, incarnation: bytes, sidecar: str, service: str, timeout_ms: int) -> None:
        self.incarnation = incarnation
        self.sidecar = sidecar
        self.service = service
        self.timeout_ms = timeout_ms
        self.number = 0
        """Number of the latest WELCOME; 0 while none has been sent by this process."""
        self.used = 0
        """The latest number that the sidecar is known to have been welcomed by."""
        self.peer = b""
        self.deadline_ms = 0
        self.handlers: dict[str, Handler] = {}
        """Those it serves."""
        self.limits: dict[Handler, int] = {}
        """Demand: the running total that it will take."""
        self.granted: dict[Handler, int] = {}
        """How much of it was granted since the latest WELCOME."""
        self.leases = 0
        """How many it holds."""
        self.grant_number = 0
        self.grant_sent = 0
        """The last grant whose commit is done and which has been sent."""
        self.waits = 0
        """Open waits for tasks to end."""
        self.drain: Drain | None = None
        """An operator keeps it from getting tasks: the drain of its sidecar's name."""
        self.drain_told = False
        """Whether it has been told of one since the latest WELCOME, or of its end."""

    def renew(self, now_ms: int) -> None:
        """Move the deadline: the sidecar has been heard."""
        self.deadline_ms = now_ms + self.timeout_ms + margin_ms(self.timeout_ms)

    def welcome(self, number: int, peer: bytes) -> None:
        """Begin to count anew under a new number, for a connection that has just said HELLO."""
        self.number = number
        self.peer = peer
        self.limits.clear()
        self.granted.clear()
        self.grant_number = 0
        self.grant_sent = 0
        self.drain_told = False

    def demand(self, handler: "Handler") -> int:
        """Return how many more tasks of a handler it will take."""
        return self.limits.get(handler, 0) - self.granted.get(handler, 0)


class Sessions:
    """All sessions, by incarnation and by connection."""

    def __init__(self) -> None:
        self._by_incarnation: dict[bytes, Session] = {}
        self._by_peer: dict[bytes, Session] = {}
        self._deadlines: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._by_incarnation)

    @property
    def timeout_ms_max(self) -> int:
        """The longest timeout of all sessions."""
        return max((session.timeout_ms for session in self._by_incarnation.values()), default=0)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_incarnation.values())

    def of_peer(self, peer: bytes) -> Session | None:
        """Return the session of a connection."""
        return self._by_peer.get(peer)

    def of_incarnation(self, incarnation: bytes) -> Session | None:
        """Return the session of a sidecar process."""
        return self._by_incarnation.get(incarnation)

    def of_sidecar(self, name: str) -> list[Session]:
        """Return the sessions of all sidecars that have a name."""
        return [session for session in self if session.sidecar == name]

    def add(self, session: Session) -> None:
        """Take a session; its deadline must be set."""
        self._by_incarnation[session.incarnation] = session
        heapq.heappush(self._deadlines, (session.deadline_ms, session.incarnation))

    def connect(self, session: Session, peer: bytes, number: int) -> None:
        """Bind a session to the connection from which its HELLO came."""
        self.disconnect(session)
        session.welcome(number, peer)
        self._by_peer[peer] = session

    def remove(self, session: Session) -> None:
        """Forget a session."""
        self._by_incarnation.pop(session.incarnation, None)
        self.disconnect(session)

    def disconnect(self, session: Session) -> None:
        """Take nothing more for a session from its connection: it must greet again."""
        if self._by_peer.get(session.peer) is session:
            del self._by_peer[session.peer]

    def next_ms(self) -> int | None:
        """Return when the next deadline may pass; never later than it does."""
        return self._deadlines[0][0] if self._deadlines else None

    def take_expired(self, now_ms: int) -> list[Session]:
        """Remove and return the sessions whose deadline has passed."""
        expired = []
        heap = self._deadlines
        while heap and heap[0][0] <= now_ms:
            _, incarnation = heapq.heappop(heap)
            session = self._by_incarnation.get(incarnation)
            if session is None:
                continue
            if session.deadline_ms > now_ms:
                heapq.heappush(heap, (session.deadline_ms, incarnation))
            else:
                self.remove(session)
                expired.append(session)
        return expired
