from coordinator.core.config import Config
from coordinator.core.ledger import Ledger
from protocol.errors import Code
from protocol.messages import OutcomeKind, State
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import Sidecar, failed, success
from tests.support.builders import a_submission, task_id


def test_task_whose_timers_are_all_overdue_ends_once() -> None:
    """After a stop the timers of its due time and of its expiry fire in one batch."""
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission(options={"delay_ms": 1_000, "expires_ms": 1_000}))

    bench.pass_time(60_000)
    bench.crash()
    bench.tick()

    assert bench.audit().tasks[task_id()].state is State.EXPIRED
    assert bench.audit().counts == {1: [0, 0, 0, 0, 0, 0]}
    assert bench.shard.counts["expired"] == 1


def test_late_outcome_that_is_told_twice_in_one_message_is_taken_once() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(1)
    sidecar.submit(a_submission())
    task = sidecar.grant()
    bench.advance(60_000)  # The session is over, and the task is ready again.
    sidecar.hello()
    twice = [success(task), failed(task, OutcomeKind.FATAL)]

    codes = sidecar.report(*twice)

    assert codes == [None, Code.STALE_TOKEN]  # As if told in two messages.
    assert bench.audit().tasks[task_id()].state is State.SUCCEEDED
    assert bench.shard.counts["late_taken"] == 1


def test_row_numbers_grow_over_restarts_also_after_a_year_under_full_load() -> None:
    first, second = (Ledger(Config(store=bytes(16), epoch=epoch)) for epoch in (1, 2))
    year_of_rows = 365 * 24 * 3600 * 10_000
    assert first.next_row() + year_of_rows < second.next_row()
