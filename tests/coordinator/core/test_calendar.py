import pytest

from coordinator.core import layout, records
from coordinator.core.effects import GetMany, Scan
from coordinator.core.shard import Tick
from protocol.limits import DAY_MS
from protocol.messages import OutcomeKind, Outcomes, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import Sidecar, failed, success
from tests.support.builders import FIRST_MS, a_submission, task_id

HOUR_MS = 3_600_000


def states(bench: Bench) -> dict[bytes, State]:
    return {task_id: task.state for task_id, task in bench.audit().tasks.items()}


def granted(sidecar: Sidecar) -> list[bytes]:
    return [task.id for task in sidecar.granted()]


class TestDelay:
    def test_ends_at_its_time_and_not_before(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(options={"delay_ms": 5_000}))
        bench.advance(4_999)
        assert granted(sidecar) == []
        bench.advance(1)
        assert granted(sidecar) == [task_id()]
        assert sidecar.grant().due_ms == FIRST_MS + 5_000

    def test_is_what_the_shard_wakes_for(self) -> None:
        bench = Bench()
        Sidecar(bench).submit(a_submission(options={"delay_ms": 5_000}))
        bench.tick()
        assert bench.shard.next_due_ms(bench.now) == 5_000

    def test_survives_a_restart(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"delay_ms": 5_000}))
        bench.crash()
        sidecar.hello()
        sidecar.serve()
        bench.advance(5_000)
        assert granted(sidecar) == [task_id()]

    def test_that_ended_while_the_coordinator_was_down_ends_at_its_start(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"delay_ms": 5_000}))
        bench.pass_time(HOUR_MS)
        bench.crash()
        sidecar.hello()
        sidecar.serve()
        bench.tick()
        assert granted(sidecar) == [task_id()]

    def test_row_is_removed_when_the_last_of_its_tasks_is_due(self) -> None:
        bench = Bench()
        tasks = [a_submission(n, options={"delay_ms": 100 + n}) for n in (1, 2)]
        Sidecar(bench).submit(*tasks)
        assert len(bench.rows(b"s")) == 1
        bench.advance(101)
        assert len(bench.rows(b"s")) == 1
        bench.advance(1)
        assert bench.rows(b"s") == []

    @pytest.mark.parametrize("back_ms", [1, 60_000])
    def test_that_has_ended_is_over_though_the_clock_be_set_back(self, back_ms: int) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(options={"delay_ms": 1_000}))
        bench.settle()
        bench.pass_time(1_000)
        bench.step(Tick())  # The timer rings; the record is read by the next flush.
        bench.pass_time(0, wall_ms=-back_ms)
        bench.settle()
        assert granted(sidecar) == [task_id()]

    def test_of_tasks_beyond_the_window_end_in_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        numbers = [(n * 7) % 20 + 1 for n in range(20)]
        for n in numbers:
            sidecar.submit(a_submission(n, options={"delay_ms": 400 * n}))
        for passed in range(1, 21):
            bench.advance(400)
            assert granted(sidecar) == [task_id(n) for n in range(1, passed + 1)]

    def test_of_tasks_beyond_the_window_end_in_order_after_a_restart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        for n in range(1, 21):
            sidecar.submit(a_submission(n, options={"delay_ms": 400 * n}))
        bench.crash()
        sidecar.hello()
        sidecar.serve()
        for passed in range(1, 21):
            bench.advance(400)
            assert granted(sidecar) == [task_id(n) for n in range(1, passed + 1)]

    def test_set_while_others_are_read_from_the_store_is_not_forgotten(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        for n in range(1, 15):
            sidecar.submit(a_submission(n, options={"delay_ms": 2_000 * n}))
            bench.crash()
            sidecar.hello()
        sidecar.serve()
        for _ in range(4):
            bench.advance(8_000)
            sidecar.beat()
        assert granted(sidecar) == [task_id(n) for n in range(1, 15)]

    def test_of_a_crowd_is_handled_in_portions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("coordinator.core.calendar.DUE_MAX", 3)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(*[a_submission(n, options={"delay_ms": 10}) for n in range(1, 11)])
        bench.tick()
        bench.reads.clear()
        bench.advance(10)
        looked_at = [len(read.keys) for read in bench.reads if isinstance(read, GetMany)]
        assert looked_at == [3, 3, 3, 1]


class TestExpiry:
    def case(self, **options: int) -> tuple[Bench, Sidecar]:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"expires_ms": 1_000} | options))
        return bench, sidecar

    def expired(self, bench: Bench) -> bool:
        task = bench.audit().tasks[task_id()]
        if task.state is not State.EXPIRED:
            return False
        assert task.error == "expired before an attempt began"
        assert task.finished_ms == bench.now.wall_ms
        assert bench.shard.counts["expired"] == 1
        return True

    def test_ends_a_task_in_the_window(self) -> None:
        bench, sidecar = self.case()
        bench.advance(999)
        assert not self.expired(bench)
        bench.advance(1)
        assert self.expired(bench)
        sidecar.serve()
        assert granted(sidecar) == []

    def test_ends_a_task_that_is_in_the_store_only(self) -> None:
        bench, _ = self.case()
        bench.crash()
        bench.advance(1_000)
        assert self.expired(bench)
        assert bench.waiting() == 0

    def test_ends_a_task_beyond_the_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(*[a_submission(n) for n in range(2, 20)])
        sidecar.submit(a_submission(1, options={"expires_ms": 1_000}))
        bench.advance(1_000)
        assert self.expired(bench)
        sidecar.serve()
        assert granted(sidecar) == [task_id(n) for n in range(2, 20)]

    def test_ends_a_task_that_waits_for_its_next_attempt(self) -> None:
        bench, sidecar = self.case()
        sidecar.serve()
        sidecar.report(failed(sidecar.grant()))
        bench.advance(1_000)
        assert self.expired(bench)

    def test_counts_from_the_due_time(self) -> None:
        bench, _ = self.case(delay_ms=500)
        bench.advance(1_499)
        assert not self.expired(bench)
        bench.advance(1)
        assert self.expired(bench)

    def test_that_passed_while_nothing_ran_is_noticed_once(self) -> None:
        bench, _ = self.case(delay_ms=500)
        bench.pass_time(HOUR_MS - 1)
        bench.crash()
        bench.tick()
        assert self.expired(bench)

    def test_is_noticed_when_the_task_would_be_granted(self) -> None:
        bench, sidecar = self.case()
        bench.pass_time(1_000)  # No timer has rung yet.
        sidecar.serve()
        assert granted(sidecar) == []
        assert self.expired(bench)

    def test_at_a_grant_leaves_the_others_of_the_grant_alone(self) -> None:
        bench, sidecar = self.case()
        sidecar.submit(a_submission(2))
        bench.pass_time(1_000)
        sidecar.serve()
        assert granted(sidecar) == [task_id(2)]

    def test_leaves_a_task_that_runs_alone(self) -> None:
        bench, sidecar = self.case()
        sidecar.serve()
        bench.advance(5_000)
        assert bench.audit().leases != []
        assert sidecar.report(success(sidecar.grant())) == [None]

    def test_of_a_lost_session_ends_the_task(self) -> None:
        bench, sidecar = self.case()
        sidecar.serve()
        bench.advance(11_000)
        assert self.expired(bench)

    def test_of_a_task_that_has_ended_changes_nothing(self) -> None:
        bench, sidecar = self.case()
        sidecar.serve()
        sidecar.report(success(sidecar.grant()))
        bench.advance(1_000)
        assert states(bench) == {task_id(): State.SUCCEEDED}

    def test_that_the_clock_has_taken_back_while_it_was_looked_at_still_holds(self) -> None:
        bench, _ = self.case()
        bench.settle()
        bench.pass_time(1_000)
        bench.step(Tick())
        bench.pass_time(0, wall_ms=-1)
        bench.settle()
        assert states(bench) == {task_id(): State.EXPIRED}

    def test_of_a_task_that_is_saved_while_it_is_looked_at_changes_nothing(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission())
        sidecar.report(failed(sidecar.grant(), OutcomeKind.DEFER))
        bench.tick()
        bench.pass_time(2_000)
        bench.receive(sidecar.peer, Outcomes(9, [success(sidecar.grant())]))
        bench.begin()  # The late success is looked up,
        bench.step(Tick())  # and the timer rings meanwhile.
        bench.finish()
        bench.tick()
        assert states(bench) == {task_id(): State.SUCCEEDED}
        assert len(sidecar.granted()) == 1


def ended(bench: Bench, *numbers: int, kind: OutcomeKind = OutcomeKind.SUCCESS) -> Sidecar:
    """Let tasks end, and return the sidecar that did it."""
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(*[a_submission(n, payload=bytes(3_000)) for n in numbers])
    done = [
        success(task) if kind is OutcomeKind.SUCCESS else failed(task, kind)
        for task in sidecar.granted()
    ]
    sidecar.report(*done)
    return sidecar


class TestRetention:
    @pytest.mark.parametrize(
        ("kind", "kept_ms"), [(OutcomeKind.SUCCESS, HOUR_MS), (OutcomeKind.FATAL, 30 * DAY_MS)]
    )
    def test_ends_after_the_time_for_the_state(self, kind: OutcomeKind, kept_ms: int) -> None:
        bench = Bench()
        ended(bench, 1, kind=kind)
        bench.advance(kept_ms - 1)
        assert list(states(bench)) == [task_id()]
        bench.advance(1)
        assert {key[:1] for key in bench.pairs} == {b"h", b"m"}

    def test_of_an_expired_task_has_a_time_of_its_own(self) -> None:
        bench = Bench(retention_other_ms=50)
        Sidecar(bench).submit(a_submission(options={"expires_ms": 10}))
        bench.advance(10)
        bench.advance(49)
        assert states(bench) == {task_id(): State.EXPIRED}
        bench.advance(1)
        assert states(bench) == {}

    def test_is_what_the_shard_wakes_for(self) -> None:
        bench = Bench()
        sidecar = ended(bench, 1)
        sidecar.goodbye()
        bench.advance(20_000)
        assert bench.shard.next_due_ms(bench.now) == HOUR_MS - 20_000
        bench.advance(HOUR_MS - 20_000)
        assert bench.shard.next_due_ms(bench.now) is None

    def test_of_a_dead_letter_ends_its_count(self) -> None:
        bench = Bench()
        ended(bench, 1, 2, kind=OutcomeKind.FATAL)
        assert bench.audit().counts[1][-1] == 2
        bench.advance(30 * DAY_MS)
        assert bench.audit().counts[1][-1] == 0

    def test_survives_a_restart(self) -> None:
        bench = Bench()
        ended(bench, 1)
        bench.pass_time(HOUR_MS)
        bench.crash()
        bench.tick()
        assert states(bench) == {}

    def test_removes_in_small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        ended(bench, *range(1, 31))
        bench.reads.clear()
        bench.advance(HOUR_MS)
        assert states(bench) == {}
        removals = [read for read in bench.reads if isinstance(read, GetMany)]
        assert [len(read.keys) for read in removals] == [6] * 5
        scans = [r for r in bench.reads if isinstance(r, Scan) and r.start == b"x"]
        assert {scan.limit for scan in scans} == {2}

    def test_removes_what_is_due_and_waits_for_the_rest(self) -> None:
        bench = Bench()
        sidecar = ended(bench, 1)
        bench.advance(5_000)
        sidecar.submit(a_submission(2))
        sidecar.report(success(sidecar.grant()))
        sidecar.goodbye()
        bench.advance(HOUR_MS - 5_000)
        assert list(states(bench)) == [task_id(2)]
        assert bench.shard.next_due_ms(bench.now) == 5_000
        bench.advance(5_000)
        assert states(bench) == {}

    def test_of_tasks_that_end_while_others_are_removed_is_not_forgotten(self) -> None:
        bench = Bench(retention_succeeded_ms=100)
        sidecar = Sidecar(bench)
        sidecar.serve()
        for number in range(1, 30):
            sidecar.submit(a_submission(number))
            bench.receive(sidecar.peer, Outcomes(number, [success(sidecar.grant())]))
            bench.pass_time(50)
            bench.step(Tick())
            bench.flush()
        for _ in range(3):
            bench.advance(100)
        assert states(bench) == {}
        assert bench.shard.counts["removed"] == 29

    def test_that_was_raised_keeps_what_has_ended_already(self) -> None:
        bench = Bench()
        ended(bench, 1)
        bench.config["retention_succeeded_ms"] = 2 * HOUR_MS
        bench.crash()
        bench.advance(HOUR_MS)
        assert list(states(bench)) == [task_id()]
        bench.advance(HOUR_MS - 1)
        assert list(states(bench)) == [task_id()]
        bench.advance(1)
        assert states(bench) == {}

    def test_proof_of_a_task_that_has_come_back_to_life(self) -> None:
        """Nothing does that yet; the row that stands for its first end must not remove it."""
        bench = Bench(audited=False)
        ended(bench, 1)
        revive(bench)
        bench.advance(HOUR_MS)
        assert states(bench) == {task_id(): State.READY}
        assert bench.rows(b"x") == []

    def test_named_twice_is_removed_once(self) -> None:
        bench = Bench(audited=False)
        ended(bench, 1, kind=OutcomeKind.FATAL)
        (row,) = bench.rows(b"x")
        bench.pairs[row] += task_id()
        bench.advance(30 * DAY_MS)
        assert bench.audit().counts[1][-1] == 0
        assert bench.shard.counts["removed"] == 1

    def test_of_a_task_that_is_gone_already_does_no_harm(self) -> None:
        bench = Bench(audited=False)
        ended(bench, 1)
        del bench.pairs[layout.task_key(task_id())]
        bench.advance(HOUR_MS)
        assert bench.rows(b"x") == []


def revive(bench: Bench) -> None:
    """Write a task that has ended as one that waits."""
    task = bench.audit().tasks[task_id()]
    task.state = State.READY
    bench.pairs[layout.task_key(task_id())] = records.encode(task)


def test_nothing_to_do_is_nothing_to_wake_for() -> None:
    bench = Bench()
    bench.tick()
    assert bench.shard.next_due_ms(bench.now) is None


def test_timer_of_a_task_that_is_gone_does_no_harm() -> None:
    bench = Bench(audited=False)
    Sidecar(bench).submit(a_submission(options={"delay_ms": 10}))
    del bench.pairs[layout.task_key(task_id())]
    bench.advance(10)
    assert bench.rows(b"s") == []


@pytest.mark.parametrize("kind", [layout.TIMER_DUE, layout.TIMER_EXPIRE])
def test_stale_timer_does_nothing(kind: int) -> None:
    bench = Bench(audited=False)
    Sidecar(bench).submit(a_submission(options={"delay_ms": 500, "expires_ms": 500}))
    row = layout.timer_key(FIRST_MS + 10, 1)
    bench.pairs[row] = layout.join_timers(row, [(FIRST_MS + 10, kind, task_id())])
    bench.crash()
    bench.advance(10)
    assert states(bench) == {task_id(): State.SCHEDULED}
    assert row not in bench.pairs
