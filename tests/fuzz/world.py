"""A real shard and a real sidecar core on benches of their own, cheap enough for every batch.

What they emit is checked here: it can be encoded, and what a peer decodes from it is the same.
"""

from collections.abc import Sequence
from typing import Any

from coordinator.core.config import Config
from coordinator.core.effects import GetMany, Now, Outgoing, Read
from coordinator.core.layout import payload_key
from coordinator.core.shard import Answered, Broke, Received, Sent, Shard, Tick
from coordinator.store.memory_store import MemoryDisk
from protocol import codec
from protocol import messages as m
from protocol.errors import ProtocolError
from sidecar.core import events as e
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Identity, Terms
from tests.support.builders import FIRST_MS

ROUNDS_MAX = 200
TIMEOUT_MS = 10_000


class Harmed(Exception):
    """Raised when a frame did what no frame may do."""


def check_sent(message: m.Message) -> None:
    """Check that a peer can read what a core sends.

    Raises:
        Harmed: It cannot.
    """
    try:
        same = codec.decode(codec.encode(message))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise Harmed(f"a {type(message).__name__} cannot be read by its peer: {text}") from error
    if same != message:
        raise Harmed(f"a {type(message).__name__} is read as another message by its peer")


class ShardBench:
    """A shard on a store in memory."""

    def __init__(self) -> None:
        self.now = Now(5_000_000, FIRST_MS)
        self.disk = MemoryDisk()
        self.sent: dict[bytes, list[m.Message]] = {}
        self.shard = Shard(Config(store=self.disk.uuid, epoch=1, session_timeout_ms=TIMEOUT_MS))
        while not self.shard.recovered:
            self._flush()

    def receive(self, peer: bytes, message: m.Message) -> None:
        """Let a message arrive."""
        self._step(Received(peer, message))

    def broke(self, peer: bytes, error: ProtocolError) -> None:
        """Let something arrive that is no message."""
        self._step(Broke(peer, error.code, error.detail))

    def advance(self, ms: int) -> None:
        """Let time pass, and what is due happen."""
        self.now = Now(self.now.ms + ms, self.now.wall_ms + ms)
        for _ in range(ROUNDS_MAX):
            self.settle()
            if self.shard.next_due_ms(self.now) != 0:
                return
            self._step(Tick())
        raise Harmed("the shard ticks for ever")

    def settle(self) -> None:
        """Carry out effects until nothing is left to do."""
        for _ in range(ROUNDS_MAX):
            if not self._flush():
                return
        raise Harmed("the shard never comes to rest")

    def take(self, peer: bytes) -> list[m.Message]:
        """Return, and forget, what a peer was sent."""
        return self.sent.pop(peer, [])

    def _step(self, event: Any) -> None:
        answer = self.shard.step(self.now, event)
        if answer is not None:
            self._send(answer)

    def _flush(self) -> bool:
        effects = self.shard.flush(self.now)
        if not effects:
            return False
        self.disk.write(effects.writes)
        results: Sequence[Any] = [self.disk.read(ask.read) for ask in effects.reads]
        for outgoing in effects.messages:
            self._send(self._filled(outgoing))
        if effects.messages:
            self._step(Sent(effects))
        for ask, result in zip(effects.reads, results, strict=True):
            self._step(Answered(ask.number, result))
        return True

    def _send(self, outgoing: Outgoing) -> None:
        check_sent(outgoing.message)
        self.sent.setdefault(outgoing.peer, []).append(outgoing.message)

    def _filled(self, outgoing: Outgoing) -> Outgoing:
        if not outgoing.payloads:
            return outgoing
        grant = outgoing.message
        assert isinstance(grant, m.Grant)
        read: Read = GetMany([payload_key(i) for i in outgoing.payloads])
        payloads: Any = self.disk.read(read)
        groups = [
            m.Group(
                handler,
                [t._replace(payload=payloads.get(payload_key(t.id), t.payload)) for t in tasks],
            )
            for handler, tasks in grant.groups
        ]
        return outgoing._replace(message=m.Grant(grant.session, grant.number, groups))


class SidecarBench:
    """A sidecar's core; its connections are numbered from 1."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        identity = Identity("host-1", b"i" * 16, "email", "0.1.0")
        self.core = Sidecar(identity, Terms(), e.SpoolContents())
        self._spooled: dict[int, bytes] = {}
        self.to_coordinator: list[m.Message] = []
        self.to_local: dict[int, list[m.Message]] = {}
        self.closed: set[int] = set()
        self._connection = 0

    def step(self, event: e.Event) -> None:
        """Apply one event."""
        self.core.step(self.now_ms, event)

    def open(self) -> int:
        """Open a local connection and return its number."""
        self._connection += 1
        self.step(e.LocalOpened(self._connection))
        return self._connection

    def settle(self) -> None:
        """Flush until nothing is due.

        Raises:
            Harmed: The core wants to be called again and again.
        """
        for _ in range(ROUNDS_MAX):
            self._flush()
            due_ms = self.core.next_due_ms()
            if due_ms is None or due_ms > self.now_ms:
                return
        raise Harmed("the sidecar asks to be called again for ever")

    def advance(self, ms: int) -> None:
        """Let time pass as the shell does."""
        end_ms = self.now_ms + ms
        for _ in range(ROUNDS_MAX):
            self.settle()
            due_ms = self.core.next_due_ms()
            if due_ms is None or due_ms > end_ms:
                break
            self.now_ms = due_ms
        self.now_ms = end_ms
        self.settle()

    def _flush(self) -> None:
        effects = self.core.flush(self.now_ms)
        for message in effects.to_coordinator:
            check_sent(message)
        self.to_coordinator += effects.to_coordinator
        for connection, message in effects.to_local:
            check_sent(message)
            self.to_local.setdefault(connection, []).append(message)
        for connection in effects.close:
            self.closed.add(connection)
            self.step(e.LocalClosed(connection))
        if effects.spool is not None:
            self.step(e.SpoolDone(self._spool(effects.spool)))

    def _spool(self, work: e.SpoolWork) -> list[e.SpooledBatch]:
        self._spooled.update(work.puts)
        for number in work.removes:
            self._spooled.pop(number, None)
        after = work.load_after
        if after is None:
            return []
        return [e.SpooledBatch(n, b, 0) for n, b in sorted(self._spooled.items()) if n > after]

    def said(self) -> list[m.Message]:
        """Return, and forget, what the coordinator was sent."""
        said, self.to_coordinator = self.to_coordinator, []
        return said

    def told(self, connection: int) -> list[m.Message]:
        """Return, and forget, what a local connection was sent."""
        return self.to_local.pop(connection, [])
