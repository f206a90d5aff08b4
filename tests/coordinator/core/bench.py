"""A shard on a bench: a dictionary for a store, clocks moved by hand, commits held on request.

``Bench`` is the shell of ``coordinator.runtime`` without its sockets and its disk: it carries out
effects in the same order. After every commit the store is audited, so that each test of one
promise watches over all promises of the layout too.
"""

from typing import Any

import pytest

from coordinator.core import (
    calendar,
    dropping,
    granting,
    layout,
    ledger,
    ready_queue,
    records,
    recovery,
    submissions,
    timers,
)
from coordinator.core.config import Config
from coordinator.core.effects import Effects, GetMany, Note, Now, Outgoing, Read
from coordinator.core.operations import Done, Operation, Refusal
from coordinator.core.payloads import fill
from coordinator.core.shard import (
    Answered,
    Event,
    NotFilled,
    Operated,
    Received,
    Sent,
    Shard,
    Tick,
    Undelivered,
)
from protocol.messages import Message
from tests.coordinator.core.audit import Audit
from tests.support.builders import FIRST_MS

STORE = bytes(range(100, 116))
ROUNDS_MAX = 1000


class Bench:
    """One shard, its store, and what it has sent.

    Args:
        audited: Whether to audit the store after each commit; off for large or damaged stores.
        config: Settings of the shard beside store and epoch.
    """

    def __init__(self, *, audited: bool = True, **config: Any) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.now = Now(5_000_000, FIRST_MS)
        self.audited = audited
        self.config = config
        self.epoch = 0
        self.sent: list[Outgoing] = []
        """Everything that has left, in order; payloads stored apart are put in."""
        self.reads: list[Read] = []
        self.notes: list[Note] = []
        self.results: dict[int, Done | Refusal] = {}
        """Answers to operations, by number."""
        self.unreachable: set[bytes] = set()
        """Connections that take nothing."""
        self.held: Effects | None = None
        """Effects whose commit is in flight."""
        self.shard: Shard
        self.start()

    # The process

    def start(self) -> None:
        """Take the store with the next epoch, and recover."""
        self.epoch += 1
        self.shard = Shard(Config(store=STORE, epoch=self.epoch, **self.config))
        for _ in range(ROUNDS_MAX):
            if self.shard.recovered:
                break
            self.flush()
        assert self.shard.recovered, "recovery does not end"
        self.settle()

    def crash(self, *, committed: bool = False) -> None:
        """Drop the shard; a commit in flight took place or not, and nothing of it was sent."""
        if self.held is not None and committed:
            self._commit(self.held)
        self.held = None
        self.start()

    # Time

    def advance(self, ms: int) -> None:
        """Move both clocks, let what is due happen, and carry it out."""
        self.pass_time(ms)
        self.tick()

    def pass_time(self, ms: int, wall_ms: int | None = None) -> None:
        """Move the clocks and do nothing; ``wall_ms`` moves the time of day differently."""
        step = ms if wall_ms is None else wall_ms
        self.now = Now(self.now.ms + ms, self.now.wall_ms + step)

    def tick(self) -> None:
        """Tick as often as the shard asks for it."""
        self.settle()
        for _ in range(ROUNDS_MAX):
            if self.shard.next_due_ms(self.now) != 0:
                return
            self.step(Tick())
            self.settle()
        raise AssertionError("the shard ticks for ever")

    # Events

    def step(self, event: Event) -> None:
        """Apply an event; what may leave at once leaves."""
        answer = self.shard.step(self.now, event)
        if answer is not None:
            self.leave(answer)

    def receive(self, peer: bytes, message: Message) -> None:
        """Let a message arrive."""
        self.step(Received(peer, message))

    def ask_operation(self, number: int, operation: Operation) -> None:
        """Ask for an operation; nothing follows until effects are carried out."""
        self.step(Operated(number, operation))

    def audit_rows(self) -> list[list[Any]]:
        """Return what operators have done, in order, as its rows hold it."""
        return [records.decode_list(key, self.pairs[key]) for key in self.rows(b"a")]

    def operate(self, operation: Operation) -> Done | Refusal:
        """Ask for an operation, let all follow from it, and return the answer."""
        number = len(self.results) + 1
        self.step(Operated(number, operation))
        assert number not in self.results, "answered before it is durable"
        self.settle()
        return self.results[number]

    # Effects

    def settle(self) -> None:
        """Carry out effects until nothing is left to do."""
        for _ in range(ROUNDS_MAX):
            if not self.flush():
                return
        raise AssertionError("the shard never comes to rest")

    def flush(self) -> bool:
        """Carry out one flush; return whether there was anything to do."""
        self.begin()
        return self.finish()

    def begin(self) -> None:
        """Take the effects of a flush; their commit is in flight from now on."""
        assert self.held is None, "one commit is in flight already"
        self.held = self.shard.flush(self.now)

    def finish(self) -> bool:
        """End the commit in flight, read, send; return whether there was anything to do."""
        effects, self.held = self.held, None
        assert effects is not None, "no commit is in flight"
        self._commit(effects)
        results = [self.read(ask.read) for ask in effects.reads]
        after: list[Event] = []
        for outgoing in effects.messages:
            after += self._send(outgoing)
        self.results.update(effects.results)
        if effects.messages:
            self.step(Sent(effects))
        for event in after:
            self.step(event)
        for ask, result in zip(effects.reads, results, strict=True):
            self.step(Answered(ask.number, result))
        return bool(effects)

    def _commit(self, effects: Effects) -> None:
        self.notes += effects.notes
        for key, value in effects.writes.items():
            if value is None:
                self.pairs.pop(key, None)
            else:
                self.pairs[key] = value
        if self.audited and effects.writes:
            problems = self.audit().problems()
            assert not problems, problems

    def read(self, read: Read) -> Any:
        """Perform one read."""
        self.reads.append(read)
        if isinstance(read, GetMany):
            return {key: self.pairs[key] for key in read.keys if key in self.pairs}
        keys = sorted(
            (key for key in self.pairs if read.start <= key < read.end), reverse=read.reverse
        )
        return [(key, self.pairs[key]) for key in keys[: read.limit]]

    def _send(self, outgoing: Outgoing) -> list[Event]:
        """Send a message; return what the shard must be told of it."""
        after: list[Event] = []
        message = outgoing
        if outgoing.payloads:
            message, session, spoiled = fill(outgoing, self.pairs)
            if spoiled:
                after.append(NotFilled(session, spoiled))
        if outgoing.peer in self.unreachable:
            return [*after, Undelivered(outgoing)]
        self.leave(message)
        return after

    def leave(self, outgoing: Outgoing) -> None:
        """Let a message leave."""
        self.sent.append(outgoing)

    # Looking

    def audit(self) -> Audit:
        """Read the store."""
        return Audit(self.pairs)

    def waiting(self) -> int:
        """Return how many ready tasks are in memory: the one look inside there is."""
        return len(self.shard._ledger.waiting)

    def to(self, peer: bytes) -> list[Message]:
        """Return everything that a connection has been sent."""
        return [outgoing.message for outgoing in self.sent if outgoing.peer == peer]

    def noted(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of all notes of one event."""
        return [note.fields for note in self.notes if note.event == event]

    def rows(self, letter: bytes) -> list[bytes]:
        """Return the keys of one kind, in order."""
        return sorted(key for key in self.pairs if key[:1] == letter)


def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every window and page so small that a handful of tasks spills."""
    for module, name, value in (
        (ready_queue, "WINDOW_MAX", 4),
        (ready_queue, "WINDOW_LOW", 2),
        (ready_queue, "ROW_ENTRIES_MAX", 2),
        (layout, "ROW_ENTRIES_MAX", 3),
        (granting, "LOAD_ROWS", 2),
        (granting, "REGATED_MAX", 2),
        (dropping, "ROWS", 1),
        (ledger, "LIVE_MAX", 10),
        (timers, "WINDOW_MAX", 4),
        (timers, "WINDOW_LOW", 2),
        (timers, "LOAD_ROWS", 2),
        (timers, "ROW_ENTRIES_MAX", 2),
        (calendar, "DUE_MAX", 3),
        (calendar, "REMOVE_ROWS", 2),
        (recovery, "PAGE", 2),
        (submissions, "INLINE_BYTES_MAX", 16),
    ):
        monkeypatch.setattr(module, name, value)
