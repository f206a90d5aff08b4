"""The spooled batches in memory: those on their way to the coordinator, and the next to follow.

What is behind them is in the shell's store only. Nothing here is written anywhere.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from protocol.messages import Batch
from sidecar.core.terms import NEVER_MS


class Entry(NamedTuple):
    """One batch, and when it was spooled by this process's clock."""

    tasks: bytes
    spooled_ms: int


class Window:
    """The first batches of the spool.

    Invariant: each batch that may be sent stands once in ``_unsent``, ``_again``, ``_in_flight``.

    Args:
        bytes_max: What is in memory, but for one batch; half of it may be on its way.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: dict[int, Entry] = {}
        self._unsent: deque[int] = deque()
        self._again: list[int] = []
        """Those to be sent once more, in the order of their verdicts."""
        self._in_flight: dict[int, int] = {}
        self._in_flight_bytes = 0
        self._paused_until_ms = 0
        self.bytes = 0
        self.last_number = 0
        """Of the latest batch that was here: all up to it are here, or done with."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    @property
    def first_number(self) -> int:
        """The number of the first batch; there must be one."""
        return next(iter(self._entries))

    @property
    def half_empty(self) -> bool:
        """Whether it is time to read more."""
        return self.bytes < self._bytes_max // 2

    @property
    def due_ms(self) -> int:
        """When a pause ends, if batches wait for that."""
        return self._paused_until_ms if self._paused_until_ms and self._entries else NEVER_MS

    def fits(self, size: int) -> bool:
        """Tell whether there is room for so many bytes."""
        return self.bytes + size <= self._bytes_max

    def add(self, number: int, entry: Entry) -> None:
        """Take a batch in at the end; it may not be sent yet."""
        self._entries[number] = entry
        self.bytes += len(entry.tasks)
        self.last_number = number

    def release(self, number: int) -> None:
        """Let a batch be sent: it is durable."""
        self._unsent.append(number)

    def remove(self, number: int) -> int:
        """Take a batch out that is not on its way, and return its size."""
        size = len(self._entries.pop(number).tasks)
        self.bytes -= size
        return size

    def resend(self, committed: int) -> None:
        """Send all up to a number again: a new session has opened."""
        self._unsent = deque(number for number in self._entries if number <= committed)
        self._again.clear()
        self._in_flight.clear()
        self._in_flight_bytes = self._paused_until_ms = 0

    def too_old(self, now_ms: int, age_ms_max: int) -> Iterator[int]:
        """Yield, and send no more, the batches next in turn that are older than allowed."""
        if now_ms >= self._paused_until_ms:
            self._take_again()
        while self._unsent:
            if now_ms - self._entries[self._unsent[0]].spooled_ms <= age_ms_max:
                break
            yield self._unsent.popleft()

    def outgoing(self, now_ms: int, next_request: int) -> list[Batch]:
        """Return batches to send now, with requests numbered from ``next_request``."""
        batches: list[Batch] = []
        if now_ms < self._paused_until_ms:
            return batches
        self._paused_until_ms = 0
        self._take_again()
        while self._unsent:
            tasks = self._entries[self._unsent[0]].tasks
            if self._in_flight_bytes and self._in_flight_bytes + len(tasks) > self._bytes_max // 2:
                break
            batches.append(Batch(next_request + len(batches), tasks))
            self._in_flight[batches[-1].request] = self._unsent.popleft()
            self._in_flight_bytes += len(tasks)
        return batches

    def _take_again(self) -> None:
        if self._again:
            self._unsent = deque(sorted([*self._again, *self._unsent]))
            self._again.clear()

    def answered(self, request: int) -> tuple[int, bytes] | None:
        """Return the batch that was on its way under a request, and its number."""
        number = self._in_flight.pop(request, None)
        if number is None:
            return None
        tasks = self._entries[number].tasks
        self._in_flight_bytes -= len(tasks)
        return number, tasks

    def pause(self, number: int, until_ms: int) -> None:
        """Send a batch again, and nothing before ``until_ms``."""
        self._again.append(number)
        self._paused_until_ms = until_ms
