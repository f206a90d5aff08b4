"""Simulated time: one queue of events, one source of chance, one trace.

Times are microseconds of true time, which no simulated process can read: each has a clock of its
own. Everything that happens is decided by the seed, so that a run can be repeated exactly.
"""

import random
from collections import Counter, deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush

MS = 1_000
SECOND = 1_000_000
RECENT = 400
"""Events kept to be printed with a failure."""

Action = Callable[[], None]


class Broken(AssertionError):
    """Raised when a promise is broken.

    Args:
        check: Which one, as a short name.
        detail: What was seen.
    """

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check
        self.detail = detail


class World:
    """Time, chance and trace of one run.

    Args:
        seed: Decides everything.
        traced: Whether to compute the hash of the trace, which takes a twentieth of the time.
    """

    def __init__(self, seed: int, *, traced: bool = True) -> None:
        self.now = 0
        self.traced = traced
        self.rng = random.Random(seed)
        self.hits: Counter[str] = Counter()
        """How often each ``sometimes`` point was reached."""
        self.recent: deque[tuple[int, str, object]] = deque(maxlen=RECENT)
        self.echo: Callable[[int, str, object], None] | None = None
        self.events = 0
        self._queue: list[tuple[int, int, Action]] = []
        self._hash = blake2b(digest_size=8)

    # --- Time ----------------------------------------------------------------------------------

    def after(self, delay_us: int, action: Action) -> None:
        """Do something later."""
        self.events += 1
        heappush(self._queue, (self.now + delay_us, self.events, action))

    def at(self, time_us: int, action: Action) -> None:
        """Do something at a time; what was asked for first is done first."""
        self.events += 1
        heappush(self._queue, (time_us if time_us > self.now else self.now, self.events, action))

    def run(self, until_us: int) -> None:
        """Let time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until_us:
            self.now, _, action = heappop(queue)
            action()
        self.now = max(self.now, until_us)

    # --- Chance --------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        """Return True in this share of all cases."""
        return self.rng.random() < share

    def between(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, small ones more often."""
        return low + int((high - low) * self.rng.random() ** 2)

    # --- What is seen --------------------------------------------------------------------------

    def note(self, what: str, detail: object = "", data: bytes = b"") -> None:
        """Add an event to the trace."""
        if self.traced:
            self._hash.update(b"%d %s " % (self.now, what.encode()))
            self._hash.update(data)
        self.recent.append((self.now, what, detail))
        if self.echo is not None:
            self.echo(self.now, what, detail)

    def hit(self, point: str, times: int = 1) -> None:
        """Count that a ``sometimes`` point was reached."""
        self.hits[point] += times

    @property
    def trace(self) -> str:
        """The hash of everything that has happened."""
        return self._hash.hexdigest()


class Alarm:
    """One timer that can be set again, as an event loop's handle.

    Raises ``Broken`` when it rings again and again without a pause: a process that does so uses
    all of a processor and gets nowhere.
    """

    RINGS_MAX = 3_000

    def __init__(self, world: World, name: str, action: Action) -> None:
        self._world = world
        self._name = name
        self._action = action
        self._due: int | None = None
        self._rung_at = -SECOND
        self._rings = 0

    def set(self, at_us: int | None) -> None:
        """Ring at a time, and not when it was to ring before."""
        if at_us is not None and at_us != self._due:
            self._world.at(at_us, lambda: self._ring(at_us))
        self._due = at_us

    def _ring(self, at_us: int) -> None:
        if self._due != at_us:
            return
        self._due = None
        self._rings = self._rings + 1 if self._world.now - self._rung_at < MS else 0
        self._rung_at = self._world.now
        if self._rings > self.RINGS_MAX:
            raise Broken("busy loop", f"the timer of {self._name} rang {self._rings} times on end")
        self._action()


class Clock:
    """A clock of one machine, whose rate is not quite right; it runs on while processes sleep."""

    def __init__(self, offset_us: int, ppm: int) -> None:
        self._offset_us = offset_us
        self._ppm = ppm

    def ms(self, now_us: int) -> int:
        """Return what it shows at a true time."""
        return (self._offset_us + now_us + now_us * self._ppm // 1_000_000) // 1_000

    def when(self, ms: int) -> int:
        """Return the first true time at which it shows ``ms``."""
        wanted = ms * 1_000 - self._offset_us
        at = wanted * 1_000_000 // (1_000_000 + self._ppm) - 2
        while self.ms(at) < ms:
            at += 1
        return at
