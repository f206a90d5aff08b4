"""The latest events, numbered, for those who watch: a ring that forgets, and a bell.

Whoever watches reads on from the number it knows. One that is too slow, or comes back too late,
finds that the ring has forgotten some, and is told how many: nobody's slowness takes memory.
"""

import asyncio
from collections import deque
from typing import Any, NamedTuple

KEPT = 1_000


class Event(NamedTuple):
    """Something that happened."""

    number: int
    """From 1 in each process; together with the epoch it is never used again."""
    at_ms: int
    name: str
    fields: dict[str, Any]


class Events:
    """The ring of one process."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ring: deque[Event] = deque(maxlen=kept)
        self._bells: set[asyncio.Event] = set()
        self.latest = 0
        """The number of the latest event; 0 before the first."""

    def add(self, at_ms: int, name: str, fields: dict[str, Any]) -> None:
        """Take an event, and wake those who watch."""
        self.latest += 1
        self._ring.append(Event(self.latest, at_ms, name, fields))
        for bell in self._bells:
            bell.set()

    def after(self, number: int) -> tuple[int, list[Event]]:
        """Return how many events behind ``number`` are forgotten, and those that are not."""
        oldest = self._ring[0].number if self._ring else self.latest + 1
        skip = max(0, number + 1 - oldest)
        kept = [self._ring[place] for place in range(skip, len(self._ring))]
        return max(0, oldest - number - 1), kept

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._bells)

    def watch(self) -> asyncio.Event:
        """Return a bell that rings at each event; give it back with ``leave``."""
        bell = asyncio.Event()
        self._bells.add(bell)
        return bell

    def leave(self, bell: asyncio.Event) -> None:
        """Watch no more."""
        self._bells.discard(bell)

    def wake_all(self) -> None:
        """Ring every bell, so that those who watch can see that the process stops."""
        for bell in self._bells:
            bell.set()
