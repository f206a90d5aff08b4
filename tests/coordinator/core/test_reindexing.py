"""Damaged rows: told, removed, and made up for; no task is lost, none is in two hands."""

from collections.abc import Callable

import pytest

from coordinator.core import layout, reindexing
from protocol.messages import Lease, OutcomeKind, Priority, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, lease_of, success
from tests.support.builders import a_submission, task_id

HOLD_MS = 11_000
"""Session timeout and margin."""
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    monkeypatch.setattr(reindexing, "PAGE", 4)
    monkeypatch.setattr(reindexing, "PROGRESS_TASKS", 8)


def flip(bench: Bench, key: bytes, place: int = 7) -> None:
    """Change one bit of a value."""
    value = bytearray(bench.pairs[key])
    value[place % len(value)] ^= 4
    bench.pairs[key] = bytes(value)


def flip_row(bench: Bench, letter: bytes, which: int = 0) -> bytes:
    """Change one bit of a row of one kind; return its key."""
    key = bench.rows(letter)[which]
    flip(bench, key)
    return key


def a_bench(count: int, **options: int) -> Bench:
    """Return a bench with tasks that nobody has asked for, just started."""
    bench = Bench(audited=False)
    sidecar = Sidecar(bench)
    for n in range(1, count + 1):
        sidecar.submit(a_submission(n, options=options or None))
    sidecar.goodbye()
    bench.crash()
    return bench


def run_all(bench: Bench, number: int = 2) -> list[bytes]:
    """Let a sidecar run whatever it is given, to the end; return the ids."""
    sidecar = Sidecar(bench, number)
    sidecar.serve()
    done = 0
    while len(granted := sidecar.granted()) > done:
        sidecar.report(*[success(task) for task in granted[done:]])
        done = len(granted)
    return [task.id for task in granted]


def sound(bench: Bench) -> bool:
    """Tell whether nothing is wrong with the store any more."""
    return bench.audit().problems() == []


class TestReadyRow:
    @pytest.mark.parametrize("which", [0, 2, -1])
    def test_that_is_damaged_is_told_and_no_task_of_it_is_lost(self, which: int) -> None:
        bench = a_bench(12)
        key = flip_row(bench, b"r", which)
        assert sorted(run_all(bench)) == [task_id(n) for n in range(1, 13)]
        assert [(note["kind"], note["key"]) for note in bench.noted("row_damaged")] == [
            ("ready", key.hex())
        ]
        assert bench.shard.counts["row_damaged"] == 1
        assert bench.noted("count_corrected") == []
        assert sound(bench)

    def test_found_by_the_sweep_keeps_a_row_for_tasks_in_memory(self) -> None:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(1), a_submission(2))
        sidecar.submit(*[a_submission(n, options={"expires_ms": 50}) for n in range(3, 9)])
        flip_row(bench, b"r")
        bench.advance(60)
        assert bench.noted("row_damaged") != []
        assert sound(bench)
        bench.crash()
        assert run_all(bench) == [task_id(1), task_id(2)]

    def test_may_be_damaged_in_every_one(self) -> None:
        bench = a_bench(12)
        for which in range(len(bench.rows(b"r"))):
            flip_row(bench, b"r", which)
        assert sorted(run_all(bench)) == [task_id(n) for n in range(1, 13)]
        assert sound(bench)

    def test_leaves_nothing_behind(self) -> None:
        bench = a_bench(12)
        flip_row(bench, b"r")
        run_all(bench)
        bench.advance(HOUR_MS)
        bench.advance(1_000)
        assert {key[:1] for key in bench.pairs} == {b"h", b"m"}


class TestTimerRow:
    def test_that_is_damaged_is_told_and_its_tasks_come_due(self) -> None:
        bench = a_bench(6, delay_ms=5_000)
        key = flip_row(bench, b"s")
        bench.advance(0)
        bench.crash()
        bench.advance(5_000)
        assert [note["key"] for note in bench.noted("row_damaged")] == [key.hex()]
        assert sorted(run_all(bench)) == [task_id(n) for n in range(1, 7)]
        assert sound(bench)

    def test_of_expiry_is_made_up_for_too(self) -> None:
        bench = a_bench(6, expires_ms=5_000)
        for which in range(len(bench.rows(b"s"))):
            flip_row(bench, b"s", which)
        bench.crash()
        bench.advance(5_000)
        assert {task.state for task in bench.audit().tasks.values()} == {State.EXPIRED}
        assert sound(bench)


def test_damaged_row_of_ended_tasks_keeps_none_of_them_for_ever() -> None:
    bench = a_bench(6)
    run_all(bench)
    key = flip_row(bench, b"x")
    bench.advance(HOUR_MS)
    assert [note["key"] for note in bench.noted("row_damaged")] == [key.hex()]
    bench.advance(1_000)
    assert bench.audit().tasks == {}


class TestGrantRow:
    def bench(self) -> tuple[Bench, Sidecar]:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.serve(2)
        sidecar.submit(*[a_submission(n) for n in (1, 2, 3)])
        flip_row(bench, b"g")
        bench.crash()
        return bench, sidecar

    def test_that_is_damaged_gives_its_tasks_to_nobody_before_its_holder_has_given_up(
        self,
    ) -> None:
        bench, _ = self.bench()
        other = Sidecar(bench, 2)
        other.serve()
        bench.advance(HOLD_MS - 1)
        assert other.granted() == []
        other.beat()
        bench.advance(1)
        assert sorted(task.id for task in other.granted()) == [task_id(n) for n in (1, 2, 3)]
        assert sound(bench)

    def test_that_is_damaged_is_told_to_its_holder_when_it_comes_back(self) -> None:
        _, sidecar = self.bench()
        held = [lease_of(task) for task in sidecar.granted()]
        assert sidecar.hello(held=held).lost == held

    def test_lets_no_outcome_of_its_leases_count(self) -> None:
        bench, sidecar = self.bench()
        held = sidecar.granted()
        sidecar.hello(held=[lease_of(task) for task in held])
        assert sidecar.report(*[success(task) for task in held]) == ["stale_token"] * 2
        bench.advance(HOLD_MS)
        assert sound(bench)
        assert sorted(run_all(bench)) == [task_id(n) for n in (1, 2, 3)]

    def test_holds_grants_anew_after_another_start(self) -> None:
        bench, _ = self.bench()
        bench.advance(HOLD_MS - 1)
        bench.crash()
        other = Sidecar(bench, 2)
        other.serve()
        bench.advance(HOLD_MS - 1)
        assert other.granted() == []

    def test_leaves_other_leases_alone(self) -> None:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(1))
        sidecar.submit(a_submission(2))
        flip_row(bench, b"g")
        bench.crash()
        held = [lease_of(task) for task in sidecar.granted()]
        assert sidecar.hello(held=held).lost == [held[0]]
        assert sidecar.report(success(sidecar.granted()[1])) == [None]


class TestHandlerRow:
    def bench(self, *letters: bytes) -> Bench:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.serve(1, concurrency=1)
        sidecar.submit(a_submission(1), a_submission(2, options={"priority": Priority.HIGH}))
        sidecar.submit(a_submission(3, options={"delay_ms": 5_000}))
        sidecar.report(failed(sidecar.grant(), OutcomeKind.FATAL))
        for letter in letters:
            flip_row(bench, letter)
        bench.crash()
        return bench

    @pytest.mark.parametrize("letter", [b"h", b"m"])
    def test_that_is_damaged_stops_no_start_and_is_counted_anew(self, letter: bytes) -> None:
        bench = self.bench(letter)
        assert len(bench.noted("record_corrupt")) == 1
        assert sound(bench)
        bench.crash()
        assert len(bench.noted("record_corrupt")) == 1
        bench.advance(HOLD_MS)
        sidecar = Sidecar(bench, 2)
        sidecar.serve(concurrency=1)
        assert len(sidecar.granted()) == 1

    def test_that_is_damaged_twice_is_told_of_each_task_and_harms_no_other_handler(self) -> None:
        bench = self.bench(b"h", b"m")
        sidecar = Sidecar(bench, 2)
        sidecar.submit(a_submission(9))
        assert [key for key in bench.rows(b"h")] == [layout.handler_key(n) for n in (1, 2)]
        assert run_all(bench, 3) == [task_id(9)]
        for n in (1, 2, 3):
            sidecar.ask(task_id(n))
        assert [reply.code for reply in sidecar.replies()] == ["unknown_task"] * 3
        told = {note.get("task_id") for note in bench.noted("record_corrupt")}
        assert told >= {task_id(n).hex() for n in (1, 2, 3)}


class TestWalk:
    def test_begins_anew_after_a_restart(self) -> None:
        bench = a_bench(12)
        flip_row(bench, b"r")
        sidecar = Sidecar(bench, 2)
        sidecar.declare()
        bench.receive(sidecar.peer, sidecar.demand_message(1))
        while not bench.noted("reindexing_began"):
            bench.flush()
        bench.crash()
        assert len(bench.noted("reindexing_began")) == 2
        assert layout.REINDEX_KEY not in bench.pairs
        assert sound(bench)

    def test_tells_how_far_it_is(self) -> None:
        bench = a_bench(20)
        flip_row(bench, b"r")
        run_all(bench)
        assert [note["tasks"] for note in bench.noted("reindexing")] == [8, 16]
        assert [note["tasks"] for note in bench.noted("reindexing_finished")] == [20]

    def test_does_not_take_a_task_back_that_changes_meanwhile(self) -> None:
        bench = a_bench(12)
        flip_row(bench, b"r", 3)
        assert len(set(run_all(bench))) == len(run_all(bench, 3)) + 12
        assert {task.state for task in bench.audit().tasks.values()} == {State.SUCCEEDED}

    def test_counts_damaged_records_and_goes_on(self) -> None:
        bench = a_bench(6)
        flip_row(bench, b"r")
        flip(bench, layout.task_key(task_id(5)), 30)
        assert sorted(run_all(bench)) == [task_id(n) for n in (1, 2, 3, 4, 6)]
        assert bench.noted("reindexing_finished")[-1]["damaged"] == 1


class TestPayload:
    PAYLOAD = b"p" * 50

    def bench(self, harm: Callable[[Bench, bytes], None]) -> tuple[Bench, Sidecar]:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.submit(*[a_submission(n, payload=self.PAYLOAD * n) for n in (1, 2)])
        harm(bench, layout.payload_key(task_id(2)))
        sidecar.serve(2)
        return bench, sidecar

    @pytest.mark.parametrize(
        ("harm", "error_type"),
        [
            (flip, "payload_damaged"),
            (lambda bench, key: bench.pairs.pop(key), "payload_missing"),
            (
                lambda bench, key: bench.pairs.update(
                    {key: bench.pairs[layout.payload_key(task_id(1))]}
                ),
                "payload_damaged",
            ),
        ],
        ids=["flipped", "missing", "of another task"],
    )
    def test_that_is_not_what_was_submitted_makes_a_dead_letter_at_once(
        self, harm: Callable[[Bench, bytes], None], error_type: str
    ) -> None:
        bench, sidecar = self.bench(harm)
        assert [task.id for task in sidecar.granted()] == [task_id(1)]
        task = bench.audit().tasks[task_id(2)]
        assert task.state is State.DEAD
        assert task.error.startswith(error_type)
        assert [attempt.error_type for attempt in task.history] == [error_type]
        assert [note["task_id"] for note in bench.noted(error_type)] == [task_id(2).hex()]

    def test_that_is_damaged_takes_no_demand(self) -> None:
        _, sidecar = self.bench(flip)
        sidecar.submit(a_submission(3))
        assert [task.id for task in sidecar.granted()] == [task_id(1), task_id(3)]

    def test_that_is_damaged_is_no_harm_to_a_session_that_has_greeted_again(self) -> None:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(1, payload=self.PAYLOAD))
        flip(bench, layout.payload_key(task_id(1)))
        sidecar.declare()
        bench.receive(sidecar.peer, sidecar.demand_message(1))
        bench.begin()
        bench.receive(sidecar.peer, sidecar.hello_message(held=[Lease(task_id(1), 99)]))
        bench.finish()
        bench.settle()
        sidecar.serve(1)
        assert bench.audit().tasks[task_id(1)].state is State.DEAD
        sidecar.submit(a_submission(2))
        assert [task.id for task in sidecar.granted()] == [task_id(2)]
        assert EMAIL in bench.noted("payload_damaged")[0].values()
