"""How fast work comes and goes: samples of counters, taken while something happens.

An idle coordinator takes none, and need not: counters that stand still give the same difference
from an old sample as from a new one.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from coordinator.core.handler import Handler
from protocol.messages import State

WINDOW_MS = 60_000
"""Over how long rates are told."""
SAMPLE_MS = 5_000
HANDLERS_MAX = 1_000
"""Handlers that are sampled by themselves: those that were made first."""


class Totals(NamedTuple):
    """What has happened since the start."""

    submitted: int
    finished: int
    dead: int


class Rate(NamedTuple):
    """How often a second, over the last minute or since the start."""

    submitted: float
    finished: float
    dead: float


class Rates:
    """The samples of the last minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, Totals, dict[int, Totals]]] = deque()
        self._next_ms = 0

    def sample(self, now_ms: int, handlers: Iterable[Handler]) -> None:
        """Take a sample if it is time for one."""
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + SAMPLE_MS
        each = [(handler.number, totals_of(handler)) for handler in handlers]
        everything = _sum(totals for _, totals in each)
        self._samples.append((now_ms, everything, dict(each[:HANDLERS_MAX])))
        while len(self._samples) > 1 and self._samples[1][0] <= now_ms - WINDOW_MS:
            self._samples.popleft()

    def overall(self, now_ms: int, handlers: Iterable[Handler]) -> Rate:
        """Return the rate of all handlers together."""
        if not self._samples:
            return Rate(0.0, 0.0, 0.0)
        since_ms, before, _ = self._base(now_ms)
        return _rate(since_ms, now_ms, before, _sum(totals_of(handler) for handler in handlers))

    def of(self, now_ms: int, handler: Handler) -> Rate:
        """Return the rate of one handler."""
        if not self._samples:
            return Rate(0.0, 0.0, 0.0)
        since_ms, _, each = self._base(now_ms)
        before = each.get(handler.number, Totals(0, 0, 0))
        return _rate(since_ms, now_ms, before, totals_of(handler))

    def _base(self, now_ms: int) -> tuple[int, Totals, dict[int, Totals]]:
        """Return the latest sample that is older than the window, or the oldest there is."""
        base = self._samples[0]
        for sample in self._samples:
            if sample[0] > now_ms - WINDOW_MS:
                break
            base = sample
        return base


def totals_of(handler: Handler) -> Totals:
    """Return what has happened to a handler's tasks."""
    figures = handler.figures
    return Totals(figures.submitted, figures.ended, figures.finished[State.DEAD])


def _sum(totals: Iterable[Totals]) -> Totals:
    columns = list(zip(*totals, strict=True))
    return Totals(*[sum(column) for column in columns]) if columns else Totals(0, 0, 0)


def _rate(since_ms: int, now_ms: int, before: Totals, after: Totals) -> Rate:
    # A base older than the window says nothing but that nothing happened until the next sample.
    seconds = max(1.0, min(now_ms - since_ms, WINDOW_MS) / 1000)
    return Rate(*[round((b - a) / seconds, 2) for a, b in zip(before, after, strict=True)])
