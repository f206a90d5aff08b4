import pytest

from coordinator.core.effects import Effects, Now
from coordinator.core.ledger import ROW_BITS
from coordinator.core.shard import Broke, Undelivered
from protocol.errors import Code
from protocol.messages import Recall, Refused, Submit, Welcome
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import Sidecar, success
from tests.support.builders import FIRST_MS, a_batch, a_submission, task_id


def test_what_breaks_the_protocol_is_refused_at_once_and_counted() -> None:
    bench = Bench()
    bench.step(Broke(b"peer", Code.MALFORMED, "not MessagePack"))
    assert bench.to(b"peer") == [Refused(Code.MALFORMED, "not MessagePack", 0)]
    assert bench.shard.counts == {Code.MALFORMED: 1}


def test_message_that_is_not_for_a_coordinator_is_refused_and_harms_nothing() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.say(Recall([]))
    assert sidecar.last(Refused).code == Code.UNKNOWN_MESSAGE
    assert sidecar.last(Refused).detail == "Recall is not for a coordinator"
    assert sidecar.submit(a_submission()).rejections == []


def test_idle_shard_has_nothing_to_do() -> None:
    bench = Bench()
    bench.settle()
    assert not bench.shard.flush(bench.now)
    assert bench.shard.flush(bench.now) == Effects()


def test_events_between_two_flushes_leave_together() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    for number in (1, 2, 3):
        batch = a_batch(a_submission(number), request=number)
        bench.receive(sidecar.peer, Submit([batch]))
    bench.flush()
    bench.begin()
    assert bench.held is not None
    written = {key[:1] for key in bench.held.writes}
    bench.finish()
    assert written == {b"h", b"g", b"t"}  # Granted in the commit that stores them: no ready row.
    assert len(sidecar.granted()) == 3


def test_message_other_than_a_grant_that_cannot_be_handed_over_is_counted_only() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    bench.unreachable.add(sidecar.peer)
    sidecar.say_hello()
    assert bench.shard.counts["undelivered"] == 1
    bench.unreachable.clear()
    assert sidecar.hello().resumed


def test_grant_that_comes_back_after_its_lease_has_ended_changes_nothing() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    grant = next(o for o in bench.sent if o.peer == sidecar.peer and hasattr(o.message, "groups"))
    sidecar.report(success(sidecar.grant()))
    before = dict(bench.pairs)
    bench.step(Undelivered(grant))
    bench.settle()
    assert bench.pairs == before


def test_same_events_have_the_same_effects() -> None:
    def run() -> dict[bytes, bytes]:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(*[a_submission(n, options={"delay_ms": n * 100}) for n in range(1, 9)])
        bench.advance(500)
        bench.crash()
        sidecar.hello()
        sidecar.serve()
        bench.advance(500)
        return bench.pairs

    assert run() == run()


@pytest.mark.parametrize(("passed_ms", "due_ms"), [(0, 400), (399, 1), (400, 0), (90_000, 0)])
def test_tick_is_due_at_the_nearest_time_and_never_in_the_past(passed_ms: int, due_ms: int) -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission(1, options={"delay_ms": 400}))
    sidecar.submit(a_submission(2, options={"delay_ms": 900}))
    bench.tick()
    bench.pass_time(passed_ms)
    assert bench.shard.next_due_ms(bench.now) == due_ms


def test_tokens_grow_over_an_id_that_is_used_again() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    sidecar.report(success(sidecar.grant()))
    bench.advance(3_600_001)
    sidecar.hello()
    sidecar.serve()
    sidecar.submit(a_submission())
    first, second = (task for task in sidecar.granted() if task.id == task_id())
    assert second.delivery == 1, "the first task was removed"
    assert second.token > first.token


def test_tokens_of_a_later_epoch_are_larger_than_all_before() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission(1))
    bench.crash()
    sidecar.hello()
    sidecar.serve()
    sidecar.submit(a_submission(2))
    tokens = {task.id: task.token for task in sidecar.granted()}
    assert tokens[task_id(2)] >= 2 << ROW_BITS > sidecar.granted()[0].token
    assert sidecar.last(Welcome).epoch == 2


def test_clock_is_what_the_caller_says() -> None:
    bench = Bench()
    bench.now = Now(1, FIRST_MS + 7)
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission())
    assert sidecar.status(task_id()).submitted_ms == FIRST_MS + 7
