"""How fast work comes and goes: samples of counters, taken while something happens.

An idle coordinator takes none, and need not: counters that stand still give the same difference
from an old sample as from a new one.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coordinator.core.figures import BUCKETS
from coordinator.core.handler import Handler
from protocol.messages import State

WINDOW_MS = 60_000
"""Over how long rates are told."""
SAMPLE_MS = 5_000
HANDLERS_MAX = 1_000
"""Handlers that are sampled, those that were made first; of others no rate is told."""
PACE_MS_MIN = 10_000
"""A pace is not taken from less time: it would take a burst at the start for what goes on."""
RUNS_MIN = 10
"""Fewer runs in the window say less of how long they take than all since the start."""


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


class Work(NamedTuple):
    """What sidecars were given of one handler since the start, and what waits for them now."""

    granted: int
    waiting: int
    """Ready tasks that no gate holds."""
    runs: int
    lease_ms: int
    wait: Sequence[int]
    """The buckets of ``Figures`` that are told, as those of ``run``."""
    run: Sequence[int]


class Spread(NamedTuple):
    """How long things took, in the buckets of ``Figures`` that are told."""

    wait: Sequence[int]
    run: Sequence[int]


class Pace(NamedTuple):
    """What a handler asks of its sidecars."""

    arrivals_per_second: float
    """Tasks that became ready: submitted, due, tried again, given back."""
    lease_ms: float | None
    """How long each takes a slot, on average; None while no attempt has ended."""


class _Sample(NamedTuple):
    at_ms: int
    everything: Totals
    each: dict[int, tuple[Totals, Work]]


_NO_RATE = Rate(0.0, 0.0, 0.0)
_EMPTY = (0,) * (BUCKETS + 1)
_NOTHING = (Totals(0, 0, 0), Work(0, 0, 0, 0, _EMPTY, _EMPTY))


class Rates:
    """The samples of the last minute."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._next_ms = 0
        self._changed_ms = 0
        """When something happened for the last time."""

    def sample(self, now_ms: int, handlers: Iterable[Handler]) -> None:
        """Note that something happened, and take a sample if it is time for one."""
        self._changed_ms = now_ms
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + SAMPLE_MS
        everything: list[Totals] = []
        each: dict[int, tuple[Totals, Work]] = {}
        for handler in handlers:
            totals = totals_of(handler)
            everything.append(totals)
            if len(each) < HANDLERS_MAX:
                each[handler.number] = (totals, _work_of(handler))
        self._samples.append(_Sample(now_ms, _sum(everything), each))
        while len(self._samples) > 1 and self._samples[1].at_ms <= now_ms - WINDOW_MS:
            self._samples.popleft()

    def overall(self, now_ms: int, handlers: Iterable[Handler]) -> Rate:
        """Return the rate of all handlers together."""
        base = self._base(now_ms)
        if base is None:
            return _NO_RATE
        after = _sum(totals_of(handler) for handler in handlers)
        return _rate(base.at_ms, now_ms, base.everything, after)

    def of(self, now_ms: int, handler: Handler) -> Rate:
        """Return the rate of one handler."""
        base = self._base(now_ms)
        before = None if base is None else _before(base, handler)
        if base is None or before is None:
            return _NO_RATE
        return _rate(base.at_ms, now_ms, before[0], totals_of(handler))

    def pace(self, now_ms: int, handler: Handler) -> Pace:
        """Return how fast tasks of a handler become ready, and how long each takes a slot.

        What became ready is what was granted, and what waits more than it did before: so a task
        counts when it is due, not when it is submitted, and again when it is tried again.
        """
        work = _work_of(handler)
        always = work.lease_ms / work.runs if work.runs else None
        base = self._base(now_ms)
        before = None if base is None else _before(base, handler)
        if base is None or before is None:
            return Pace(0.0, always)
        was = before[1]
        came = work.granted - was.granted + work.waiting - was.waiting
        seconds = _seconds(base.at_ms, now_ms, PACE_MS_MIN)
        runs = work.runs - was.runs
        lately = (work.lease_ms - was.lease_ms) / runs if runs >= RUNS_MIN else always
        return Pace(max(0, came) / seconds, lately)

    def spread(self, now_ms: int, handler: Handler) -> Spread:
        """Return how long tasks of a handler waited and ran in the window."""
        base = self._base(now_ms)
        before = None if base is None else _before(base, handler)
        if before is None:
            return Spread(_EMPTY, _EMPTY)
        figures, was = handler.figures, before[1]
        return Spread(_less(_told(figures.wait), was.wait), _less(_told(figures.run), was.run))

    def _base(self, now_ms: int) -> _Sample | None:
        """Return the latest sample that is older than the window, or the oldest there is.

        None if nothing happened in the window: what came after the last sample is older, too.
        """
        if not self._samples or self._changed_ms <= now_ms - WINDOW_MS:
            return None
        base = self._samples[0]
        for sample in self._samples:
            if sample.at_ms > now_ms - WINDOW_MS:
                break
            base = sample
        return base


def totals_of(handler: Handler) -> Totals:
    """Return what has happened to a handler's tasks."""
    figures = handler.figures
    return Totals(figures.submitted, figures.ended, figures.finished[State.DEAD])


def _work_of(handler: Handler) -> Work:
    figures = handler.figures
    return Work(
        granted=figures.granted,
        waiting=handler.ready - handler.held,
        runs=figures.runs,
        lease_ms=figures.lease_ms,
        wait=_told(figures.wait),
        run=_told(figures.run),
    )


def _told(buckets: Sequence[int]) -> Sequence[int]:
    """Return the buckets that are told, and behind them what is beyond."""
    return (*buckets[:BUCKETS], sum(buckets[BUCKETS:]))


def _less(buckets: Sequence[int], before: Sequence[int]) -> list[int]:
    return [now - then for now, then in zip(buckets, before, strict=True)]


def _before(base: _Sample, handler: Handler) -> tuple[Totals, Work] | None:
    """Return what was sampled of a handler; nothing of one that was made since, None of others."""
    found = base.each.get(handler.number)
    if found is None and len(base.each) < HANDLERS_MAX:
        return _NOTHING
    return found


def _sum(totals: Iterable[Totals]) -> Totals:
    columns = list(zip(*totals, strict=True))
    return Totals(*[sum(column) for column in columns]) if columns else Totals(0, 0, 0)


def _rate(since_ms: int, now_ms: int, before: Totals, after: Totals) -> Rate:
    seconds = _seconds(since_ms, now_ms, 1_000)
    return Rate(*[round((b - a) / seconds, 2) for a, b in zip(before, after, strict=True)])


def _seconds(since_ms: int, now_ms: int, at_least_ms: int) -> float:
    # A base older than the window says nothing but that nothing happened until the next sample.
    return max(at_least_ms, min(now_ms - since_ms, WINDOW_MS)) / 1000
