"""Know by oneself when the sidecar's leases are over: a sidecar that is stopped cannot tell.

The sidecar says until when they hold, on the clock of the host that counts while it sleeps. The
event loop's timers do not count then, so that a wake-up is followed by a look at the clock.
"""

import asyncio
import time
from collections.abc import Callable

_LATE_S = 0.002
"""A little late rather than early: the loop's clock is coarser."""


class ValidityWatch:
    """Calls ``over`` once the latest validity has run out.

    Args:
        loop: Whose timers are used.
        over: Called when nothing newer was heard in time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, over: Callable[[], None]) -> None:
        self._loop = loop
        self._over = over
        self._until_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def renew(self, until_ms: int) -> None:
        """Take a later end."""
        self._until_ms = until_ms
        if self._timer is None:
            self._look()

    def forget(self) -> None:
        """Stop watching: there is no connection, so nothing to lose."""
        self._until_ms = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._until_ms is None:
            return
        left_ms = self._until_ms - boottime_ms()
        if left_ms > 0:
            self._timer = self._loop.call_later(left_ms / 1000 + _LATE_S, self._look)
        else:
            self._until_ms = None
            self._over()


def boottime_ms() -> int:
    """Read the clock that counts while the host sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
