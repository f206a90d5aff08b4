"""Cancelled tasks end without another attempt, and not before the present one has stopped."""

import pytest

from coordinator.core import cancelling
from protocol.errors import Code
from protocol.messages import (
    Cancel,
    Cancellation,
    Failure,
    Outcome,
    OutcomeKind,
    Reply,
    Revoke,
    Revoked,
    State,
)
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import Sidecar, failed, lease_of, success
from tests.support.builders import a_submission, task_id

SUCCESS, RETRY, DEFER, FATAL, RETURNED, LOST = list(OutcomeKind)
LEASE_MS = 11_000


def held(**policy: int) -> Sidecar:
    """Return a sidecar that holds one task."""
    sidecar = Sidecar(Bench())
    sidecar.serve(1000, "email.send", **policy)
    sidecar.submit(a_submission())
    return sidecar


class TestWaiting:
    def test_ready_task_ends_at_once_and_is_never_granted(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission(1), a_submission(2))

        reply = sidecar.cancel(task_id(1), "sent by hand")

        assert reply.status is not None
        assert (reply.status.state, reply.status.error) == (
            State.CANCELLED,
            "cancelled: sent by hand",
        )
        sidecar.serve()
        assert [task.id for task in sidecar.granted()] == [task_id(2)]

    def test_scheduled_task_ends_at_once_and_stays_ended(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission(options={"delay_ms": 500, "expires_ms": 500}))

        assert sidecar.cancel(task_id()).status is not None

        sidecar.serve()
        sidecar.bench.advance(2_000)
        assert sidecar.granted() == []
        assert sidecar.status(task_id()).state is State.CANCELLED
        assert sidecar.status(task_id()).error == "cancelled"

    def test_task_in_the_store_only_ends_at_once(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        bench.crash()
        sidecar.hello()

        sidecar.cancel(task_id())

        assert bench.audit().tasks[task_id()].state is State.CANCELLED

    def test_task_beyond_the_window_ends_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(*[a_submission(n) for n in range(1, 31)])

        for number in range(2, 31, 2):
            sidecar.cancel(task_id(number))

        sidecar.serve()
        assert {task.id for task in sidecar.granted()} == {task_id(n) for n in range(1, 31, 2)}

    def test_reply_waits_for_the_commit(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        bench.receive(sidecar.peer, Cancel([Cancellation(9, task_id(), "")]))
        bench.begin()
        assert sidecar.replies() == []
        bench.finish()
        assert [reply.request for reply in sidecar.replies()] == [9]

    def test_who_waits_for_the_end_is_told(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        sidecar.ask(task_id(), request=7, wait_ms=60_000)

        sidecar.cancel(task_id())

        [reply] = [reply for reply in sidecar.replies() if reply.request == 7]
        assert reply.status is not None
        assert reply.status.state is State.CANCELLED

    def test_task_is_removed_when_its_retention_is_over(self) -> None:
        bench = Bench(retention_other_ms=1_000)
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        sidecar.cancel(task_id())

        bench.advance(1_000)

        assert bench.audit().tasks == {}
        assert sidecar.cancel(task_id()).code == Code.UNKNOWN_TASK


class TestLeased:
    def test_attempt_is_told_to_stop_and_the_task_goes_on_until_it_has(self) -> None:
        sidecar = held()

        reply = sidecar.cancel(task_id(), "not wanted")

        assert reply.status is not None
        assert (reply.status.state, reply.status.cancelling) == (State.LEASED, True)
        assert sidecar.revoked() == [Revoked(*lease_of(sidecar.grant()), "cancelled")]
        sidecar.report(failed(sidecar.grant()))
        status = sidecar.status(task_id())
        assert (status.state, status.cancelling) == (State.CANCELLED, False)
        assert status.error == "cancelled: not wanted"

    def test_mark_is_durable_before_the_attempt_is_told(self) -> None:
        sidecar = held()
        bench = sidecar.bench
        bench.receive(sidecar.peer, Cancel([Cancellation(9, task_id(), "")]))
        bench.begin()
        assert sidecar.revoked() == []
        bench.crash(committed=True)
        sidecar.hello(held=[lease_of(sidecar.grant())])
        assert sidecar.revoked() == [Revoked(*lease_of(sidecar.grant()), "cancelled")]

    @pytest.mark.parametrize("kind", [RETRY, DEFER, FATAL, RETURNED, LOST])
    def test_every_outcome_but_success_ends_it_as_cancelled(self, kind: OutcomeKind) -> None:
        sidecar = held()
        sidecar.cancel(task_id())
        lease = sidecar.grant()
        assert sidecar.report(Outcome(*lease_of(lease), kind, 5, Failure("Cancelled"))) == [None]

        task = sidecar.bench.audit().tasks[task_id()]
        assert task.state is State.CANCELLED
        assert task.attempts == (kind not in (DEFER, RETURNED))
        assert [a.error_type for a in task.history] == ["Cancelled"]
        assert sidecar.granted() == [lease]

    def test_success_stays_a_success(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id())
        sidecar.report(success(sidecar.grant(), b"42"))
        status = sidecar.status(task_id())
        assert (status.state, status.error, status.cancelling) == (State.SUCCEEDED, "", False)

    def test_lost_lease_ends_it_as_cancelled(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id())
        sidecar.bench.advance(LEASE_MS)
        sidecar.hello()
        assert sidecar.status(task_id()).state is State.CANCELLED

    @pytest.mark.parametrize("way", ["goodbye", "not named", "undelivered"])
    def test_lease_given_back_ends_it_as_cancelled(self, way: str) -> None:
        sidecar = held()
        if way == "undelivered":
            sidecar.bench.unreachable.add(sidecar.peer)
            other = Sidecar(sidecar.bench, 2)
            assert other.cancel(task_id()).code is None
            sidecar.bench.unreachable.clear()
        else:
            sidecar.cancel(task_id())
        if way == "goodbye":
            sidecar.goodbye()
        sidecar.hello()
        assert sidecar.status(task_id()).state is State.CANCELLED
        assert len(sidecar.granted()) == 1

    def test_success_that_comes_after_the_lease_was_lost_is_too_late(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id())
        lease = sidecar.grant()
        sidecar.bench.advance(LEASE_MS)
        sidecar.hello()
        assert sidecar.report(success(lease)) == [Code.STALE_TOKEN]
        assert sidecar.report(failed(lease)) == [None]

    def test_sidecar_that_resumes_is_told_again(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id())
        sidecar.hello(held=[lease_of(sidecar.grant())])
        assert len(sidecar.revoked()) == 2

    def test_lease_is_the_same_after_a_restart(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id(), "why not")
        sidecar.bench.crash()
        welcome = sidecar.hello(held=[lease_of(sidecar.grant())])
        assert (welcome.resumed, welcome.lost) == (True, [])
        status = sidecar.status(task_id())
        assert (status.deliveries, status.cancelling) == (1, True)
        sidecar.report(failed(sidecar.grant()))
        assert sidecar.status(task_id()).error == "cancelled: why not"

    def test_sidecar_that_is_away_during_a_restart_cannot_keep_it_alive(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id())
        sidecar.bench.crash()
        sidecar.bench.advance(LEASE_MS)
        other = Sidecar(sidecar.bench, 2)
        other.serve()
        assert other.granted() == []
        assert other.status(task_id()).state is State.CANCELLED

    def test_many_that_must_stop_are_named_in_several_messages(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cancelling, "REVOKED_MAX", 2)
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.submit(*[a_submission(n) for n in range(1, 6)])
        sidecar.say(Cancel([Cancellation(n, task_id(n), "") for n in range(1, 6)]))
        revokes = [len(m.revoked) for m in sidecar.received() if isinstance(m, Revoke)]
        assert revokes == [2, 2, 1]


class TestAgain:
    def test_second_cancellation_changes_nothing(self) -> None:
        sidecar = held()
        sidecar.cancel(task_id(), "first")
        again = sidecar.cancel(task_id(), "second")
        assert again.status is not None
        assert again.status.cancelling
        assert len(sidecar.revoked()) == 1
        sidecar.report(failed(sidecar.grant()))
        assert sidecar.status(task_id()).error == "cancelled: first"

    @pytest.mark.parametrize("kind", [SUCCESS, FATAL])
    def test_task_that_has_ended_stays_as_it_is(self, kind: OutcomeKind) -> None:
        sidecar = held()
        value = None if kind is SUCCESS else Failure("E")
        sidecar.report(Outcome(*lease_of(sidecar.grant()), kind, 5, value))
        before = sidecar.status(task_id())
        assert sidecar.cancel(task_id()).status == before

    def test_task_that_nobody_knows_has_a_code(self) -> None:
        sidecar = Sidecar(Bench())
        reply = sidecar.cancel(task_id(9))
        assert reply == Reply(reply.request, Code.UNKNOWN_TASK, None)

    def test_twice_in_one_message_both_are_answered(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        bench.crash()
        sidecar.hello()
        sidecar.say(Cancel([Cancellation(n, task_id(), "") for n in (1, 2)]))
        states = [reply.status and reply.status.state for reply in sidecar.replies()]
        assert states == [State.CANCELLED] * 2

    def test_task_that_was_cancelled_can_be_submitted_no_second_time(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission())
        sidecar.cancel(task_id())
        assert sidecar.submit(a_submission()).duplicates == [0]
        sidecar.serve()
        assert sidecar.granted() == []
