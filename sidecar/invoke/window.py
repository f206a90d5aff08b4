"""How many attempts run at one time, and how long to wait before trying again.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass


class Window:
    """Attempts of one handler that may run at one time: fewer when the service says "not now".

    It is halved when the service cannot take what it got, and grows by one for each window of
    successes (additive increase, multiplicative decrease). Never under 1, never over the slots.
    """

    __slots__ = ("_size", "round", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._size = float(slots)
        self.round = 0
        """Counts how often it was halved."""

    @property
    def size(self) -> int:
        """Attempts that may run at one time."""
        return int(self._size)

    def succeeded(self) -> None:
        """Grow a little."""
        if self._size < self.slots:
            self._size = min(self._size + 1 / self._size, float(self.slots))

    def refused(self, begun_in: int) -> None:
        """Halve it, once for all attempts that began before the last time.

        Args:
            begun_in: The ``round`` when the attempt that is not taken began.
        """
        if begun_in == self.round:
            self._size = max(1.0, self._size / 2)
            self.round += 1

    def close(self) -> None:
        """Let one attempt at a time try."""
        self._size = 1.0
        self.round += 1


@dataclass(slots=True)
class Backoff:
    """Waits that double from ``low_ms`` to ``high_ms``."""

    low_ms: int
    high_ms: int
    next_ms: int = 0

    def take(self) -> int:
        """Return how long to wait this time."""
        wait_ms = max(self.next_ms, self.low_ms)
        self.next_ms = min(2 * wait_ms, self.high_ms)
        return wait_ms

    def reset(self) -> None:
        """Begin with the shortest wait again."""
        self.next_ms = 0
