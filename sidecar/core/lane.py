"""The attempts of one handler on one connection, in the order they were handed over.

A service begins the tasks of a handler in that order and tells an outcome before it uses the slot
again. So of the unfinished ones the first ``slots`` may have begun, and no other has: this decides
from when a timeout counts, and who is charged when the connection breaks.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from protocol.messages import GrantedTask
from sidecar.core.terms import NEVER_MS

Key = tuple[bytes, int]
"""Id and token: the name of a lease."""


class Standing(IntEnum):
    """How an attempt that may have begun stands."""

    LIVE = 0
    TIMED_OUT = 1
    """Revoked because of its timeout; its outcome is still awaited."""
    STOPPED = 2
    """Revoked because the sidecar stops; its outcome is still awaited."""
    CANCELLED = 3
    """Revoked because its task was cancelled; its outcome is still awaited."""
    GONE = 4
    """Its lease has ended; only its slot is still taken."""


class Stamp(NamedTuple):
    """What is known of an attempt that may have begun."""

    since_ms: int
    due_ms: int
    """When its timeout passes, or the grace after it."""
    standing: Standing


class Lane:
    """One handler on one connection."""

    __slots__ = (
        *("begun", "condemned", "connection", "done", "handed", "handler"),
        *("falling", "killable", "slots", "total", "waiting"),
    )

    def __init__(
        self, connection: int, handler: str, slots: int, *, killable: bool = False
    ) -> None:
        self.connection = connection
        self.killable = killable
        """Whether the process at the other end is supervised: what does not stop is ended."""
        self.condemned = False
        """Whether that process is to end: it takes no more tasks."""
        self.handler = handler
        self.slots = slots
        self.total = 0
        """The service's demand: how many tasks it takes in all on this connection."""
        self.falling = False
        """Whether the service has lowered its demand, and not raised it since."""
        self.handed = 0
        self.done = 0
        """Outcomes since the last ``take_done``."""
        self.begun: dict[Key, Stamp] = {}
        self.waiting: dict[Key, int] = {}
        """Handed over and not begun, with their timeout in ms."""

    @property
    def room(self) -> int:
        """How many more tasks the service takes."""
        return 0 if self.condemned else max(0, self.total - self.handed)

    def ask(self, total: int) -> None:
        """Take the service's demand, all it takes on this connection."""
        if total != self.total:
            self.falling = total < self.total
        self.total = total

    @property
    def idle(self) -> int:
        """How many more tasks would begin at once."""
        return max(0, min(self.room, self.slots - len(self.begun) - len(self.waiting)))

    def hand(self, now_ms: int, tasks: list[GrantedTask], keys: list[Key]) -> int:
        """Take tasks that go to the service now; return when the first timeout of new ones is."""
        self.handed += len(tasks)
        self.waiting.update(zip(keys, [task[5] for task in tasks], strict=True))
        return self.begin(now_ms)

    def begin(self, now_ms: int) -> int:
        """Let waiting attempts begin in free slots; return when the first of them is due."""
        waiting = self.waiting
        free = self.slots - len(self.begun)
        if free <= 0 or not waiting:
            return NEVER_MS
        begun = self.begun
        first_ms = NEVER_MS
        stamps: dict[int, Stamp] = {}
        for key, timeout_ms in list(islice(waiting.items(), free)):
            del waiting[key]
            stamp = stamps.get(timeout_ms)
            if stamp is None:
                due_ms = now_ms + timeout_ms
                stamp = stamps[timeout_ms] = Stamp(now_ms, due_ms, Standing.LIVE)
                first_ms = min(first_ms, due_ms)
            begun[key] = stamp
        return first_ms

    def take_done(self) -> int:
        """Return how many outcomes came since the last call."""
        done, self.done = self.done, 0
        return done

    def end(self, key: Key, stop_by_ms: int = NEVER_MS) -> None:
        """End a lease; its slot stays taken until the service answers."""
        stamp = self.begun[key]
        self.begun[key] = Stamp(stamp.since_ms, stop_by_ms, Standing.GONE)

    @property
    def first_waiting(self) -> Key | None:
        """The task that begins next."""
        return next(iter(self.waiting), None)

    def end_first_waiting(self, stop_by_ms: int) -> None:
        """End the lease of the task that begins next, which may have begun meanwhile.

        The outcome that freed a slot for it is on its way then. It stands with those that have
        begun until it is answered: one that has not begun is so at once.
        """
        key = next(iter(self.waiting))
        del self.waiting[key]
        self.begun[key] = Stamp(0, stop_by_ms, Standing.GONE)

    def revoke(self, key: Key, standing: Standing, due_ms: int) -> None:
        """Note that an attempt was told to stop and has until ``due_ms`` to say what it came to."""
        self.begun[key] = Stamp(self.begun[key].since_ms, due_ms, standing)

    def live(self) -> Iterator[Key]:
        """Yield the leases that have not ended."""
        yield from [k for k, stamp in self.begun.items() if stamp.standing is not Standing.GONE]
        yield from self.waiting
