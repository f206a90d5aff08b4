"""What sidecars and apps do to a coordinator: seeded, and remembering what was promised to them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coordinator.core.effects import Now, Outgoing
from protocol import messages as m
from protocol.submission import encode_batch
from tests.crash_images.shell import Shell
from tests.support.builders import FIRST_MS, a_hello

SERVICES = ("email", "image")
HANDLERS = {service: [f"{service}.{name}" for name in ("send", "make")] for service in SERVICES}
POLICY = {"attempts_max": 3}
RETENTION_MS = 60_000
TIMEOUT_MS = 10_000
HELD_MAX = 60
BACKLOG_MAX = 150
"""Tasks that wait; beyond it fewer are submitted, so that the store stays small."""


class Clock:
    """Both clocks of the coordinator; only what moves them moves."""

    def __init__(self) -> None:
        self.now = Now(5_000_000, FIRST_MS)

    def __call__(self) -> Now:
        return self.now

    def advance(self, ms: int) -> None:
        """Move on."""
        self.now = Now(self.now.ms + ms, self.now.wall_ms + ms)


@dataclass
class Peer:
    """One sidecar process, as far as its coordinator knows it."""

    number: int
    service: str
    incarnation: bytes
    held: dict[bytes, int] = field(default_factory=dict)
    """Leases: token by task."""
    demand: dict[str, int] = field(default_factory=dict)
    outcomes: int = 0
    session: int = 0
    """The number in its latest WELCOME."""
    heard_ms: int = 0

    @property
    def routing_id(self) -> bytes:
        """The name of its connection."""
        return b"peer-%d" % self.number

    def hello(self) -> m.Hello:
        """Return its HELLO, which names what it holds."""
        held = [m.Lease(*lease) for lease in self.held.items()]
        return a_hello(
            sidecar=f"host-{self.number}",
            incarnation=self.incarnation,
            service=self.service,
            session=self.session,
            held=held,
        )


class Promises:
    """What has been told to peers, for those who check it later."""

    def accepted(self, task: m.Submission) -> None:
        """A task was accepted."""

    def recorded(self, outcome: m.Outcome) -> None:
        """An outcome was recorded."""

    def granted(self, task: m.GrantedTask) -> None:
        """A lease was granted."""


class Traffic:
    """Two sidecars and their apps.

    Args:
        seed: Decides everything.
        clock: Moved by the traffic.
        promises: Told what the coordinator has answered.
    """

    def __init__(self, seed: int, clock: Clock, promises: Promises | None = None) -> None:
        self.clock = clock
        self.peers = [self._peer(i, service) for i, service in enumerate(SERVICES)]
        self.unanswered: dict[int, list[m.Submission]] = {}
        """Submitted batches by request, until their verdict."""
        self.unrecorded: dict[tuple[bytes, int], list[m.Outcome]] = {}
        """Reported outcomes by peer and message, until their record."""
        self.refused: dict[str, int] = {}
        self._rng = random.Random(seed)
        self.promises = promises or Promises()
        self._tasks = 0
        self._request = 0
        self._waiting = 0
        self._processes = len(SERVICES)

    def _peer(self, number: int, service: str) -> Peer:
        return Peer(number, service, number.to_bytes(2, "big") * 8)

    # Rounds

    async def greet(self, shell: Shell) -> None:
        """Open or resume all sessions, and send what was not answered once more."""
        for peer in self.peers:
            await self._greet(shell, peer)

    async def _greet(self, shell: Shell, peer: Peer) -> None:
        peer.demand = {}
        await self._say(shell, peer, peer.hello())
        if not peer.session:
            return
        messages: list[m.Message] = [
            m.Handlers(
                [m.Declaration(name, {"attempts_max": 3}) for name in HANDLERS[peer.service]]
            )
        ]
        messages += [
            m.Outcomes(number, outcomes)
            for (routing_id, number), outcomes in self.unrecorded.items()
            if routing_id == peer.routing_id
        ]
        if peer is self.peers[0]:  # All apps submit through the first one.
            messages += [
                m.Submit([m.Batch(request, encode_batch(tasks))])
                for request, tasks in self.unanswered.items()
            ]
        await self._say(shell, peer, *messages)

    async def round(self, shell: Shell) -> None:
        """Let something happen."""
        rng = self._rng
        peer = rng.choice(self.peers)
        messages: list[m.Message] = []
        if rng.random() < 0.6:
            messages.append(self._submit())
            peer = self.peers[0]
        if rng.random() < 0.7 and peer.held:
            messages.append(self._report(peer))
        if rng.random() < 0.6:
            messages.append(self._demand(peer))
        if rng.random() < 0.2:
            messages.append(self._beat(peer))
        await self._say(shell, peer, *messages)
        if rng.random() < 0.04:
            await self._replace(shell, peer)
        elif rng.random() < 0.04:
            await self._greet(shell, peer)
        self.clock.advance(rng.choice((0, 1, 7, 300, 2_000, 9_000)))
        await shell.tick()
        self._take(shell)
        for other in self.peers:
            if self.clock.now.ms - other.heard_ms > TIMEOUT_MS // 2 and rng.random() < 0.8:
                await self._say(shell, other, self._beat(other))
        if rng.random() < 0.02:
            self.clock.advance(RETENTION_MS)
            await shell.tick()
            self._take(shell)

    async def finish(self, shell: Shell, ended: Callable[[], bool], rounds_max: int) -> bool:
        """Let everything succeed; return whether all had ended in so many rounds."""
        for _ in range(rounds_max):
            if ended():
                return True
            for peer in self.peers:
                messages: list[m.Message] = [self._beat(peer)]
                if peer.held:
                    messages.append(self._report(peer, succeed=True))
                for handler in HANDLERS[peer.service]:
                    peer.demand[handler] = peer.demand.get(handler, 0) + 100
                messages.append(m.Demand([m.Limit(*item) for item in peer.demand.items()]))
                await self._say(shell, peer, *messages)
            self.clock.advance(2_000)
            await shell.tick()
            self._take(shell)
        return ended()

    def forget(self, shell: Shell) -> None:
        """Take what has left before the shell's end; nothing more will come of it."""
        self._take(shell)

    async def _say(self, shell: Shell, peer: Peer, *messages: m.Message) -> None:
        peer.heard_ms = self.clock.now.ms
        await shell.say(peer.routing_id, *messages)
        if self._take(shell):
            await self._greet(shell, peer)

    async def _replace(self, shell: Shell, peer: Peer) -> None:
        """Let a sidecar end, with or without a goodbye, and another take its place."""
        if self._rng.random() < 0.5:
            await shell.say(peer.routing_id, m.Goodbye("stopping"))
            self._take(shell)
        self.unrecorded = {k: v for k, v in self.unrecorded.items() if k[0] != peer.routing_id}
        successor = self._peer(self._processes, peer.service)
        self._processes += 1
        self.peers[self.peers.index(peer)] = successor
        await self._greet(shell, successor)

    # What peers say

    def _submit(self) -> m.Submit:
        rng = self._rng
        count = rng.choice((1, 2, 5, 12)) if self._waiting < BACKLOG_MAX else 1
        tasks = [self._task() for _ in range(count)]
        if rng.random() < 0.05:
            tasks.append(tasks[0])
        self._request += 1
        self.unanswered[self._request] = tasks
        return m.Submit([m.Batch(self._request, encode_batch(tasks))])

    def _task(self) -> m.Submission:
        rng = self._rng
        self._tasks += 1
        task_id = (
            (self.clock.now.wall_ms << 80) | (0x7 << 76) | (0b10 << 62) | rng.getrandbits(62)
        ).to_bytes(16, "big")
        options: dict[str, Any] = {}
        if rng.random() < 0.2:
            options["delay_ms"] = rng.choice((1, 500, 5_000, 40_000))
        if rng.random() < 0.2:
            options["priority"] = rng.randrange(4)
        if rng.random() < 0.1:
            options["expires_ms"] = rng.choice((1, 3_000, 60_000))
        handler = rng.choice(HANDLERS[rng.choice(SERVICES)])
        payload = rng.randbytes(rng.choice((0, 20, 100, 300, 900, 1_100, 6_000)))
        return m.Submission(task_id, handler, payload, None, options or None)

    def _report(self, peer: Peer, *, succeed: bool = False) -> m.Outcomes:
        leases = list(peer.held.items())
        if succeed:
            outcomes = [m.Outcome(*lease, m.OutcomeKind.SUCCESS, 1, None) for lease in leases]
        else:
            told = self._rng.sample(leases, self._rng.randint(1, len(leases)))
            outcomes = [self._outcome(*lease) for lease in told]
        for outcome in outcomes:
            del peer.held[outcome.id]
        peer.outcomes += 1
        self.unrecorded[peer.routing_id, peer.outcomes] = outcomes
        return m.Outcomes(peer.outcomes, outcomes)

    def _outcome(self, task_id: bytes, token: int) -> m.Outcome:
        rng = self._rng
        kinds = list(m.OutcomeKind)
        kind = rng.choices(kinds, (70, 10, 5, 5, 5, 5))[0]
        value: m.Result | m.Failure | None = None
        if kind is m.OutcomeKind.SUCCESS:
            value = m.Result(None, rng.randbytes(40)) if rng.random() < 0.5 else None
        elif kind is not m.OutcomeKind.RETURNED:
            value = m.Failure(
                "ValueError", "not like this", "Traceback ...", rng.choice((None, 50))
            )
        return m.Outcome(task_id, token, kind, rng.randrange(10**6), value)

    def _demand(self, peer: Peer) -> m.Demand:
        for handler in HANDLERS[peer.service]:
            room = HELD_MAX - len(peer.held)
            peer.demand[handler] = peer.demand.get(handler, 0) + self._rng.randint(
                0, max(0, room // 3)
            )
        return m.Demand([m.Limit(*item) for item in peer.demand.items()])

    def _beat(self, peer: Peer) -> m.Heartbeat:
        running = [m.Running(task_id, token, 10) for task_id, token in list(peer.held.items())[:2]]
        limits = [m.Limit(*item) for item in peer.demand.items()]
        return m.Heartbeat(self.clock.now.ms, limits, running)

    # What peers are told

    def _take(self, shell: Shell) -> bool:
        """Take what was sent; return whether a session is gone and must be opened again."""
        sent, shell.sent = shell.sent, []
        gone = False
        for outgoing in sent:
            peer = next((p for p in self.peers if p.routing_id == outgoing.peer), None)
            if peer is not None:
                gone = self._told(peer, outgoing) or gone
        return gone

    def _told(self, peer: Peer, outgoing: Outgoing) -> bool:
        match outgoing.message:
            case m.Welcome(session=session, resumed=resumed, lost=lost):
                peer.session = session
                for task_id, _ in lost:
                    peer.held.pop(task_id, None)
                if not resumed:
                    peer.held.clear()
            case m.Accepted(verdicts):
                for verdict in verdicts:
                    self._verdict(verdict)
            case m.Grant(groups=groups):
                self._granted(peer, groups)
            case m.Recorded():
                self._recorded(peer, outgoing.message)
            case m.Refused(code=code):
                self.refused[code] = self.refused.get(code, 0) + 1
                return code == "unknown_session"
            case _:
                pass
        return False

    def _granted(self, peer: Peer, groups: list[m.Group]) -> None:
        for handler, tasks in groups:
            assert handler in HANDLERS[peer.service], handler
            for task in tasks:
                peer.held[task.id] = task.token
                self._waiting -= 1
                self.promises.granted(task)

    def _recorded(self, peer: Peer, message: m.Recorded) -> None:
        outcomes = self.unrecorded.pop((peer.routing_id, message.number), [])
        refused = {place for place, _ in message.exceptions}
        for place, outcome in enumerate(outcomes):
            if place not in refused:
                self.promises.recorded(outcome)

    def _verdict(self, verdict: m.Verdict) -> None:
        tasks = self.unanswered.pop(verdict.request, None)
        if tasks is None or verdict.code is not None:
            return
        refused = {rejection.place for rejection in verdict.rejections}
        for place, task in enumerate(tasks):
            if place not in refused:
                self._waiting += 1
                self.promises.accepted(task)
