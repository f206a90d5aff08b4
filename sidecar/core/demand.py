"""How much work to ask for: what services have room for, and enough to cover the round trip.

A handler that finishes thousands of tasks a second would stand idle while its next ones travel;
one that takes a minute would hold tasks that another sidecar could run. So what is asked for ahead
of a free slot is the pace of that handler times the round trip, and nothing for slow handlers.
"""

from collections.abc import Iterable
from math import ceil, exp

from protocol.messages import Limit

AHEAD_MAX = 2_000
MORE_MAX = 20_000
"""Asked for at one time, whatever services say they have room for."""
_PACE_WINDOW_MS = 50.0
_SAMPLE_MS = 10
_SAFETY = 1.5
_WORTH_WHILE = 0.5
"""Below so many tasks in one round trip, waiting costs less than holding."""
_ROUND_TRIP_SHARE = 0.125


class Pace:
    """How many tasks a handler finishes in a millisecond, over the last moments."""

    __slots__ = ("_count", "_per_ms", "_since_ms")

    def __init__(self, now_ms: int) -> None:
        self._per_ms = 0.0
        self._count = 0
        self._since_ms = now_ms

    def add(self, count: int) -> None:
        """Count finished tasks."""
        self._count += count

    def per_ms(self, now_ms: int) -> float:
        """Return the pace; an idle handler's decays."""
        span = now_ms - self._since_ms
        if span >= _SAMPLE_MS:
            weight = 1.0 - exp(-span / _PACE_WINDOW_MS)
            self._per_ms += (self._count / span - self._per_ms) * weight
            self._count = 0
            self._since_ms = now_ms
        return self._per_ms


class Demand:
    """The demand stated to the coordinator since the last WELCOME.

    Invariant: no total stated for a handler is under what has been granted of it.
    """

    def __init__(self) -> None:
        self._granted: dict[str, int] = {}
        self._stated: dict[str, int] = {}
        self._paces: dict[str, Pace] = {}
        self._round_trip_ms = 0.0
        self.granted_total = 0

    @property
    def round_trip_ms(self) -> float:
        """The smoothed time from OUTCOMES to RECORDED."""
        return self._round_trip_ms

    def restart(self) -> None:
        """Count from zero again: a new session has opened."""
        self._granted.clear()
        self._stated.clear()

    def granted(self, handler: str, count: int) -> None:
        """Count granted tasks."""
        self._granted[handler] = self._granted.get(handler, 0) + count
        self.granted_total += count

    def finished(self, now_ms: int, handler: str, count: int) -> None:
        """Count finished tasks towards the pace of a handler."""
        pace = self._paces.get(handler)
        if pace is None:
            pace = self._paces[handler] = Pace(now_ms)
        pace.add(count)

    def took(self, round_trip_ms: int) -> None:
        """Take the round trip of one message of outcomes."""
        if self._round_trip_ms == 0.0:
            self._round_trip_ms = float(round_trip_ms)
        self._round_trip_ms += (round_trip_ms - self._round_trip_ms) * _ROUND_TRIP_SHARE

    def forget(self, handler: str) -> None:
        """Forget the pace of a handler that is no longer served."""
        self._paces.pop(handler, None)

    def _ahead(self, now_ms: int, handler: str) -> int:
        pace = self._paces.get(handler)
        if pace is None:
            return 0
        in_a_round_trip = pace.per_ms(now_ms) * self._round_trip_ms
        if in_a_round_trip < _WORTH_WHILE:
            return 0
        return min(AHEAD_MAX, ceil(in_a_round_trip * _SAFETY))

    def nothing_more(self, handler: str) -> int:
        """Return the total that asks for nothing."""
        return self._granted.get(handler, 0)

    def total(self, now_ms: int, handler: str, room: int, *, ahead: bool = True) -> int:
        """Return the total to ask for.

        Args:
            now_ms: The time.
            handler: Whose total.
            room: What services would take at once, less what waits here for them.
            ahead: Whether to cover the round trip as well.
        """
        more = room + (self._ahead(now_ms, handler) if ahead else 0)
        return self.nothing_more(handler) + min(max(0, more), MORE_MAX)

    def changes(self, totals: Iterable[tuple[str, int]]) -> list[Limit]:
        """Return those totals that are worth a message now, and count them as stated."""
        limits = []
        for handler, total in totals:
            if self._worth_saying(handler, total):
                self._stated[handler] = total
                limits.append(Limit(handler, total))
        return limits

    def state(self, totals: Iterable[tuple[str, int]]) -> list[Limit]:
        """Return all totals, and count them as stated."""
        limits = [Limit(handler, total) for handler, total in totals]
        self._stated.update(limits)
        return limits

    def _worth_saying(self, handler: str, total: int) -> bool:
        granted = self._granted.get(handler, 0)
        stated = max(self._stated.get(handler, 0), granted)
        if total > stated:
            # At once when nothing is on its way; otherwise a few times per window.
            return stated == granted or 4 * (total - stated) >= total - granted
        return 2 * (total - granted) < stated - granted
