from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import timers
from coordinator.core.effects import Scan
from coordinator.core.layout import TIMER_DUE, TimerEntry, split_timers
from coordinator.core.timers import Timer, Timers
from tests.coordinator.core.bench import small_windows
from tests.support.builders import task_id


class Store:
    """Timers, and the rows they have written."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.rows: dict[bytes, bytes | None] = {}
        self._numbers = count(1)

    def restart(self) -> None:
        """Forget everything but the rows."""
        self.timers = Timers()
        self.timers.begin_recovery()

    def add(self, *due_ms: int) -> None:
        """Set one timer for each time, all in one flush."""
        for due in due_ms:
            self.timers.add(due, TIMER_DUE, task_id(due))
        self.timers.write(lambda: next(self._numbers), self.rows)

    def wants(self) -> Scan | None:
        return self.timers.wants_rows()

    def read(self, scan: Scan) -> list[tuple[bytes, list[TimerEntry]]]:
        rows = sorted((k, v) for k, v in self.rows.items() if scan.start <= k < scan.end and v)
        return [(key, split_timers(key, value)) for key, value in rows[: scan.limit]]

    def load(self) -> None:
        """Do the reads that are asked for."""
        while (scan := self.wants()) is not None:
            self.timers.loaded(self.read(scan))

    def take(self, now_ms: int) -> list[int]:
        """Take everything that is due, reading as the calendar does."""
        taken: list[Timer] = []
        while True:
            self.load()
            due = self.timers.take_due(now_ms, 3)
            taken += due
            self._release(due)
            if not due:
                return [timer.due_ms for timer in taken]

    def _release(self, due: Iterable[Timer]) -> None:
        for timer in due:
            timer.row.left -= 1
            if timer.row.left == 0:
                self.rows[timer.row.key] = None


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)


def rows_of(store: Store) -> Iterator[list[int]]:
    for key, value in sorted(store.rows.items()):
        if value is not None:
            yield [due for due, _, _ in split_timers(key, value)]


def test_timers_of_one_second_share_a_row_up_to_its_size() -> None:
    store = Store()
    store.add(1_030, 1_020, 5_000, 1_021)
    assert list(rows_of(store)) == [[1_020, 1_021], [1_030], [5_000]]


def test_nothing_is_due_before_its_time() -> None:
    store = Store()
    store.add(100)
    assert store.timers.next_ms() == 100
    assert store.take(99) == []
    assert store.take(100) == [100]
    assert store.timers.next_ms() is None


def test_what_is_far_away_is_left_to_the_store() -> None:
    store = Store()
    for due_ms in range(10_000, 0, -1_000):
        store.add(due_ms)
    assert len(list(rows_of(store))) == 10
    in_memory = 0
    while store.timers.take_due(10**9, 1):
        in_memory += 1
    assert in_memory <= timers.WINDOW_MAX


def test_row_that_comes_while_others_are_read_is_not_forgotten() -> None:
    for due_ms in range(500, 12_000, 500):
        store = Store()
        for earlier in range(10_000, 0, -1_000):
            store.add(earlier)
        early = [timer.due_ms for timer in store.timers.take_due(10**9, 10**9)]
        scan = store.wants()
        assert scan is not None
        rows = store.read(scan)
        assert store.wants() is None  # One read at a time.

        store.add(due_ms)
        store.timers.loaded(rows)

        times = 2 if due_ms in range(1_000, 11_000, 1_000) else 1
        taken = store.take(10**9)
        assert (taken + early).count(due_ms) == times


flushes = st.lists(st.lists(st.integers(0, 20_000), min_size=1, max_size=6), max_size=25)


@given(flushes, st.data())
def test_every_timer_fires_and_not_before_its_time(
    flushes: list[list[int]], data: st.DataObject
) -> None:
    store = Store()
    now_ms = 0
    fired: list[int] = []
    expected: list[int] = []
    for delays_ms in flushes:
        due_ms = [now_ms + delay_ms for delay_ms in delays_ms]
        expected += due_ms
        store.add(*due_ms)
        now_ms += data.draw(st.integers(0, 6_000))
        taken = store.take(now_ms)
        assert all(due <= now_ms for due in taken)
        fired += taken
    fired += store.take(10**9)
    # A row that was trimmed from memory and is read again may ring for what it rang for before:
    # the task's record decides.
    assert Counter(expected) <= Counter(fired)
    assert set(fired) == set(expected)
    assert list(rows_of(store)) == []


few = st.lists(st.lists(st.integers(0, 1_500), min_size=1, max_size=6), max_size=5)


@given(few, few, st.data())
def test_timers_that_fit_into_the_window_are_never_late(
    before: list[list[int]], later: list[list[int]], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timers, "WINDOW_MAX", 60)
        store = Store()
        for due_ms in before:
            store.add(*due_ms)
        store.restart()
        now_ms = 0
        expected = [due for due_ms in before for due in due_ms]
        fired: list[int] = []
        for delays_ms in [*later, [], []]:
            due_ms = [now_ms + delay_ms for delay_ms in delays_ms]
            expected += due_ms
            store.add(*due_ms)
            now_ms += data.draw(st.integers(0, 900))
            fired += store.take(now_ms)
            assert sorted(fired) == sorted(due for due in expected if due <= now_ms)
