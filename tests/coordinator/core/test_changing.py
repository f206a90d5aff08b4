"""Single tasks are cancelled, rescheduled, requeued and purged, or it is said why not."""

import pytest

from coordinator.core import changing
from coordinator.core.changing import TaskChange
from coordinator.core.gates import GateKind, Scope
from coordinator.core.operations import Action, By, ChangeTask, Done, LiftGate, Refusal, SetGate
from protocol.errors import Code
from protocol.ids import to_text
from protocol.messages import Failure, OutcomeKind, Priority, Revoked, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, lease_of, success
from tests.support.builders import a_submission, task_id

ADA = By("ada", "a bad deploy")
DAY_MS = 86_400_000


def ask(
    bench: Bench, action: Action, number: int = 1, *, at_ms: int = 0, dry_run: bool = False
) -> TaskChange | Refusal:
    wanted = ChangeTask(action, task_id(number), ADA, at_ms, dry_run)
    answer = bench.operate(wanted)
    if isinstance(answer, Done):
        assert isinstance(answer.value, TaskChange)
        return answer.value
    return answer


def audited(bench: Bench) -> list[str]:
    return [row[2] for row in bench.audit_rows()]


def with_dead(bench: Bench, **options: int) -> Sidecar:
    """Return a sidecar whose first task has died in its first attempt."""
    sidecar = Sidecar(bench)
    sidecar.serve(1)
    sidecar.submit(a_submission(1, options=options or None))
    sidecar.report(failed(sidecar.grant(), OutcomeKind.FATAL, Failure("ValueError", "no 7")))
    return sidecar


class TestCancel:
    def test_task_that_waits_ends_with_who_and_why(self) -> None:
        bench = Bench()
        Sidecar(bench).submit(a_submission())
        change = ask(bench, Action.CANCEL)
        assert isinstance(change, TaskChange)
        assert (change.task.state, change.task.error) == (
            *("cancelled", "cancelled: by ada (a bad deploy)"),
        )
        assert bench.audit().tasks[task_id()].state is State.CANCELLED

    def test_attempt_that_runs_is_told_to_stop(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(1)
        sidecar.submit(a_submission())
        change = ask(bench, Action.CANCEL)
        assert isinstance(change, TaskChange)
        assert "told to stop" in change.note
        assert sidecar.revoked() == [Revoked(*lease_of(sidecar.grant()), "cancelled")]
        sidecar.report(failed(sidecar.grant()))
        assert sidecar.status(task_id()).state is State.CANCELLED

    def test_task_that_has_ended_is_refused(self) -> None:
        bench = Bench()
        with_dead(bench)
        refusal = ask(bench, Action.CANCEL)
        assert refusal == Refusal("wrong_state", "it has ended already, as dead")


class TestReschedule:
    @pytest.mark.parametrize("delay_ms", [0, 60_000])
    @pytest.mark.parametrize("restarted", [False, True])
    def test_task_becomes_due_at_the_new_time_and_only_then(
        self, delay_ms: int, restarted: bool
    ) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"delay_ms": delay_ms} if delay_ms else None))
        if restarted:
            bench.crash()
        sidecar.hello()

        change = ask(bench, Action.RESCHEDULE, at_ms=bench.now.wall_ms + 5_000)

        assert isinstance(change, TaskChange)
        assert (change.task.state, change.task.due_ms) == ("scheduled", bench.now.wall_ms + 5_000)
        sidecar.serve(1)
        bench.advance(4_999)
        assert sidecar.granted() == []
        bench.advance(1)
        assert [task.id for task in sidecar.granted()] == [task_id()]
        sidecar.report(success(sidecar.grant()))
        bench.advance(60_000)
        assert len(sidecar.granted()) == 1

    def test_scheduled_task_can_be_due_now(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(1)
        sidecar.submit(a_submission(options={"delay_ms": DAY_MS}))
        ask(bench, Action.RESCHEDULE, at_ms=bench.now.wall_ms)
        assert len(sidecar.granted()) == 1

    def test_ready_task_that_shall_be_due_now_stays_where_it_is(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(1), a_submission(2))
        ask(bench, Action.RESCHEDULE, at_ms=bench.now.wall_ms)
        sidecar.serve(1)
        assert [task.id for task in sidecar.granted()] == [task_id(1)]

    def test_task_held_by_a_gate_is_held_again_when_it_is_due(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        bench.operate(SetGate(Scope(EMAIL, "red"), GateKind.PAUSE, ADA))
        sidecar.submit(a_submission(options={"collection": "red"}))
        ask(bench, Action.RESCHEDULE, at_ms=bench.now.wall_ms + 1_000)
        sidecar.serve(1)
        bench.advance(1_000)
        assert sidecar.granted() == []
        assert bench.shard.ledger.handlers[EMAIL].held == 1

    def test_task_that_was_put_aside_is_so_no_more(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        red = Scope(EMAIL, "red")
        bench.operate(SetGate(red, GateKind.PAUSE, ADA))
        sidecar.submit(*[a_submission(n, options={"collection": "red"}) for n in (1, 2)])
        ask(bench, Action.RESCHEDULE, at_ms=bench.now.wall_ms + 1_000)
        bench.operate(LiftGate(red, ADA))
        bench.advance(1_000)
        assert bench.shard.ledger.handlers[EMAIL].counts()[Priority.NORMAL] == 1
        sidecar.serve(2)
        assert {task.id for task in sidecar.granted()} == {task_id(1), task_id(2)}

    def test_leased_ended_and_expiring_ones_are_refused(self) -> None:
        bench = Bench()
        sidecar = with_dead(bench)
        sidecar.submit(a_submission(2, options={"expires_ms": 1_000}))
        later = bench.now.wall_ms + 2_000
        for number, said in ((1, "it is dead"), (2, "it would expire before")):
            refusal = ask(bench, Action.RESCHEDULE, number, at_ms=later)
            assert isinstance(refusal, Refusal)
            assert said in refusal.detail
        sidecar.serve(2)
        refusal = ask(bench, Action.RESCHEDULE, 2, at_ms=later)
        assert isinstance(refusal, Refusal)
        assert "it is leased" in refusal.detail
        assert audited(bench) == []


class TestRequeue:
    def test_task_begins_anew_and_keeps_its_history(self) -> None:
        bench = Bench()
        sidecar = with_dead(bench)

        change = ask(bench, Action.REQUEUE)

        assert isinstance(change, TaskChange)
        assert "count from 0 again" in change.note
        task = bench.audit().tasks[task_id()]
        assert (task.state, task.attempts, task.crashes, task.error) == (State.READY, 0, 0, "")
        assert [a.error_type for a in task.history] == ["ValueError", "requeued"]
        assert "by ada (a bad deploy); it was dead: ValueError: no 7" in task.history[1].message
        sidecar.serve(2)
        sidecar.report(success(sidecar.granted()[1]))
        status = sidecar.status(task_id())
        assert (status.state, status.attempts, status.error) == (State.SUCCEEDED, 1, "")
        assert len(status.history) == 3
        assert audited(bench) == ["task.requeue"]

    def test_what_is_reported_of_an_earlier_lease_ends_it_not_once_more(self) -> None:
        bench = Bench()
        sidecar = with_dead(bench)
        lease = sidecar.grant()
        ask(bench, Action.REQUEUE)
        assert sidecar.report(failed(lease, OutcomeKind.FATAL)) == [Code.STALE_TOKEN]
        assert bench.audit().tasks[task_id()].state is State.READY

    def test_its_retention_ends_and_begins_again_with_the_next_death(self) -> None:
        bench = Bench(retention_dead_ms=10_000)
        sidecar = with_dead(bench)
        bench.advance(6_000)
        sidecar.hello()
        ask(bench, Action.REQUEUE)
        sidecar.serve(1)
        sidecar.report(failed(sidecar.granted()[1], OutcomeKind.FATAL))
        bench.advance(6_000)
        assert bench.audit().tasks[task_id()].state is State.DEAD
        bench.advance(4_000)
        assert bench.audit().tasks == {}

    def test_expiry_that_is_over_counts_no_more(self) -> None:
        bench = Bench()
        sidecar = with_dead(bench, expires_ms=1_000)
        bench.advance(2_000)
        sidecar.hello()
        change = ask(bench, Action.REQUEUE)
        assert isinstance(change, TaskChange)
        assert "expiry is over" in change.note
        sidecar.serve(1)
        assert len(sidecar.granted()) == 2

    def test_expiry_to_come_still_counts(self) -> None:
        bench = Bench()
        with_dead(bench, expires_ms=10_000)
        ask(bench, Action.REQUEUE)
        bench.advance(10_000)
        assert bench.audit().tasks[task_id()].state is State.EXPIRED

    def test_gate_that_drops_ends_it(self) -> None:
        bench = Bench()
        with_dead(bench)
        bench.operate(SetGate(Scope(EMAIL), GateKind.DROP, ADA))
        change = ask(bench, Action.REQUEUE)
        assert isinstance(change, TaskChange)
        assert change.task.state == "dropped"

    def test_history_stays_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(changing, "HISTORY_MAX", 3)
        bench = Bench()
        sidecar = with_dead(bench)
        for _ in range(4):
            ask(bench, Action.REQUEUE)
            sidecar.serve(1)
            sidecar.report(failed(sidecar.granted()[-1], OutcomeKind.FATAL))
        assert bench.audit().tasks[task_id()].history[0].error_type == "ValueError"

    @pytest.mark.parametrize("action", [Action.REQUEUE, Action.PURGE])
    def test_what_is_not_dead_is_refused(self, action: Action) -> None:
        bench = Bench()
        Sidecar(bench).submit(a_submission())
        refusal = ask(bench, action)
        assert refusal == Refusal("wrong_state", "it is ready, and no dead letter")


class TestPurge:
    def test_nothing_is_left_of_the_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)  # The payload is stored apart.
        bench = Bench()
        with_dead(bench)
        ask(bench, Action.PURGE)
        assert [bench.rows(letter) for letter in (b"t", b"p", b"d")] == [[], [], []]
        assert bench.shard.ledger.handlers[EMAIL].dead == 0
        bench.advance(31 * DAY_MS)
        assert ask(bench, Action.PURGE) == Refusal("unknown_task", to_text(task_id()))

    def test_what_is_removed_meanwhile_is_not_brought_back(self) -> None:
        bench = Bench()
        with_dead(bench)
        for number, action in enumerate((Action.PURGE, Action.REQUEUE), start=101):
            bench.ask_operation(number, ChangeTask(action, task_id(), ADA))
        bench.settle()
        assert isinstance(bench.results[101], Done)
        assert isinstance(bench.results[102], Refusal)
        assert bench.audit().tasks == {}


@pytest.mark.parametrize("action", list(Action))
def test_dry_run_tells_and_changes_nothing(action: Action) -> None:
    bench = Bench()
    with_dead(bench)
    Sidecar(bench, 2).submit(a_submission(2))
    number = 1 if action in (Action.REQUEUE, Action.PURGE) else 2
    before = dict(bench.pairs)
    change = ask(bench, action, number, at_ms=bench.now.wall_ms + 1_000, dry_run=True)
    assert isinstance(change, TaskChange)
    assert change.dry_run
    assert bench.pairs == before


def test_two_at_once_are_done_once() -> None:
    bench = Bench()
    with_dead(bench)
    for number in (101, 102):
        bench.ask_operation(number, ChangeTask(Action.REQUEUE, task_id(), ADA))
    bench.settle()
    assert isinstance(bench.results[101], Done)
    assert bench.results[102] == Refusal("wrong_state", "it is ready, and no dead letter")


def test_answer_waits_for_the_commit() -> None:
    bench = Bench()
    with_dead(bench)
    bench.ask_operation(101, ChangeTask(Action.REQUEUE, task_id(), ADA))
    bench.flush()  # Reads the record.
    bench.begin()
    assert 101 not in bench.results
    bench.crash(committed=False)
    assert bench.audit().tasks[task_id()].state is State.DEAD
