import pytest

from coordinator.core import sweeping
from coordinator.core.shard import Tick
from protocol.messages import Batch, State, Submit
from protocol.submission import encode_batch
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import Sidecar
from tests.support.builders import a_submission, task_id

EXPIRY_MS = 1_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    monkeypatch.setattr(sweeping, "GONE_MIN", 4)
    monkeypatch.setattr(sweeping, "ROWS", 2)


def rows(bench: Bench) -> int:
    """Return how many rows of ready tasks are in the store."""
    return sum(1 for key in bench.pairs if key[:1] == b"r")


def submit(sidecar: Sidecar, *numbers: int, expires_ms: int = EXPIRY_MS) -> None:
    for number in numbers:
        sidecar.submit(a_submission(number, options={"expires_ms": expires_ms}))


def test_tasks_that_expire_unserved_leave_no_rows() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    submit(sidecar, *range(1, 40))
    assert rows(bench) > 1

    bench.advance(EXPIRY_MS)

    assert {task.state for task in bench.audit().tasks.values()} == {State.EXPIRED}
    assert rows(bench) == 0


def test_rows_do_not_gather_where_nobody_ever_asks() -> None:
    """There is always one that is ready, so that the store's part of the queue is never empty."""
    bench = Bench()
    sidecar = Sidecar(bench)
    most = 0
    for number in range(1, 300, 5):
        submit(sidecar, *range(number, number + 5))
        bench.advance(EXPIRY_MS // 4)
        sidecar.beat()
        most = max(most, rows(bench))
    assert most < 60


def test_rows_of_tasks_that_are_ready_stay() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    submit(sidecar, *range(1, 40, 2))
    submit(sidecar, *range(2, 40, 2), expires_ms=100 * EXPIRY_MS)

    bench.advance(EXPIRY_MS)
    bench.crash()
    sidecar.hello()
    sidecar.serve()

    assert {task.id for task in sidecar.granted()} == {task_id(n) for n in range(2, 40, 2)}


@pytest.mark.parametrize("flushes", range(6))
def test_a_row_goes_whose_task_was_submitted_once_more_while_it_was_looked_at(flushes: int) -> None:
    """Found by seed 300592: it was kept for a task that is not ready by it, and forgotten."""
    bench = Bench(retention_other_ms=1)
    sidecar = Sidecar(bench)
    submit(sidecar, *range(1, 5), 10)  # The last of them does not fit into the window.
    submit(sidecar, 11, expires_ms=2 * EXPIRY_MS)
    bench.advance(EXPIRY_MS)
    bench.advance(1)  # Of task 10 its row is left.

    bench.pass_time(EXPIRY_MS - 1)
    bench.step(Tick())
    for _ in range(flushes):
        bench.flush()
    bench.begin()
    again = encode_batch([a_submission(10, options={"delay_ms": 5})])
    bench.receive(sidecar.peer, Submit([Batch(99, again)]))
    bench.finish()
    bench.tick()
    bench.advance(5)
    sidecar.serve()

    assert [task.id for task in sidecar.granted()] == [task_id(10)]
    assert rows(bench) == 0
