"""Hop S as hostile as ZeroMQ over TCP may be.

On one connection messages arrive in order and once, or not at all. When a connection breaks, each
side learns of it at its own time; what was under way is lost, or arrives late: after messages of
the next connection, as data does that the kernel goes on to repeat after a socket was closed. Some
of it arrives a second time. A direction may be blocked while the other works.
"""

from collections import deque
from typing import TYPE_CHECKING

from protocol import codec
from protocol.messages import Grant, Message
from tests.simulation.world import MS, SECOND, World

if TYPE_CHECKING:
    from tests.simulation.coordinator_process import CoordinatorProcess
    from tests.simulation.sidecar_process import SidecarProcess

REPLAYED = 6


class Path:
    """The way between one host and the coordinator: latency, and blocks of either direction."""

    def __init__(self, world: World, latency_us: int) -> None:
        self._world = world
        self._latency_us = latency_us
        self.waiting_max = world.rng.choice((3, 60, 60))
        """Messages that the coordinator's socket keeps for a sidecar that does not take them."""
        self.up_blocked_until = 0
        self.down_blocked_until = 0
        self.sticks = False
        """Whether the first data of a new connection may be held up alone, as TCP does that waits
        longer and longer before it sends again: the next connection overtakes it."""
        self.loses_grants = False
        """Whether a GRANT may vanish on a connection that stands: its numbers must tell."""

    def delay(self) -> int:
        """Return how long the next message takes."""
        rng = self._world.rng
        slow = 20 if rng.random() < 0.01 else 1
        return int(self._latency_us * slow * (0.5 + rng.random()))

    def block(self, *, up: int, down: int) -> None:
        """Block the directions until these times."""
        self.up_blocked_until = max(self.up_blocked_until, up)
        self.down_blocked_until = max(self.down_blocked_until, down)

    def keep_grants(self) -> None:
        """Lose no more of them."""
        self.loses_grants = False

    def unstick(self) -> None:
        """Hold up no more."""
        self.sticks = False

    @property
    def clear(self) -> bool:
        """Whether a handshake gets through."""
        now = self._world.now
        return now >= self.up_blocked_until and now >= self.down_blocked_until

    def heal(self) -> None:
        """Let everything through."""
        self.up_blocked_until = self.down_blocked_until = 0
        self.loses_grants = self.sticks = False


class Wire:
    """One connection from a sidecar's DEALER to the coordinator's ROUTER."""

    def __init__(
        self, path: Path, sidecar: "SidecarProcess", coordinator: "CoordinatorProcess", peer: bytes
    ) -> None:
        self._world = sidecar.world
        self._path = path
        self.sidecar = sidecar
        self.coordinator = coordinator
        self.peer = peer
        self.sidecar_end = True
        """Whether the sidecar believes in it."""
        self.coordinator_end = True
        """Whether the coordinator believes in it."""
        self._cut = False
        self._stuck_until = 0
        if path.sticks and self._world.chance(0.5):
            self._world.hit("connection_stuck")
            self._stuck_until = self._world.now + self._world.between(SECOND // 2, 8 * SECOND)
        self._up: deque[tuple[int, bytes]] = deque()
        self._down: deque[tuple[int, bytes]] = deque()
        self._lately: deque[bytes] = deque(maxlen=REPLAYED)

    # --- Up ------------------------------------------------------------------------------------

    def send_up(self, message: Message) -> None:
        """Send from the sidecar."""
        if self._cut:
            return
        data = codec.encode(message)
        self._world.note(f"{self.sidecar.name} >", message, data)
        at = max(self._world.now + self._path.delay(), self._stuck_until)
        if self._up:
            at = max(at, self._up[-1][0])
        self._up.append((at, data))
        if len(self._up) == 1:
            self._world.at(at, self._pump_up)

    def _pump_up(self) -> None:
        now = self._world.now
        if now < self._path.up_blocked_until:
            self._world.at(self._path.up_blocked_until, self._pump_up)
            return
        arrived = []
        while self._up and self._up[0][0] <= now:
            arrived.append(self._up.popleft()[1])
        if self._up:
            self._world.at(self._up[0][0], self._pump_up)
        if arrived and self.coordinator_end:
            self._lately.extend(arrived)
            self.coordinator.run(lambda: self.coordinator.receive(self, arrived))

    # --- Down ----------------------------------------------------------------------------------

    def send_down(self, message: Message, data: bytes) -> bool:
        """Send from the coordinator; return False if the socket does not take it."""
        if not self.coordinator_end or len(self._down) >= self._path.waiting_max:
            return False
        if self._cut:
            return True
        if self._path.loses_grants and type(message) is Grant and self._world.chance(0.3):
            self._world.hit("grant_vanished")
            return True
        again = self._path.loses_grants and type(message) is Grant and self._world.chance(0.3)
        at = self._world.now + self._path.delay()
        if self._down:
            at = max(at, self._down[-1][0])
        self._down.append((at, data))
        if again:
            self._world.hit("grant_came_twice")
            self._down.append((at, data))
        if len(self._down) == 1 + again:
            self._world.at(at, self._pump_down)
        return True

    def _pump_down(self) -> None:
        now = self._world.now
        if now < self._path.down_blocked_until:
            self._world.at(self._path.down_blocked_until, self._pump_down)
            return
        if self.sidecar.stopped and self.sidecar.alive:
            # It does not read: what is sent stays with the coordinator's socket.
            self._world.after(20 * MS, self._pump_down)
            return
        arrived = []
        while self._down and self._down[0][0] <= now:
            arrived.append(self._down.popleft()[1])
        if self._down:
            self._world.at(self._down[0][0], self._pump_down)
        if arrived and self.sidecar_end:
            self.sidecar.receive(self, arrived)

    # --- The end -------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break: each side learns of it in its own time."""
        if self._cut:
            return
        self._world.note(f"{self.sidecar.name} wire cut")
        rng = self._world.rng
        self._cut = True
        self._world.after(rng.randrange(500 * MS), self._sidecar_sees)
        if rng.random() < 0.5:
            self._down.clear()
        self._leave_behind()

    def close(self) -> None:
        """Give it up on the sidecar's side, or because the sidecar has died."""
        self.sidecar_end = False
        if not self._cut:
            self._cut = True
            self._leave_behind()

    def coordinator_died(self) -> None:
        """End with the coordinator's process."""
        self.coordinator_end = False
        self._up.clear()
        if not self._cut:
            self._cut = True
            at = max(self._world.now + self._path.delay(), self._path.down_blocked_until)
            self._world.at(at, self._sidecar_sees)

    def _leave_behind(self) -> None:
        """Lose what is on its way up, or let it arrive late; some of it again."""
        world, rng = self._world, self._world.rng
        late_us = 0
        if self._up and rng.random() < 0.5:
            late_us = world.between(0, 4 * SECOND)
            at = max(world.now, self._path.up_blocked_until, self._stuck_until) + late_us
            late_us = at - world.now
            self._up = deque((at, data) for _, data in self._up)
            world.at(at, self._pump_up)
            world.hit("arrived_late_from_old_connection")
        else:
            self._up.clear()
        if self._lately and rng.random() < 0.15:
            again = [data for data in self._lately if rng.random() < 0.5]
            after_us = world.between(0, 4 * SECOND)
            late_us = max(late_us, after_us)
            world.after(after_us, lambda: self._replay(again))
        world.after(late_us + rng.randrange(1, SECOND), self._coordinator_sees)

    def _replay(self, again: list[bytes]) -> None:
        if again and self.coordinator_end:
            self._world.hit("arrived_twice")
            self.coordinator.run(lambda: self.coordinator.receive(self, again))

    def _coordinator_sees(self) -> None:
        self.coordinator_end = False

    def _sidecar_sees(self) -> None:
        if self.sidecar_end:
            self.sidecar_end = False
            self.sidecar.run(lambda: self.sidecar.wire_broke(self))
