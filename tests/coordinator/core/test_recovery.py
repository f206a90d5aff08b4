import pytest

from coordinator.core import layout
from coordinator.core.effects import GetMany, Scan
from protocol.messages import OutcomeKind, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import Sidecar, failed, lease_of, success
from tests.support.builders import a_submission, task_id


def test_empty_store_is_recovered() -> None:
    bench = Bench()
    expected = {"handlers": 0, "sessions": 0, "leases": 0, "ready": 0, "scheduled": 0}
    assert bench.noted("recovered") == [expected]


def test_handlers_sessions_leases_and_counts_come_back() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(total=2)
    sidecar.submit(*[a_submission(n) for n in range(1, 6)])
    sidecar.submit(a_submission(6, handler="email.other", options={"delay_ms": 500}))
    bench.crash()
    expected = {"handlers": 2, "sessions": 1, "leases": 2, "ready": 3, "scheduled": 1}
    assert bench.noted("recovered")[-1] == expected
    assert bench.audit().problems() == []


def test_settled_leases_of_a_grant_are_passed_over() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(total=5)
    sidecar.submit(*[a_submission(n) for n in range(1, 6)])
    one, two, three, four, five = sidecar.granted()
    ends = [OutcomeKind.FATAL, OutcomeKind.RETRY, OutcomeKind.RETURNED]
    outcomes = [failed(task, kind) for task, kind in zip((two, three, four), ends, strict=True)]
    sidecar.report(success(one), *outcomes)
    bench.crash()
    assert bench.noted("recovered")[-1]["leases"] == 1
    welcome = sidecar.hello(held=[lease_of(task) for task in (one, two, three, four, five)])
    assert welcome.lost == [lease_of(task) for task in (one, two, three, four)]
    assert sidecar.report(success(five)) == [None]


def test_grant_that_was_committed_and_never_sent_goes_out_again() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.declare()
    sidecar.submit(a_submission())
    bench.receive(sidecar.peer, sidecar.demand_message(1))
    bench.begin()
    bench.crash(committed=True)
    assert (sidecar.granted(), len(bench.audit().leases)) == ([], 1)

    sidecar.hello()
    sidecar.serve()

    assert [(task.attempt, task.delivery) for task in sidecar.granted()] == [(1, 2)]


def test_commit_that_did_not_take_place_leaves_no_trace() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    before = dict(bench.pairs)
    bench.receive(sidecar.peer, sidecar.outcomes_message(success(sidecar.grant())))
    bench.begin()
    bench.crash(committed=False)
    assert bench.pairs == before
    sidecar.hello(held=[lease_of(sidecar.grant())])
    assert sidecar.report(success(sidecar.grant())) == [None]


def test_store_of_many_pages_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    bench = Bench()
    for number in range(1, 10):
        sidecar = Sidecar(bench, number)
        sidecar.serve(total=1, handler=f"email.h{number}")
        sidecar.submit(a_submission(number, handler=f"email.h{number}"))
    bench.crash()
    expected = {"handlers": 9, "sessions": 9, "leases": 9, "ready": 0, "scheduled": 0}
    assert bench.noted("recovered")[-1] == expected


def test_waiting_tasks_are_not_read_at_the_start() -> None:
    bench = Bench(audited=False)
    sidecar = Sidecar(bench)
    sidecar.submit(*[a_submission(n) for n in range(1, 3_001)])
    sidecar.submit(*[a_submission(n, options={"delay_ms": 10**9}) for n in range(3_001, 4_001)])
    bench.reads.clear()
    bench.crash()
    scanned = {read.start[:1] for read in bench.reads if isinstance(read, Scan)}
    assert scanned == set(
        map(bytes, zip(b"oqmhvkbngasd", strict=True))
    )  # Of the timers, the nearest.
    keys = [key for read in bench.reads if isinstance(read, GetMany) for key in read.keys]
    assert keys == [layout.REINDEX_KEY, layout.RESTORED_KEY]
    assert bench.noted("recovered")[-1]["ready"] == 3_000


def test_lease_of_a_session_that_the_store_does_not_know_ends_with_its_timeout() -> None:
    bench = Bench(audited=False)
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    del bench.pairs[layout.session_key(sidecar.incarnation)]
    bench.crash()
    assert bench.noted("recovered")[-1]["sessions"] == 1
    bench.advance(11_000)
    assert bench.audit().leases == []
    assert bench.audit().tasks[task_id()].state is State.READY
    assert bench.audit().problems() == []


def test_row_of_leases_that_all_are_over_goes() -> None:
    bench = Bench(audited=False)
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    del bench.pairs[layout.task_key(task_id())]
    bench.crash()
    assert bench.rows(b"g") == []


def test_session_whose_record_is_damaged_is_noted_and_stops_nobody() -> None:
    bench = Bench(audited=False)
    sidecar, other = Sidecar(bench), Sidecar(bench, 2)
    sidecar.serve()
    sidecar.submit(a_submission())
    key = layout.session_key(other.incarnation)
    bench.pairs[key] = b"\x01" + bytes(9)
    bench.crash()
    assert [note["which"] for note in bench.noted("record_corrupt")] == [other.incarnation.hex()]
    assert sidecar.hello(held=[lease_of(sidecar.grant())]).lost == []
    assert other.hello().resumed
    bench.crash()
    assert len(bench.noted("record_corrupt")) == 1  # It was learnt again from the HELLO.


def test_deliveries_are_counted_over_restarts() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    for _ in range(3):
        bench.crash()
        sidecar.hello()
        sidecar.serve()
    assert [task.delivery for task in sidecar.granted()] == [1, 2, 3, 4]
    tokens = [task.token for task in sidecar.granted()]
    assert tokens == sorted(set(tokens))


def test_restored_store_grants_nothing_until_no_lease_from_before_can_be_alive() -> None:
    bench = Bench(session_timeout_ms=10_000)
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission())
    bench.pairs[layout.RESTORED_KEY] = layout.seal(layout.RESTORED_KEY, b"1")
    bench.crash()
    sidecar.hello()
    sidecar.serve()
    bench.advance(5_000)
    bench.crash()  # A start in between begins the wait anew.
    sidecar.hello()
    sidecar.serve()

    bench.advance(9_000)
    assert sidecar.granted() == []

    sidecar.beat()
    bench.advance(2_000)
    assert len(sidecar.granted()) == 1
    assert layout.RESTORED_KEY not in bench.pairs


def test_id_used_again_is_not_leased_by_a_row_of_its_first_life() -> None:
    """The row of a grant stands while any of its leases does (seed 1012117 of the simulation)."""
    bench = Bench(retention_succeeded_ms=1_000)
    sidecar = Sidecar(bench)
    sidecar.serve(total=2)
    sidecar.submit(a_submission(1), a_submission(2))
    first, second = sidecar.granted()
    sidecar.report(success(first))
    bench.advance(3_000)
    sidecar.submit(a_submission(1))
    assert sidecar.status(first.id).state is State.READY
    bench.crash()
    assert (bench.noted("recovered")[-1]["leases"], bench.noted("recovered")[-1]["ready"]) == (1, 1)
    sidecar.hello(held=[lease_of(second)])
    sidecar.serve(total=1)
    assert sidecar.granted()[-1].token > first.token
