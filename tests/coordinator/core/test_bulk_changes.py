"""Many tasks are changed slice by slice: each once, whatever happens in between."""

import pytest

from coordinator.core import bulk_changes, listing, ready_queue
from coordinator.core.bulk import OperationRow, row_of
from coordinator.core.operations import Action, By, Done, MendRow, Refusal, StartBulk, StopBulk
from protocol.messages import Demand, Failure, Limit, OutcomeKind, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import a_submission, task_id

ADA = By("ada", "a bad deploy")
TASKS = 30
DIGEST = "email.digest"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    for module, name, value in (
        (bulk_changes, "SLICE_TASKS", 3),
        (bulk_changes, "SLICE_SCANNED", 4),
        (bulk_changes, "WRITE_SLICES", 2),
        (listing, "CHUNK", 2),
        (listing, "ROWS", 1),
    ):
        monkeypatch.setattr(module, name, value)


def start(
    bench: Bench, action: Action, text: str, *, at_ms: int = 0, rate: int = 1_000
) -> OperationRow:
    answer = bench.operate(StartBulk(action, text, ADA, at_ms, rate, 0, exact=True))
    assert isinstance(answer, Done), answer
    assert isinstance(answer.value, OperationRow)
    return answer.value


def run(bench: Bench, number: int = 1, *, steps: int = 1_000) -> OperationRow:
    """Let time pass until an operation has ended, or for so many steps."""
    for _ in range(steps):
        row = row_of(bench.shard.ledger.bulks[number])
        if row.state != "running":
            return row
        bench.advance(bulk_changes.PAUSE_MS)
    return row_of(bench.shard.ledger.bulks[number])


def with_dead(bench: Bench) -> Sidecar:
    """Return a sidecar of which all tasks have died, of two handlers."""
    sidecar = Sidecar(bench)
    for number in range(1, TASKS + 1):
        sidecar.submit(a_submission(number, handler=(EMAIL, DIGEST)[number % 2]))
    sidecar.serve(TASKS)
    sidecar.serve(TASKS, DIGEST)
    for place, lease in enumerate(sidecar.granted()):
        why = Failure(("ValueError", "KeyError")[place % 3 > 0], f"no {place}")
        sidecar.report(failed(lease, OutcomeKind.FATAL, why))
    sidecar.goodbye()
    return sidecar


def states(bench: Bench) -> dict[State, int]:
    tasks = bench.audit().tasks.values()
    return {state: n for state in State if (n := sum(t.state is state for t in tasks))}


def requeues(bench: Bench) -> list[int]:
    """Return how often each task was requeued."""
    return [
        sum(entry.error_type == "requeued" for entry in task.history)
        for task in bench.audit().tasks.values()
    ]


@pytest.mark.parametrize("text", ["handler=*", "error_type=*", "state=dead", "id=0*"])
def test_all_dead_letters_are_requeued_once(text: str) -> None:
    bench = Bench()
    with_dead(bench)

    started = start(bench, Action.REQUEUE, text)
    row = run(bench)

    assert started.state == "running"
    assert (row.state, row.changed, row.skipped) == ("done", TASKS, 0)
    assert states(bench) == {State.READY: TASKS}
    assert requeues(bench) == [1] * TASKS
    assert [row[2] for row in bench.audit_rows()] == ["requeue.start", "requeue.done"]
    assert bench.audit_rows()[-1][5]["tasks"] == TASKS


def test_only_those_that_are_meant_are_changed() -> None:
    bench = Bench()
    with_dead(bench)
    start(bench, Action.PURGE, f"handler={EMAIL} error_type=ValueError")
    row = run(bench)
    left = [t for t in bench.audit().tasks.values() if t.handler.name == EMAIL]
    assert row.changed == TASKS // 6
    assert {t.history[-1].error_type for t in left} == {"KeyError"}


def test_waiting_and_running_tasks_are_cancelled() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(*[a_submission(n) for n in range(1, 21)])
    sidecar.submit(*[a_submission(n, options={"delay_ms": 10**9}) for n in range(21, 31)])
    sidecar.serve(4)

    start(bench, Action.CANCEL, "handler=*")
    row = run(bench)

    assert (row.state, row.changed) == ("done", TASKS)
    assert len(sidecar.revoked()) == 4
    for lease in sidecar.granted():
        sidecar.report(failed(lease))
    assert states(bench) == {State.CANCELLED: TASKS}


def test_none_is_left_out_when_its_row_is_read_into_memory_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by seed 1102316: the row was written again without those that had been changed."""
    monkeypatch.setattr(ready_queue, "ROW_ENTRIES_MAX", 4)
    bench = Bench()
    Sidecar(bench).submit(*[a_submission(n) for n in range(1, 5)])
    bench.crash()
    start(bench, Action.CANCEL, "state=ready", rate=10)
    while states(bench).get(State.CANCELLED, 0) < 2:
        bench.advance(bulk_changes.PAUSE_MS)

    Sidecar(bench, 2).serve(1)  # Task 3 is leased, task 4 is still ready.
    run(bench)

    assert states(bench) == {State.CANCELLED: 3, State.READY: 1}


def test_rescheduled_tasks_are_met_at_their_new_place_and_left_there() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    for number in range(1, TASKS + 1):
        sidecar.submit(a_submission(number, options={"delay_ms": 100_000 + number}))
    at_ms = bench.now.wall_ms + 100_015

    start(bench, Action.RESCHEDULE, "state=scheduled", at_ms=at_ms)
    row = run(bench)

    # One is due then already.
    assert (row.state, row.changed, row.skipped) == ("done", TASKS - 1, 0)
    assert {task.due_ms for task in bench.audit().tasks.values()} == {at_ms}
    bench.advance(at_ms - bench.now.wall_ms - 1)
    sidecar.hello()
    sidecar.serve(TASKS)
    assert sidecar.granted() == []
    bench.advance(1)
    assert len(sidecar.granted()) == TASKS


def test_rate_bounds_how_many_are_changed_in_a_second() -> None:
    bench = Bench()
    with_dead(bench)
    start(bench, Action.REQUEUE, "handler=*", rate=10)
    began = bench.now.ms
    changed = [run(bench, steps=50).changed for _ in range(3)]
    assert bench.now.ms - began == 3_000
    assert [10 <= total <= 11 + 10 * place for place, total in enumerate(changed)] == [True] * 3
    assert run(bench).changed == TASKS


@pytest.mark.parametrize("committed", [False, True])
def test_crash_after_each_step_changes_no_task_twice_and_forgets_none(committed: bool) -> None:
    bench = Bench()
    with_dead(bench)
    start(bench, Action.REQUEUE, "handler=*")
    while bench.shard.ledger.bulks[1].state == "running":
        bench.pass_time(bulk_changes.PAUSE_MS)
        for _ in range(12):  # More than a slice, so that it gets on.
            bench.flush()
        bench.begin()
        bench.crash(committed=committed)
    row = row_of(bench.shard.ledger.bulks[1])
    assert (row.changed, row.skipped) == (TASKS, 0)
    assert row.resumed > 3
    assert requeues(bench) == [1] * TASKS


def test_task_that_dies_again_meanwhile_is_left_dead() -> None:
    bench = Bench()
    with_dead(bench)
    sidecars = (Sidecar(bench, 2), Sidecar(bench, 3))
    for sidecar, handler in zip(sidecars, (EMAIL, DIGEST), strict=True):
        sidecar.serve(TASKS, handler)
    start(bench, Action.REQUEUE, "state=dead")
    reported = [0, 0]
    while bench.shard.ledger.bulks[1].state == "running":
        bench.advance(bulk_changes.PAUSE_MS)
        for place, sidecar in enumerate(sidecars):
            for lease in sidecar.granted()[reported[place] :]:
                sidecar.report(failed(lease, OutcomeKind.FATAL))
                reported[place] += 1
    assert requeues(bench) == [1] * TASKS
    assert states(bench) == {State.DEAD: TASKS}


def test_task_that_changes_between_look_and_change_is_skipped() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(*[a_submission(n) for n in range(1, 7)])
    sidecar.serve(0)
    start(bench, Action.RESCHEDULE, "state=ready", at_ms=bench.now.wall_ms + 10**6)
    asked = False
    while bench.shard.ledger.bulks[1].state == "running":
        bench.pass_time(bulk_changes.PAUSE_MS)
        bench.flush()
        if not asked:
            bench.receive(sidecar.peer, Demand([Limit(EMAIL, 2)]))
            asked = True
    row = row_of(bench.shard.ledger.bulks[1])
    assert row.changed == 4
    sidecar.report(*[success(lease) for lease in sidecar.granted()])
    assert states(bench) == {State.SCHEDULED: 4, State.SUCCEEDED: 2}


class TestStopping:
    def test_changes_nothing_more_and_is_kept(self) -> None:
        bench = Bench()
        with_dead(bench)
        start(bench, Action.REQUEUE, "handler=*", rate=10)
        run(bench, steps=20)

        answer = bench.operate(StopBulk(1, By("bob")))

        assert isinstance(answer, Done)
        changed = bench.shard.ledger.bulks[1].changed
        assert 0 < changed < TASKS
        bench.crash()
        bench.advance(60_000)
        row = row_of(bench.shard.ledger.bulks[1])
        assert (row.state, row.why, row.changed) == ("stopped", "stopped by bob", changed)
        assert sum(requeues(bench)) == changed

    @pytest.mark.parametrize("flushes", range(1, 5))
    def test_in_the_middle_of_a_slice_changes_nothing_of_it(self, flushes: int) -> None:
        bench = Bench()
        with_dead(bench)
        start(bench, Action.REQUEUE, "handler=*", rate=10)
        bench.pass_time(1_000)
        for _ in range(flushes):
            bench.flush()
        before = bench.shard.ledger.bulks[1].changed
        bench.ask_operation(77, StopBulk(1, ADA))
        bench.settle()
        assert sum(requeues(bench)) == bench.shard.ledger.bulks[1].changed == before

    def test_what_is_unknown_or_has_ended_is_refused(self) -> None:
        bench = Bench()
        assert bench.operate(StopBulk(9, ADA)) == Refusal(
            "unknown_operation", "there is no operation 9"
        )
        start(bench, Action.PURGE, "handler=*")
        run(bench)
        assert bench.operate(StopBulk(1, ADA)) == Refusal(
            "wrong_state", "operation 1 is done already"
        )


def test_so_many_may_be_under_way_and_none_twice() -> None:
    bench = Bench()
    with_dead(bench)
    for number in range(1, bulk_changes.RUNNING_MAX):
        text = f"state=dead attempts<={number}"
        assert start(bench, Action.REQUEUE, text, rate=1).number == number
        again = bench.operate(StartBulk(Action.REQUEUE, text, ADA, 0, 1, 0, exact=True))
        assert again == Refusal("same_operation", f"operation {number} does this already")
        other = bench.operate(StartBulk(Action.PURGE, text, ADA, 0, 1, 0, exact=True))
        assert other == Refusal(
            "conflicting_operation", f"operation {number} (requeue) changes the same tasks"
        )
    start(bench, Action.PURGE, "attempts<=1", rate=1)
    refusal = bench.operate(StartBulk(Action.PURGE, "handler=x", ADA, 0, 1, 0, exact=True))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "too_many_operations"


def test_oldest_that_has_ended_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_changes, "KEPT", 3)
    bench = Bench()
    for number in range(1, 6):
        start(bench, Action.PURGE, "handler=*")
        run(bench, number)
    bench.crash()
    assert sorted(bench.shard.ledger.bulks) == [3, 4, 5]
    assert start(bench, Action.PURGE, "handler=*").number == 6


class TestInterrupted:
    def test_damaged_row_is_told_and_stops_no_start(self) -> None:
        bench = Bench()
        with_dead(bench)
        start(bench, Action.REQUEUE, "handler=*", rate=1)
        [key] = bench.rows(b"b")
        bench.pairs[key] = bench.pairs[key][:-1] + b"?"
        bench.crash()
        row = row_of(bench.shard.ledger.bulks[1])
        assert (row.state, row.owner) == ("interrupted", "")
        assert "its row was damaged" in row.why

    def test_filter_that_is_no_filter_any_more_is_told(self) -> None:
        bench = Bench()
        start(bench, Action.REQUEUE, "handler=*", rate=1)
        bench.shard.ledger.bulks[1].filter = "colour=red"
        bench.shard.ledger.bulks[1].state = "running"
        row = run(bench)
        assert row.state == "interrupted"
        assert "no field is called 'colour'" in row.why
        assert "ask for it again" in row.why


def test_damaged_row_of_a_dead_letter_is_made_anew_when_it_is_met() -> None:
    bench = Bench(audited=False)
    with_dead(bench)
    key, whole = bench.rows(b"d")[3], dict(bench.pairs)
    bench.pairs[key] = whole[key][:-1] + b"?"

    bench.operate(MendRow(key))

    assert bench.pairs[key] == whole[key]
    assert bench.noted("row_damaged")[0]["kind"] == "dead letters"
    assert bench.audit().problems() == []


def test_store_without_rows_of_dead_letters_gets_them_at_the_start() -> None:
    bench = Bench(audited=False)
    with_dead(bench)
    rows = bench.rows(b"d")
    for key in rows:
        del bench.pairs[key]
    bench.crash()
    assert bench.rows(b"d") == rows
    assert task_id(1) in bench.audit().tasks
