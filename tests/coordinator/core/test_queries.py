from collections.abc import Callable

import pytest

from coordinator.core import waits
from protocol import limits
from protocol.errors import Code
from protocol.messages import (
    Answer,
    OutcomeKind,
    Outcomes,
    Query,
    Question,
    Reply,
    Result,
    Running,
    State,
    Status,
    Submit,
)
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import Sidecar, failed, lease_of, success
from tests.support.builders import FIRST_MS, a_batch, a_submission, task_id


def answered(sidecar: Sidecar) -> dict[int, Reply]:
    return {reply.request: reply for reply in sidecar.replies()}


class TestStatus:
    def test_of_a_ready_task(self) -> None:
        sidecar = Sidecar(Bench())
        options = {"priority": 1, "collection": "c", "expires_ms": 500, "attempts_max": 3}
        sidecar.submit(a_submission(options=options))
        status = sidecar.status(task_id())
        assert (status.id, status.handler, status.state) == (task_id(), "email.send", State.READY)
        assert (status.priority, status.collection, status.attempts_max) == (1, "c", 3)
        assert (status.submitted_ms, status.due_ms) == (FIRST_MS, FIRST_MS)
        assert (status.expires_ms, status.finished_ms) == (FIRST_MS + 500, 0)
        assert (status.sidecar, status.sidecars) == ("", 0)

    def test_of_a_leased_task_names_the_holder(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.submit(a_submission())
        status = sidecar.status(task_id())
        assert (status.state, status.sidecar, status.sidecars) == (State.LEASED, "host-1", 1)
        assert (status.attempts, status.deliveries) == (0, 1)

    def test_of_a_task_whose_attempt_has_begun(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.submit(a_submission())
        sidecar.beat(Running(*lease_of(sidecar.grant()), 5))
        assert sidecar.status(task_id()).state is State.RUNNING

    def test_of_a_task_in_the_store_only(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        bench.crash()
        sidecar.hello()
        assert sidecar.status(task_id()).state is State.READY
        assert bench.waiting() == 0

    def test_of_a_scheduled_task_until_it_is_due(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"delay_ms": 500}))
        assert sidecar.status(task_id()).state is State.SCHEDULED
        bench.pass_time(500)  # No timer has rung yet.
        assert sidecar.status(task_id()).state is State.READY

    def test_of_a_task_that_has_succeeded_holds_its_result(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.submit(a_submission())
        sidecar.report(success(sidecar.grant(), b"42"))
        status = sidecar.status(task_id())
        assert (status.state, status.result) == (State.SUCCEEDED, Result(None, b"42"))
        assert len(status.history) == 1

    def test_of_a_dead_task_tells_why(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.submit(a_submission())
        sidecar.report(failed(sidecar.grant(), OutcomeKind.FATAL))
        status = sidecar.status(task_id())
        assert (status.state, status.error) == (State.DEAD, "ValueError: bad")

    def test_of_no_task_is_a_code(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.ask(task_id(9), request=4)
        assert sidecar.replies() == [Reply(4, Code.UNKNOWN_TASK, None)]

    def test_waits_for_the_commit_of_what_it_tells(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        bench.receive(sidecar.peer, Submit([a_batch()]))
        bench.flush()
        bench.receive(sidecar.peer, Query([Question(1, task_id(), 0)]))
        bench.begin()
        assert sidecar.replies() == []
        bench.finish()
        assert sidecar.replies()[0].status is not None

    def test_of_several_tasks_in_one_answer(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission(1), a_submission(2))
        questions = [Question(n, task_id(n), 0) for n in (1, 2, 3)]
        sidecar.say(Query(questions))
        codes = {request: reply.code for request, reply in answered(sidecar).items()}
        assert codes == {1: None, 2: None, 3: Code.UNKNOWN_TASK}

    def test_of_many_large_results_is_split_into_messages(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.submit(*[a_submission(n) for n in range(1, 11)])
        sidecar.report(*[success(task, bytes(250_000)) for task in sidecar.granted()])
        sidecar.say(Query([Question(n, task_id(n), 0) for n in range(1, 11)]))
        answers = [m for m in sidecar.received() if isinstance(m, Answer)]
        assert [len(answer.replies) for answer in answers] == [6, 4]


class TestWait:
    def case(self) -> tuple[Bench, Sidecar]:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission())
        return bench, sidecar

    @pytest.mark.parametrize(
        ("kind", "state"), [(OutcomeKind.SUCCESS, State.SUCCEEDED), (OutcomeKind.FATAL, State.DEAD)]
    )
    def test_is_answered_when_the_task_ends(self, kind: OutcomeKind, state: State) -> None:
        _, sidecar = self.case()
        sidecar.ask(task_id(), 7, wait_ms=5_000)
        assert sidecar.replies() == []
        task = sidecar.grant()
        sidecar.report(success(task) if kind is OutcomeKind.SUCCESS else failed(task, kind))
        (reply,) = sidecar.replies()
        assert reply.status is not None
        assert (reply.request, reply.status.state) == (7, state)

    def test_is_answered_after_the_commit_of_the_end(self) -> None:
        bench, sidecar = self.case()
        sidecar.ask(task_id(), 7, wait_ms=5_000)
        bench.receive(sidecar.peer, Outcomes(1, [success(sidecar.grant())]))
        bench.begin()
        assert sidecar.replies() == []
        bench.finish()
        assert len(sidecar.replies()) == 1

    def test_of_a_task_that_has_ended_is_answered_at_once(self) -> None:
        _, sidecar = self.case()
        sidecar.report(success(sidecar.grant()))
        sidecar.ask(task_id(), 7, wait_ms=5_000)
        (reply,) = sidecar.replies()
        assert reply.status is not None
        assert reply.status.state is State.SUCCEEDED

    def test_of_no_task_is_answered_at_once(self) -> None:
        _, sidecar = self.case()
        sidecar.ask(task_id(9), 7, wait_ms=5_000)
        assert sidecar.replies() == [Reply(7, Code.UNKNOWN_TASK, None)]

    @pytest.mark.parametrize("delay_ms", [0, 60_000])
    def test_that_has_run_out_is_answered_with_the_state_of_the_task(self, delay_ms: int) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"delay_ms": delay_ms}))
        sidecar.ask(task_id(), 7, wait_ms=5_000)
        bench.advance(4_999)
        assert sidecar.replies() == []
        bench.advance(1)
        (reply,) = sidecar.replies()
        assert reply.status is not None
        assert reply.status.state is (State.SCHEDULED if delay_ms else State.READY)
        bench.advance(60_000)
        assert len(sidecar.replies()) == 1

    def test_is_what_the_shard_wakes_for(self) -> None:
        bench, sidecar = self.case()
        bench.tick()
        sidecar.ask(task_id(), 7, wait_ms=5_000)
        assert bench.shard.next_due_ms(bench.now) == 5_000

    def test_is_never_longer_than_an_hour(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        sidecar.ask(task_id(), 7, wait_ms=2**63 - 1)
        for _ in range(limits.WAIT_MS_MAX // 10_000):
            bench.advance(10_000)
            sidecar.beat()
        assert len(sidecar.replies()) == 1

    def test_of_two_sidecars_for_one_task_is_answered_to_both(self) -> None:
        bench, first = self.case()
        second = Sidecar(bench, 2)
        first.ask(task_id(), 7, wait_ms=5_000)
        first.ask(task_id(), 8, wait_ms=5_000)
        second.ask(task_id(), 7, wait_ms=5_000)
        first.report(success(first.grant()))
        assert sorted(answered(first)) == [7, 8]
        assert sorted(answered(second)) == [7]

    def test_asked_again_replaces_the_first(self) -> None:
        bench, sidecar = self.case()
        sidecar.ask(task_id(), 7, wait_ms=2_000)
        sidecar.ask(task_id(), 7, wait_ms=4_000)
        bench.advance(3_999)
        assert sidecar.replies() == []
        bench.advance(1)
        assert len(sidecar.replies()) == 1

    def test_asked_again_with_less_time_runs_out_earlier(self) -> None:
        bench, sidecar = self.case()
        sidecar.ask(task_id(), 7, wait_ms=4_000)
        sidecar.ask(task_id(), 7, wait_ms=2_000)
        bench.advance(2_000)
        assert len(sidecar.replies()) == 1
        bench.advance(2_000)
        assert len(sidecar.replies()) == 1

    def test_beyond_what_a_session_may_have_open_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "WAITERS_PER_SESSION_MAX", 1)
        bench, sidecar = self.case()
        other = Sidecar(bench, 2)
        sidecar.ask(task_id(), 7, wait_ms=4_000)
        sidecar.ask(task_id(), 8, wait_ms=4_000)
        other.ask(task_id(), 9, wait_ms=4_000)
        assert sidecar.replies() == [Reply(8, Code.TOO_MANY_WAITERS, None)]
        assert other.replies() == []

        sidecar.report(success(sidecar.grant()))
        sidecar.submit(a_submission(2))
        sidecar.ask(task_id(2), 10, wait_ms=4_000)
        assert sorted(answered(sidecar)) == [7, 8]

    def test_ends_with_its_session(self) -> None:
        bench, sidecar = self.case()
        other = Sidecar(bench, 2)
        sidecar.ask(task_id(), 7, wait_ms=60_000)
        other.ask(task_id(), 7, wait_ms=60_000)
        sidecar.goodbye()
        other.serve()
        other.report(success(other.grant()))
        assert (sidecar.replies(), len(other.replies())) == ([], 1)
        bench.advance(60_000)
        assert sidecar.replies() == []

    def test_survives_a_new_connection(self) -> None:
        _, sidecar = self.case()
        sidecar.ask(task_id(), 7, wait_ms=60_000)
        held = [lease_of(sidecar.grant())]
        task = sidecar.grant()
        sidecar.peer = b"another"
        sidecar.hello(held=held)
        sidecar.report(success(task))
        assert sorted(answered(sidecar)) == [7]

    def test_for_a_task_that_ends_while_it_is_looked_up_is_answered_once(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"expires_ms": 500}))
        bench.crash()
        sidecar.hello()
        bench.tick()
        bench.pass_time(500)
        bench.receive(sidecar.peer, Query([Question(7, task_id(), 5_000)]))
        bench.tick()
        (reply,) = sidecar.replies()
        assert reply.status is not None
        assert reply.status.state is State.EXPIRED

    def test_leaves_no_more_deadlines_behind_than_a_few(self) -> None:
        bench, sidecar = self.case()
        for number in range(10_000):
            sidecar.bench.receive(sidecar.peer, Query([Question(7, task_id(), 4_000 + number)]))
        bench.settle()
        assert len(bench.shard._ledger.waits._deadlines) <= waits.SLACK + 3


class TestRevision:
    """A question that knows a revision is answered as soon as the task has another one."""

    def watch(self, sidecar: Sidecar, wait_ms: int = 60_000) -> int:
        """Ask for the next change; return the request."""
        request = 100 + len(sidecar.replies())
        revision = sidecar.status(task_id()).revision
        sidecar.ask(task_id(), request, wait_ms=wait_ms, revision=revision)
        assert request not in answered(sidecar), "answered before anything has changed"
        return request

    def test_of_every_change_that_can_be_seen(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.declare(backoff_ms_min=500, backoff_ms_max=500)
        sidecar.submit(a_submission(options={"delay_ms": 100}))
        seen: list[State] = []

        def change(do: Callable[[], object]) -> Status:
            request = self.watch(sidecar)
            do()
            status = answered(sidecar)[request].status
            assert status is not None
            assert status.revision == sidecar.status(task_id()).revision
            seen.append(status.state)
            return status

        change(lambda: bench.advance(100))
        change(lambda: sidecar.demand(1))
        lease = sidecar.grant()
        change(lambda: sidecar.beat(Running(*lease_of(lease), 5)))
        change(lambda: sidecar.progress(lease, permille=10))
        change(lambda: sidecar.progress(lease, note="x"))
        change(lambda: sidecar.progress(lease, checkpoint=b"x"))
        assert change(lambda: sidecar.report(failed(lease))).attempts == 1
        sidecar.beat()
        change(lambda: bench.advance(500))
        change(lambda: sidecar.demand(2))
        change(lambda: sidecar.cancel(task_id()))
        change(lambda: sidecar.report(failed(sidecar.grant())))

        R, S, L = State.READY, State.SCHEDULED, State.LEASED
        running = [State.RUNNING] * 4
        assert seen == [R, L, *running, S, R, L, L, State.CANCELLED]

    def test_that_is_out_of_date_is_answered_at_once(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        sidecar.ask(task_id(), 5, wait_ms=60_000, revision=0)
        assert 5 in answered(sidecar)

    def test_that_is_out_of_date_is_answered_from_the_store(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        revision = sidecar.status(task_id()).revision
        bench.crash()
        sidecar.hello()

        sidecar.ask(task_id(), 5, wait_ms=60_000, revision=revision)
        assert 5 not in answered(sidecar), "a restart changes nothing that is seen"
        sidecar.ask(task_id(), 6, wait_ms=60_000, revision=0)

        assert 6 in answered(sidecar)
        assert 5 not in answered(sidecar)

    def test_of_a_task_that_has_ended_is_answered_at_once(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        status = sidecar.cancel(task_id()).status
        assert status is not None
        sidecar.ask(task_id(), 5, wait_ms=60_000, revision=status.revision)
        assert 5 in answered(sidecar)

    def test_that_stays_is_answered_when_the_wait_is_over(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        request = self.watch(sidecar, 2_000)
        sidecar.bench.advance(2_000)
        assert request in answered(sidecar)

    def test_without_a_wait_means_nothing(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        revision = sidecar.status(task_id()).revision
        sidecar.ask(task_id(), 5, revision=revision)
        assert 5 in answered(sidecar)

    def test_wakes_nobody_who_waits_for_the_end(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        sidecar.ask(task_id(), 5, wait_ms=60_000)
        request = self.watch(sidecar)
        sidecar.serve()
        assert request in answered(sidecar)
        assert 5 not in answered(sidecar)

    def test_of_sidecars_that_come_and_go_is_the_same(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        before = sidecar.status(task_id())
        sidecar.declare()
        after = sidecar.status(task_id())
        assert (before.sidecars, after.sidecars) == (0, 1)
        assert before.revision == after.revision
