"""When processes are started, replaced and ended: a manual clock, and no process."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.events import Finished, Note, Serving, Stuck
from sidecar.core.fleet import (
    BACKOFF_MS_MAX,
    BACKOFF_MS_MIN,
    FAILURES_SAID,
    KILLED_MS_MAX,
    SERVING_MS_MAX,
    STEADY_MS,
    WEIGH_MS,
    Fleet,
    FleetTerms,
    State,
)

NEVER_MS = 2**62
GRACE_MS, RECYCLE_GRACE_MS = 5_000, 60_000
MIB = 2**20


@dataclass
class Bench:
    """A fleet, its clock, and what it wanted since the last look."""

    fleet: Fleet
    now_ms: int = 1_000
    started: list[int] = field(default_factory=list)
    terminated: list[int] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    weighed: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def flush(self) -> None:
        effects = self.fleet.flush(self.now_ms)
        self.started += effects.start
        self.terminated += effects.terminate
        self.killed += effects.kill
        self.weighed += effects.weigh
        self.notes += effects.notes

    def advance(self, ms: int) -> None:
        """Let time pass as the shell does: with a flush whenever the fleet says it is due."""
        end_ms = self.now_ms + ms
        while (due_ms := self.fleet.due_ms) <= end_ms:
            assert due_ms > self.now_ms, "the fleet asks to be called again at once"
            self.now_ms = due_ms
            self.flush()
        self.now_ms = end_ms

    def serves(self, *processes: int) -> None:
        for process in processes:
            self.fleet.step(self.now_ms, Serving(process))
        self.flush()

    def finishes(self, process: int, count: int) -> None:
        self.fleet.step(self.now_ms, Finished(process, count))
        self.flush()

    def is_stuck(self, process: int, *, at_once: bool = False) -> None:
        self.fleet.step(self.now_ms, Stuck(process, at_once))
        self.flush()

    def ends(self, process: int) -> None:
        self.fleet.ended(self.now_ms, process, {"cause": "exit code 1"})
        self.flush()

    def stop(self) -> None:
        self.fleet.stop(self.now_ms)
        self.flush()

    def said(self, name: str) -> list[Note]:
        return [note for note in self.notes if note.name == name]

    def forget(self) -> None:
        for seen in (self.started, self.terminated, self.killed, self.weighed, self.notes):
            seen.clear()


def begun(processes: int = 1, **terms: Any) -> Bench:
    """Return a fleet that was told to begin."""
    bench = Bench(Fleet(FleetTerms(processes=processes, kill_grace_ms=GRACE_MS, **terms)))
    bench.fleet.begin(bench.now_ms)
    bench.flush()
    return bench


def serving(processes: int = 1, **terms: Any) -> Bench:
    """Return a fleet whose processes serve."""
    bench = begun(processes, **terms)
    bench.serves(*bench.started)
    bench.forget()
    return bench


# --- Starting and starting again ---------------------------------------------------------------


def test_all_processes_start_at_the_beginning_and_none_before() -> None:
    fleet = Fleet(FleetTerms(processes=3))
    assert not fleet.flush(1_000)
    assert fleet.due_ms == NEVER_MS

    assert begun(3).started == [1, 2, 3]


def test_steady_fleet_wants_nothing() -> None:
    bench = serving(3)
    bench.advance(10**9)
    assert not any((bench.started, bench.terminated, bench.killed, bench.notes))
    assert bench.fleet.due_ms == NEVER_MS


def test_process_that_ends_is_followed_by_another_at_once() -> None:
    bench = serving(2)

    bench.ends(1)

    assert bench.started == [3]


def test_second_short_life_in_a_row_is_followed_after_the_backoff() -> None:
    bench = serving(2)
    bench.ends(1)
    bench.serves(3)

    bench.ends(3)

    bench.advance(BACKOFF_MS_MIN - 1)
    assert bench.started == [3]
    bench.advance(1)
    assert bench.started == [3, 4]


def test_backoff_doubles_up_to_its_maximum_and_never_ends() -> None:
    bench = begun()
    bench.ends(1)
    waits = []

    for _ in range(12):
        bench.ends(bench.started[-1])
        waits.append(bench.fleet.due_ms - bench.now_ms)
        bench.advance(waits[-1])

    doubled = [min(BACKOFF_MS_MIN * 2**n, BACKOFF_MS_MAX) for n in range(12)]
    assert waits == doubled
    assert len(bench.started) == 14


def test_backoff_begins_anew_after_a_steady_life() -> None:
    bench = begun()
    for _ in range(5):
        bench.ends(bench.started[-1])
        bench.advance(STEADY_MS // 2)
    bench.serves(bench.started[-1])
    bench.forget()

    bench.advance(STEADY_MS)
    bench.ends(6)

    assert bench.started == [7]


def test_service_that_does_not_stay_up_is_said_loudly_each_time() -> None:
    bench = begun()

    for _ in range(FAILURES_SAID + 1):
        bench.ends(bench.started[-1])
        bench.advance(STEADY_MS // 2)

    said = bench.said("process_keeps_ending")
    assert [note.facts["times"] for note in said] == [FAILURES_SAID, FAILURES_SAID + 1]


def test_end_of_a_process_is_said_with_its_cause_and_what_follows() -> None:
    bench = serving()
    bench.advance(200)

    bench.ends(1)

    [note] = bench.notes
    assert note.name == "process_died"
    assert note.facts == {
        "process": 1,
        "cause": "exit code 1",
        "lived_ms": 200,
        "next_start_in_ms": 0,
    }


def test_one_that_does_not_serve_is_said_once_and_left_alone() -> None:
    bench = begun()

    bench.advance(10 * SERVING_MS_MAX)

    assert len(bench.said("process_does_not_serve")) == 1
    assert not (bench.terminated or bench.killed)


# --- An attempt that does not stop -------------------------------------------------------------


def test_process_with_a_stuck_attempt_is_asked_first_and_killed_after_the_grace() -> None:
    bench = serving()

    bench.is_stuck(1)

    assert (bench.terminated, bench.killed) == ([1], [])
    bench.advance(GRACE_MS - 1)
    assert bench.killed == []
    bench.advance(1)
    assert bench.killed == [1]


def test_process_with_a_stuck_attempt_is_killed_at_once_where_leases_are_gone() -> None:
    bench = serving()

    bench.is_stuck(1, at_once=True)

    assert (bench.terminated, bench.killed) == ([], [1])


def test_second_stuck_attempt_does_not_lengthen_the_grace() -> None:
    bench = serving()
    bench.is_stuck(1)
    bench.advance(GRACE_MS - 1)

    bench.is_stuck(1)
    bench.advance(1)

    assert (bench.terminated, bench.killed) == ([1], [1])


def test_process_that_was_told_to_end_is_replaced_when_it_is_gone() -> None:
    bench = serving()
    bench.is_stuck(1, at_once=True)
    bench.advance(20)
    assert bench.started == []

    bench.ends(1)

    assert bench.started == [2]
    assert bench.said("process_died") == []
    [ended] = bench.said("process_ended")
    assert ended.facts["told_to_end"] == "an attempt in it did not stop"


def test_killed_process_that_stays_is_said_and_killed_again() -> None:
    bench = serving()
    bench.is_stuck(1, at_once=True)
    bench.forget()

    bench.advance(2 * KILLED_MS_MAX)

    assert bench.killed == [1, 1]
    assert len(bench.said("process_does_not_end")) == 2


def test_what_is_told_of_a_process_that_is_gone_changes_nothing() -> None:
    bench = serving()
    bench.ends(1)
    bench.forget()

    bench.is_stuck(1)
    bench.serves(1)
    bench.finishes(1, 5)
    bench.fleet.weighed(1, 5)

    assert not any((bench.terminated, bench.killed, bench.started, bench.notes))


# --- Replacing ---------------------------------------------------------------------------------


def test_replacement_serves_before_the_old_one_is_asked_to_end() -> None:
    bench = serving(recycle_tasks=10)

    bench.finishes(1, 9)
    assert not bench.started
    bench.finishes(1, 1)
    bench.advance(10_000)
    assert (bench.started, bench.terminated) == ([2], [])

    bench.serves(2)

    assert bench.terminated == [1]
    assert bench.fleet.why(1) == "replaced: 10 tasks"


def test_replaced_process_may_finish_its_attempts() -> None:
    bench = serving(recycle_tasks=1, recycle_grace_ms=RECYCLE_GRACE_MS)
    bench.finishes(1, 1)
    bench.serves(2)

    bench.advance(RECYCLE_GRACE_MS - 1)
    assert bench.killed == []
    bench.advance(1)

    assert bench.killed == [1]


def test_replaced_process_that_ended_is_not_started_again() -> None:
    bench = serving(recycle_tasks=1)
    bench.finishes(1, 1)
    bench.serves(2)

    bench.ends(1)
    bench.advance(10**6)

    assert bench.started == [2]


def test_old_one_goes_on_while_its_replacement_fails() -> None:
    bench = serving(recycle_tasks=1)
    bench.finishes(1, 1)

    bench.ends(2)
    assert (bench.started, bench.terminated) == ([2, 3], [])
    bench.ends(3)
    assert bench.fleet.due_ms - bench.now_ms == BACKOFF_MS_MIN
    bench.advance(BACKOFF_MS_MIN)
    bench.serves(4)

    assert bench.terminated == [1]


def test_replacement_takes_the_place_of_an_old_one_that_dies_first() -> None:
    bench = serving(recycle_tasks=1)
    bench.finishes(1, 1)

    bench.ends(1)
    bench.serves(2)
    bench.advance(10**6)

    assert (bench.started, bench.terminated) == ([2], [])


def test_one_that_dies_while_its_replacement_backs_off_is_followed_by_one() -> None:
    bench = serving(recycle_tasks=1)
    bench.finishes(1, 1)
    bench.ends(2)
    bench.ends(3)

    bench.ends(1)
    bench.advance(10_000)

    assert bench.started == [2, 3, 4]


def test_processes_are_replaced_one_at_a_time() -> None:
    bench = serving(3, recycle_age_ms=3_600_000)

    bench.advance(3_600_000)
    assert bench.started == [4]
    bench.advance(60_000)
    assert bench.started == [4]

    bench.serves(4)
    assert (bench.terminated, bench.started) == ([1], [4, 5])


def test_age_counts_from_the_start_of_each_process() -> None:
    bench = serving(recycle_age_ms=10_000)
    bench.advance(9_999)
    assert bench.started == []
    bench.advance(1)
    assert bench.started == [2]
    bench.serves(2)

    bench.advance(9_999)
    assert bench.started == [2]
    bench.advance(1)
    assert bench.started == [2, 3]


def test_memory_is_looked_at_only_where_it_matters() -> None:
    bench = serving(2)
    bench.advance(10 * WEIGH_MS)
    assert bench.weighed == []

    bench = serving(2, recycle_memory_bytes=100 * MIB)
    bench.advance(WEIGH_MS)
    assert bench.weighed == [1, 2]


@pytest.mark.parametrize(("mib", "started"), [(99, []), (100, [2])])
def test_process_that_uses_too_much_memory_is_replaced(mib: int, started: list[int]) -> None:
    bench = serving(recycle_memory_bytes=100 * MIB)

    bench.fleet.weighed(1, mib * MIB)
    bench.flush()

    assert bench.started == started


def test_stuck_attempt_ends_a_replaced_process_sooner() -> None:
    bench = serving(recycle_tasks=1, recycle_grace_ms=RECYCLE_GRACE_MS)
    bench.finishes(1, 1)
    bench.serves(2)

    bench.is_stuck(1)
    bench.advance(GRACE_MS)

    assert bench.killed == [1]


# --- The end -----------------------------------------------------------------------------------


def test_none_is_started_or_replaced_once_the_drain_has_begun() -> None:
    bench = serving(2, recycle_tasks=1, recycle_age_ms=5_000, recycle_memory_bytes=MIB)
    bench.ends(1)
    bench.ends(3)

    bench.fleet.drain()
    bench.finishes(2, 5)
    bench.ends(2)
    bench.advance(10**6)

    assert bench.started == [3]
    assert bench.fleet.empty


def test_all_are_asked_to_end_and_killed_after_the_grace() -> None:
    bench = serving(2)

    bench.stop()
    assert (bench.terminated, bench.killed) == ([1, 2], [])
    bench.ends(1)
    bench.advance(GRACE_MS)
    assert (bench.killed, bench.fleet.empty) == ([2], False)
    bench.ends(2)

    assert (bench.started, bench.fleet.empty) == ([], True)


def test_all_are_killed_at_once_when_there_is_no_time() -> None:
    bench = serving(2)
    bench.stop()

    bench.fleet.kill(bench.now_ms)
    bench.flush()

    assert bench.killed == [1, 2]


# --- Facts -------------------------------------------------------------------------------------


def test_each_place_tells_its_process_its_restarts_and_its_last_end() -> None:
    bench = serving(3)
    bench.finishes(1, 5)
    bench.ends(2)
    bench.ends(3)
    bench.is_stuck(5, at_once=True)
    bench.ends(5)
    bench.advance(40)

    facts = bench.fleet.facts(bench.now_ms, {1: 100, 4: 104})

    assert facts == [
        {"state": "serving", "pid": 100, "age_ms": 40, "tasks": 5, "restarts": 0, "last_end": ""},
        {
            "state": "starting",
            **{"pid": 104, "age_ms": 40, "tasks": 0, "restarts": 1},
            "last_end": "exit code 1",
        },
        {
            "state": "waiting",
            **{"next_start_in_ms": BACKOFF_MS_MIN - 40, "restarts": 1},
            "last_end": "exit code 1; it was told to end: an attempt in it did not stop",
        },
    ]


# --- Whatever happens --------------------------------------------------------------------------

EVENTS = st.sampled_from(["serves", "finishes", "stuck", "stuck at once", "ends", "time"])


@given(
    processes=st.integers(1, 3),
    events=st.lists(st.tuples(EVENTS, st.integers(0, 5), st.integers(1, 20_000)), max_size=60),
)
def test_every_place_is_filled_again_and_no_place_twice(
    processes: int, events: list[tuple[str, int, int]]
) -> None:
    bench = begun(processes, recycle_tasks=3, recycle_age_ms=30_000, recycle_grace_ms=8_000)
    alive = dict.fromkeys(bench.started)
    for name, which, ms in events:
        process = sorted(alive)[which % len(alive)] if alive else 0
        if name == "time":
            bench.advance(ms)
        elif name == "serves":
            bench.serves(process)
        elif name == "finishes":
            bench.finishes(process, 1)
        elif name == "ends" and process:
            bench.ends(process)
        elif name.startswith("stuck"):
            bench.is_stuck(process, at_once=name == "stuck at once")
        alive = {p: None for p in bench.started if bench.fleet.state(p) is not None}
        staying = [p for p in alive if bench.fleet.state(p) in (State.STARTING, State.SERVING)]
        assert len(staying) <= processes + 1, "more than one is replaced at a time"
        assert len(set(bench.started)) == len(bench.started), "a number was used twice"

    for process in alive:
        if bench.fleet.state(process) in (State.LEAVING, State.KILLED):
            bench.ends(process)
    bench.advance(BACKOFF_MS_MAX)
    states = [bench.fleet.state(p) for p in bench.started]
    staying_states = [s for s in states if s in (State.STARTING, State.SERVING)]
    assert len(staying_states) >= processes
