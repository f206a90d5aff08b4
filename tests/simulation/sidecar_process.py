"""One process of a sidecar: the real core in a shell of simulated time.

The shell does what ``sidecar/runtime.py`` and ``sidecar/transport.py`` do: events of one turn, one
flush, and a connection that is made again when it breaks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol import codec
from protocol.messages import Failure, Message, Welcome
from protocol.version import SOFTWARE
from sidecar.core.events import (
    Drain,
    FromCoordinator,
    FromLocal,
    LinkDown,
    LinkUp,
    LocalClosed,
    LocalOpened,
    ProcessEnded,
    SpoolDone,
    SpooledBatch,
    SpoolFailed,
    SpoolWork,
    Stuck,
)
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Identity, Terms
from tests.simulation.duties import Duties
from tests.simulation.network import Path, Wire
from tests.simulation.process import Process
from tests.simulation.spool_disk import SpoolDisk
from tests.simulation.stream import Client, Stream
from tests.simulation.world import MS, Alarm, Clock, World

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.coordinator_process import CoordinatorProcess

LOOP_US = (30, 300)
"""What a turn of the event loop may take: the longer it is, the more comes in one."""
RECONNECT_US = 100 * MS
SERVICE = "svc"


class SidecarProcess(Process):
    """A sidecar from its start to its end.

    Args:
        world: The world.
        name: Its name.
        path: The way to the coordinator.
        coordinator: Returns the process that listens now, if any.
        clock: The machine's elapsed clock.
        terms: Its times and bounds.
        spool: Its spool, if it has one.
        checks: What watches.
        stuck: Called with a supervised process that must end, and whether at once.
        ended: Called when a drain is over.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        path: Path,
        coordinator: "Callable[[], CoordinatorProcess | None]",
        clock: Clock,
        terms: Terms,
        spool: SpoolDisk | None,
        checks: "Checks",
        stuck: Callable[[int, bool], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(world, name)
        self._path = path
        self._coordinator = coordinator
        self._clock = clock
        self._checks = checks
        self._stuck = stuck
        self._ended = ended
        self.incarnation = world.rng.randbytes(16)
        self.spool = spool
        self._spooling: SpoolWork | None = None
        identity = Identity(name, self.incarnation, SERVICE, SOFTWARE)
        self.core = Sidecar(identity, terms, None if spool is None else spool.contents())
        self.wire: Wire | None = None
        self.streams: dict[int, Stream] = {}
        self.duties = Duties(self, terms, checks)
        self.patience_us = (int(1.02 * terms.cancel_grace_ms) + 100) * MS
        """How long after its timeout it waits for an attempt that is silent."""
        self.draining = False
        self._numbers = 0
        self._alarm = Alarm(world, self.name, lambda: self.run(self._flush))
        self._turn_due = False
        self._loop_us = world.rng.choice(LOOP_US)
        self._tries = 0
        self._connect_in(world.rng.randrange(10 * MS))

    def now_ms(self) -> int:
        """Read the clock that counts while the machine sleeps."""
        return self._clock.ms(self.world.now)

    # --- The coordinator -----------------------------------------------------------------------

    def _connect_in(self, delay_us: int) -> None:
        self._tries += 1
        tries = self._tries
        self.world.after(delay_us, lambda: self.run(lambda: self._connect(tries)))

    def _connect(self, tries: int) -> None:
        if self.wire is not None or tries != self._tries:
            return
        coordinator = self._coordinator()
        if coordinator is None or coordinator.stopped or not self._path.clear:
            self._connect_in(RECONNECT_US + self.world.rng.randrange(RECONNECT_US))
            return
        self.wire = Wire(self._path, self, coordinator, coordinator.new_peer())
        coordinator.connect(self.wire)
        self.world.note(f"{self.name} connected")
        self.core.step(self.now_ms(), LinkUp())
        self.turn_soon()

    def wire_broke(self, wire: Wire) -> None:
        """Take note that a connection broke."""
        if self.wire is not wire:
            return
        self.world.note(f"{self.name} link down")
        self.wire = None
        self.core.step(self.now_ms(), LinkDown())
        self.turn_soon()
        self._connect_in(RECONNECT_US + self.world.rng.randrange(RECONNECT_US))

    def receive(self, wire: Wire, arrived: list[bytes]) -> None:
        """Take messages of one connection, unless another has taken its place."""

        def take() -> None:
            if self.wire is wire:
                for data in arrived:
                    message = codec.decode(data)
                    self.core.step(self.now_ms(), FromCoordinator(message))
                    self.duties.took(message)
                    if isinstance(message, Welcome) and not self.core.session_open:
                        self.world.hit("welcome_not_used")
                self.turn_soon()

        self.run(take)

    def _reconnect(self) -> None:
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.close()
        self._connect_in(self._path.delay() * 2)

    # --- Apps and services ---------------------------------------------------------------------

    def open_stream(self, client: Client, process: int = 0) -> Stream:
        """Take a connection on ``sidecar.sock``, from a supervised process or another."""
        self._numbers += 1
        stream = Stream(self.world, self._numbers, self, client)
        self.streams[stream.number] = stream
        self.run(lambda: self._opened(stream, process))
        return stream

    def _opened(self, stream: Stream, process: int) -> None:
        self.core.step(self.now_ms(), LocalOpened(stream.number, process))
        self.turn_soon()

    def from_local(self, stream: Stream, message: Message) -> None:
        """Take a message of an app or service."""
        self.core.step(self.now_ms(), FromLocal(stream.number, message))
        self.turn_soon()

    def stream_closed(self, stream: Stream) -> None:
        """Take note that a connection has ended."""
        self.streams.pop(stream.number, None)
        self.core.step(self.now_ms(), LocalClosed(stream.number))
        self.turn_soon()

    def process_ended(self, process: int) -> None:
        """Take note that a supervised process is gone."""
        self.core.step(self.now_ms(), ProcessEnded(process, Failure("crash", "killed")))
        self.turn_soon()

    def drain(self) -> None:
        """SIGTERM."""
        self.world.note(f"{self.name} drains")
        self.draining = True
        self.duties.drains()
        self.core.step(self.now_ms(), Drain())
        self.turn_soon()

    # --- The loop ------------------------------------------------------------------------------

    def turn_soon(self) -> None:
        """Flush at the end of this turn of the loop, once for all that came in it."""
        if not self._turn_due:
            self._turn_due = True
            self.world.after(self._loop_us, self._turn_if_it_runs)

    def _turn_if_it_runs(self) -> None:
        self.run(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self._flush()

    def _flush(self) -> None:
        effects = self.core.flush(self.now_ms())
        if effects.notes:
            self._checks.sidecar_notes(self, effects.notes)
        if effects.spool is not None and self.spool is not None:
            self._work_on_spool(self.spool, effects.spool)
        if effects.reconnect:
            self._reconnect()
        for event in effects.processes:
            if isinstance(event, Stuck):
                self._stuck(event.process, event.at_once)
        for message in effects.to_coordinator:
            self._checks.sidecar_sends(self, message)
            self.duties.sends(message)
            if self.wire is not None:
                self.wire.send_up(message)
        for number, message in effects.to_local:
            stream = self.streams.get(number)
            if stream is not None:
                self.duties.hands_over(message)
                stream.to_client(message)
        for number in effects.close:
            stream = self.streams.pop(number, None)
            if stream is not None:
                stream.close_sidecar()
                self.stream_closed(stream)
        if effects.stopped:
            self.duties.leaves()
            self._ended()
            return
        self.duties.flushed()
        due_ms = self.core.next_due_ms()
        self._alarm.set(None if due_ms is None else max(self.world.now, self._clock.when(due_ms)))

    # --- The spool -----------------------------------------------------------------------------

    @property
    def spool_at_work(self) -> bool:
        """Whether the disk of its spool is at work for it."""
        return self._spooling is not None

    def _work_on_spool(self, spool: SpoolDisk, work: SpoolWork) -> None:
        assert self._spooling is None, "one piece of work at a time"
        self._spooling = work
        self.world.after(spool.takes_us(), lambda: self._spooled(spool, work))

    def _spooled(self, spool: SpoolDisk, work: SpoolWork) -> None:
        """Let the disk finish, whether the process runs or is stopped."""
        if not self.alive:
            return
        self._spooling = None
        self.duties.spools(spool, work)
        fails = spool.fails(work)
        if not fails or self.world.chance(0.3):
            spool.write(work)
        loaded: list[SpooledBatch] = []
        if work.load_after is not None:
            loaded = spool.load(work.load_after, work.load_bytes_max)
        if loaded:
            self.world.hit("spool_read_back")
        if work.outcome_puts:
            self.world.hit("outcomes_journaled")
        if fails:
            self.run(lambda: self._spool_told(SpoolFailed("disk")))
        else:
            self.run(lambda: self._spool_done(spool, work, loaded))

    def _spool_done(self, spool: SpoolDisk, work: SpoolWork, loaded: list[SpooledBatch]) -> None:
        spool.kept.update([number for number, _ in work.puts])
        self._spool_told(SpoolDone(loaded))

    def _spool_told(self, event: SpoolDone | SpoolFailed) -> None:
        self.core.step(self.now_ms(), event)
        self.turn_soon()

    # --- The end -------------------------------------------------------------------------------

    def kill(self) -> None:
        """Die: every connection ends; work on the spool is lost, or kept though nobody saw it."""
        super().kill()
        if self._spooling is not None and self.spool is not None and self.world.chance(0.5):
            self.spool.write(self._spooling)
        if self.wire is not None:
            self.wire.close()
            self.wire = None
        for stream in self.streams.values():
            stream.close_sidecar()
        self.streams.clear()


def a_terms(world: World) -> Terms:
    """Draw times and bounds."""
    rng = world.rng
    return Terms(
        drain_ms=rng.choice((300, 1_000, 3_000)),
        stop_grace_ms=rng.choice((200, 500)),
        record_ms=rng.choice((500, 2_000)),
        cancel_grace_ms=rng.choice((200, 800)),
        submit_timeout_ms=rng.choice((800, 3_000)),
        submit_bytes_max=rng.choice((6_000, 2**26)),
        submit_bytes_per_connection_max=rng.choice((4_000, 2**24)),
        submit_bytes_in_flight_max=rng.choice((600, 2**23)),
        questions_max=rng.choice((5, 1_000)),
        spool_after_ms=rng.choice((200, 600)),
        spool_bytes_max=rng.choice((5_000, 2**26)),
        spool_window_bytes=rng.choice((500, 2**23)),
        journal_after_ms=rng.choice((50, 500)),
    )
