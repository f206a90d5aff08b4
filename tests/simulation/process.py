"""Processes that can be stopped, continued and killed at any moment."""

from tests.simulation.world import MS, Action, World

STILL_WAKING = 220 * MS
"""For so long after it was stopped a process may not have caught up with what it slept through.

Longer than handlers take to stop: one that is told so on waking has not stopped before.
"""


class Process:
    """One process: what reaches it while it is stopped waits, what reaches it dead is gone."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = False
        self._woke_at = -(10**12)
        self._waiting: list[Action] = []

    def run(self, action: Action) -> None:
        """Do something in the process, as soon as it runs."""
        if not self.alive:
            return
        if self.stopped:
            self._waiting.append(action)
        else:
            action()

    def stop(self) -> None:
        """SIGSTOP."""
        self.world.note(f"{self.name} stopped")
        self.stopped = True

    def wake(self) -> None:
        """SIGCONT."""
        if not self.stopped or not self.alive:
            return
        self.world.note(f"{self.name} goes on")
        self.stopped = False
        self._woke_at = self.world.now
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            self.run(action)

    def kill(self) -> None:
        """SIGKILL."""
        self.world.note(f"{self.name} dies")
        self.alive = False
        if self.stopped:
            self.stopped = False
            self._woke_at = self.world.now
        self._waiting.clear()

    def slept_since(self, time_us: int) -> bool:
        """Tell whether it was stopped at any time since then."""
        return self.stopped or self._woke_at >= time_us

    @property
    def asleep(self) -> bool:
        """Whether it is stopped, or was a moment ago: it may not have kept its deadlines."""
        return self.stopped or self.world.now - self._woke_at < STILL_WAKING
