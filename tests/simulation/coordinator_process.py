"""One process of the coordinator: the real core in a shell of simulated time.

The shell does what ``coordinator/runtime.py`` does, in the same order: one commit in flight, then
reads, then messages, then ``Sent``, ``Undelivered`` and ``Answered``.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordinator.core.config import Config
from coordinator.core.effects import Effects, GetMany, Now, Outgoing, Read
from coordinator.core.layout import payload_key
from coordinator.core.operations import Operation
from coordinator.core.payloads import fill
from coordinator.core.shard import (
    Answered,
    Operated,
    Received,
    Sent,
    Shard,
    StoreLevel,
    Tick,
    Undelivered,
)
from coordinator.runtime import SLEEP_MS_MAX
from protocol import codec
from tests.simulation.network import Wire
from tests.simulation.process import Process
from tests.simulation.world import MS, SECOND, Alarm, Clock, World

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.disk import Disk

UNDER_WAY = 4
"""Commits that may still hold submissions from before the disk was full."""
LOOP_US = (30, 300)
"""What a turn of the event loop may take: the longer it is, the more comes in one."""


class CoordinatorProcess(Process):
    """A coordinator from its start to its end.

    Args:
        world: The world.
        disk: Its disk; taking it raises the epoch.
        clock: The machine's elapsed clock.
        wall_ms: The machine's time of day.
        checks: What watches.
        config: Retention and timeout, by name.
        failed: Called when it must end because a commit failed.
    """

    def __init__(
        self,
        world: World,
        disk: "Disk",
        *,
        clock: Clock,
        wall_ms: Callable[[], int],
        checks: "Checks",
        config: dict[str, int],
        failed: Callable[[], None],
    ) -> None:
        disk.epoch += 1
        super().__init__(world, f"coordinator.{disk.epoch}")
        self._disk = disk
        self._clock = clock
        self._wall_ms = wall_ms
        self._checks = checks
        self._failed = failed
        self.epoch = disk.epoch
        self.shard = Shard(Config(store=disk.uuid, epoch=disk.epoch, **config))
        self.wires: dict[bytes, Wire] = {}
        self.serving = False
        self._alarm = Alarm(world, self.name, lambda: self.run(self._ring))
        self._busy = False
        self._turn_due = False
        self._committing: Effects | None = None
        self._operations: set[int] = set()
        """Orders that have no answer."""
        self._refusal = ""
        self._refused_for = 0
        """Commits since it knows that its disk is full."""
        self._measured_at = -SECOND
        self._peers = 0
        self._loop_us = world.rng.choice(LOOP_US)
        self._turn_soon()

    @property
    def pairs(self) -> dict[bytes, bytes]:
        """What its store holds."""
        return self._disk.pairs

    def now(self) -> Now:
        """Read both clocks."""
        return Now(self._clock.ms(self.world.now), self._wall_ms())

    # --- Connections ---------------------------------------------------------------------------

    def connect(self, wire: Wire) -> None:
        """Take a connection."""
        self.wires[wire.peer] = wire

    def new_peer(self) -> bytes:
        """Return a routing id, as ZeroMQ makes them."""
        self._peers += 1
        return b"\0" + self._peers.to_bytes(4, "big")

    def receive(self, wire: Wire, arrived: list[bytes]) -> None:
        """Take messages of one connection."""
        for data in arrived:
            message = codec.decode(data)
            self._checks.received(wire, message)
            answer = self.shard.step(self.now(), Received(wire.peer, message))
            if answer is not None:
                self._send(answer)
        self._turn_soon()

    def operate(self, number: int, operation: Operation) -> None:
        """Take an operation over HTTP; its answer is seen by the checks."""
        if self.serving:
            self.world.note(f"{self.name} operated", operation)
            self._operations.add(number)
            self.shard.step(self.now(), Operated(number, operation))
            self._turn_soon()

    # --- The loop ------------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if not self._busy and not self._turn_due:
            self._turn_due = True
            self.world.after(self._loop_us, self._turn_if_it_runs)

    def _turn_if_it_runs(self) -> None:
        self.run(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self._busy:
            return
        effects = self.shard.flush(self.now())
        if effects:
            self._carry_out(effects)
        else:
            if not self.serving:
                self._measure()
                self.serving = True
                self._checks.scan_soon()
            self._checks.idle(self)
            due_ms = self.shard.next_due_ms(self.now())
            if due_ms is None:
                self._alarm.set(None)
            else:
                self._alarm.set(self.world.now + min(due_ms, SLEEP_MS_MAX) * MS)

    def _ring(self) -> None:
        self.shard.step(self.now(), Tick())
        self._turn_soon()

    # --- Effects -------------------------------------------------------------------------------

    def _carry_out(self, effects: Effects) -> None:
        self._busy = True
        self._checks.flushed(self, effects)
        self._refused_for = self._refused_for + 1 if self._refusal else 0
        if self._refused_for > UNDER_WAY:
            self._checks.refuses(effects)
        reads: list[Read] = [ask.read for ask in effects.reads]
        reads += [
            GetMany([payload_key(task_id) for task_id in outgoing.payloads])
            for outgoing in effects.messages
            if outgoing.payloads
        ]
        if effects.writes or reads:
            self._committing = effects
            self.world.after(
                self._disk.takes_us(effects.writes), lambda: self._stored(effects, reads)
            )
        else:
            self._finish(effects, [])

    def _stored(self, effects: Effects, reads: list[Read]) -> None:
        """Let the disk finish, whether the process runs or is stopped."""
        if not self.alive:
            return
        self._committing = None
        if effects.writes:
            if self._disk.fails():
                kept = self.world.chance(0.5)
                if kept:
                    self._disk.write(effects.writes)
                self.world.hit("commit_unknown_kept" if kept else "commit_unknown_lost")
                self.world.note(f"{self.name} commit fails", f"kept: {kept}")
                self.run(self._failed)
                return
            self._disk.write(effects.writes)
        results = self._disk.read(reads)
        self.run(lambda: self._finish(effects, results))

    def _finish(self, effects: Effects, results: list[Any]) -> None:
        """Send, and tell the core what was read and sent."""
        payloads: dict[bytes, bytes] = {}
        for found in results[len(effects.reads) :]:
            payloads.update(found)
        undelivered = [
            outgoing
            for outgoing in effects.messages
            if not self._send(fill(outgoing, payloads).outgoing if outgoing.payloads else outgoing)
        ]
        if effects.messages:
            self.shard.step(self.now(), Sent(effects))
            for outgoing in undelivered:
                self.shard.step(self.now(), Undelivered(outgoing))
        for number, answer in effects.results:
            self._operations.discard(number)
            self._checks.answered_operation(number, answer)
        for ask, result in zip(effects.reads, results, strict=False):
            self.shard.step(self.now(), Answered(ask.number, result))
        may_differ = effects.writes or (self._refusal and effects.messages)
        if may_differ and self.world.now - self._measured_at > SECOND:
            self._measure()
        self._busy = False
        self._turn()

    def _send(self, outgoing: Outgoing) -> bool:
        wire = self.wires.get(outgoing.peer)
        if wire is None:
            return False
        self._checks.sent(self, wire, outgoing.message)
        data = codec.encode(outgoing.message)
        self.world.note(f"{self.name} > {wire.sidecar.name}", outgoing.message, data)
        return wire.send_down(outgoing.message, data)

    def _measure(self) -> None:
        self._measured_at = self.world.now
        self._refusal = self._disk.refusal
        self.shard.step(self.now(), StoreLevel(self._refusal))

    # --- The end -------------------------------------------------------------------------------

    def kill(self) -> None:
        """Die; a commit under way is lost, or kept though nobody saw its answer."""
        super().kill()
        committing, self._committing = self._committing, None
        if committing is not None and committing.writes:
            kept = self.world.chance(0.5)
            self.world.hit("crash_in_commit_kept" if kept else "crash_in_commit_lost")
            if kept:
                self._disk.write(committing.writes)
        for wire in self.wires.values():
            wire.coordinator_died()
        self._checks.unanswered(self._operations)
        self._checks.ended(self)
