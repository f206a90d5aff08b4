"""What operators are told of handlers, sidecars and tasks."""

import json
from dataclasses import asdict

from coordinator.commands.trace import timeline
from coordinator.core import overview, sidecar_view
from coordinator.core.operations import By, DrainSidecar
from coordinator.core.rates import Rates
from coordinator.core.task_view import task_detail, task_row
from protocol.messages import Failure, OutcomeKind, Result
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import FIRST_MS, a_submission, task_id


def row(bench: Bench) -> overview.HandlerRow:
    (found,) = overview.handler_rows(bench.shard.ledger, Rates(), bench.now)
    return found


def sidecars(bench: Bench) -> dict[str, str]:
    return {s.name: s.state for s in sidecar_view.sidecar_rows(bench.shard.ledger, bench.now)}


def waits_for(bench: Bench) -> str:
    ledger = bench.shard.ledger
    task = ledger.waiting.get(task_id()) or ledger.leased.get(task_id())
    task = task or bench.audit().tasks[task_id()]
    return task_detail(task, bench.now.wall_ms, 0).waits_for


def test_handler_is_told_with_its_backlog_and_who_serves_it() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(2, EMAIL)
    sidecar.submit(*[a_submission(number) for number in range(1, 6)])
    sidecar.submit(a_submission(6, options={"delay_ms": 1_000}))
    bench.pass_time(70)

    told = row(bench)

    assert (told.ready, told.scheduled, told.leased, told.dead) == (3, 1, 2, 0)
    assert (told.sidecars, told.demand, told.oldest_ready_ms) == (1, 0, 70)
    assert overview.totals(bench.shard.ledger.handlers.values())["ready"] == 3


def test_oldest_is_that_whose_lease_came_back() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(1, EMAIL)
    sidecar.submit(a_submission(1))
    bench.pass_time(50)
    sidecar.submit(a_submission(2))

    sidecar.report(failed(sidecar.grant(), OutcomeKind.RETURNED, Failure("stopping")))

    assert row(bench).oldest_ready_ms == 50


def test_oldest_is_not_known_while_all_are_in_the_store_only() -> None:
    bench = Bench()
    Sidecar(bench).submit(a_submission())

    bench.crash()

    assert (row(bench).ready, row(bench).oldest_ready_ms) == (1, None)


def test_oldest_skips_what_has_expired() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission(1, options={"expires_ms": 10}))
    bench.pass_time(5)
    sidecar.submit(a_submission(2))

    bench.advance(20)

    assert row(bench).oldest_ready_ms == 20


def test_drained_sidecar_is_draining_while_it_holds_leases() -> None:
    bench = Bench()
    sidecar, other = Sidecar(bench, 1), Sidecar(bench, 2)
    sidecar.serve(1)
    other.submit(a_submission(1))
    for name in ("host-1", "host-2", "host-5"):
        bench.operate(DrainSidecar(name, By("ada", "a disk")))
    assert sidecars(bench) == {"host-1": "draining", "host-2": "drained", "host-5": "absent"}

    sidecar.report(success(sidecar.grant()))

    assert sidecars(bench) == {"host-1": "drained", "host-2": "drained", "host-5": "absent"}
    other.goodbye()
    bench.pass_time(6_000)
    assert sidecars(bench) == {"host-1": "silent", "host-2": "absent", "host-5": "absent"}
    bench.crash()
    assert sidecars(bench) == {"host-1": "away", "host-2": "absent", "host-5": "absent"}
    rows = sidecar_view.sidecar_rows(bench.shard.ledger, bench.now)
    assert {row.drained_by for row in rows} == {"ada"}


def test_ready_task_tells_that_it_waits_for_an_undrain_once_nobody_else_may_get_it() -> None:
    bench = Bench()
    first, second = Sidecar(bench, 1), Sidecar(bench, 2)
    first.serve(0)
    second.serve(0)
    first.submit(a_submission())
    bench.operate(DrainSidecar("host-1", By("ada", "a disk")))
    assert waits_for(bench) == "a free slot: the sidecar of its handler would take no more now"

    bench.operate(DrainSidecar("host-2", By("bob")))

    assert waits_for(bench) == (
        f"an undrain: all that serve {EMAIL} are drained: host-1 by ada: a disk, host-2 by bob"
    )


def test_sidecar_that_is_not_heard_is_silent_and_one_that_has_not_come_back_is_away() -> None:
    bench = Bench()
    Sidecar(bench, 1)
    bench.pass_time(4_000)
    Sidecar(bench, 2)
    bench.pass_time(2_000)
    assert sidecars(bench) == {"host-1": "silent", "host-2": "ready"}

    bench.crash()

    assert set(sidecars(bench).values()) == {"away"}


def test_detail_of_a_handler_names_its_policy_and_what_came_of_its_tasks() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(1, EMAIL, attempts_max=1)
    sidecar.submit(a_submission())
    sidecar.report(failed(sidecar.grant(), OutcomeKind.RETRY, Failure("timeout")))

    handler = bench.shard.ledger.handlers[EMAIL]
    told = overview.handler_detail(bench.shard.ledger, handler, Rates(), bench.now)

    assert told.declared == {"attempts_max": 1}
    assert told.policy["timeout_ms"] == 60_000
    assert told.finished["dead"] == told.attempts["timeout"] == 1
    assert told.served_by == ["host-1"]


def test_task_tells_what_it_waits_for() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission(options={"delay_ms": 1_000}))
    assert waits_for(bench) == "its due time"

    bench.advance(1_000)
    assert waits_for(bench) == f"a sidecar: none serves {EMAIL}"

    sidecar.serve(0, EMAIL)
    assert "the sidecar of its handler would take no more now" in waits_for(bench)

    sidecar.serve(1, EMAIL)
    assert waits_for(bench) == "a free slot at host-1, which has taken it"

    sidecar.report(failed(sidecar.grant(), OutcomeKind.RETRY, Failure("ValueError")))
    assert waits_for(bench) == "the backoff before its next attempt"


def test_task_waits_for_the_concurrency_of_its_handler() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(5, EMAIL, concurrency=1)
    sidecar.submit(a_submission(2))
    sidecar.submit(a_submission(1))
    assert waits_for(bench) == "one of the 1 leases that its handler may have at a time"


def test_running_task_tells_how_far_it_is_and_not_its_checkpoint() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(1, EMAIL)
    sidecar.submit(a_submission())
    sidecar.progress(sidecar.grant(), permille=250, note="a quarter", checkpoint=b"secret")
    [task] = bench.shard.ledger.leased.values()

    told = task_detail(task, bench.now.wall_ms, 0)

    assert (told.progress, told.note, told.checkpoint_bytes) == (0.25, "a quarter", 6)
    assert told.cancelling is False
    assert "secret" not in repr(told)
    runs = timeline(json.loads(json.dumps(asdict(told))))
    assert "runs at host-1: 25 % done, a quarter, a checkpoint of 6 bytes" in runs


def test_task_is_told_without_its_payload_and_result() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(1, EMAIL)
    sidecar.submit(a_submission(payload=b"secret"))
    sidecar.report(success(sidecar.grant())._replace(value=Result(None, b"secret, too")))
    task = bench.audit().tasks[task_id()]

    told = task_detail(task, bench.now.wall_ms, 3_600_000)

    assert "secret" not in repr(told)
    assert told.result_bytes == 11
    assert told.removed_ms == FIRST_MS + 3_600_000
    assert told.task == task_row(task, bench.now.wall_ms)
    assert [attempt.outcome for attempt in told.history] == ["success"]
