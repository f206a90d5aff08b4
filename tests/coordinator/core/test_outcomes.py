from typing import Any

import pytest

from coordinator.core import outcomes
from coordinator.core.retry import backoff_ms, jitter_of
from protocol.errors import Code
from protocol.limits import ERROR_MESSAGE_CHARS_MAX, HISTORY_MAX
from protocol.messages import (
    Failure,
    GrantedTask,
    Outcome,
    OutcomeKind,
    Outcomes,
    Recorded,
    Result,
    State,
)
from protocol.policy import Policy
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import FIRST_MS, a_submission, an_outcome, task_id

RETRY, DEFER, FATAL, RETURNED, LOST = list(OutcomeKind)[1:]
WAIT_MS = 1_000
LEASE_MS = 11_000
"""How long the coordinator keeps a silent session with the default timeout."""


class Case:
    """One task that a sidecar holds."""

    def __init__(self, options: dict[str, Any] | None = None, **policy: int) -> None:
        self.bench = Bench()
        self.sidecar = Sidecar(self.bench)
        policy = {"backoff_ms_min": WAIT_MS, "backoff_ms_max": WAIT_MS} | policy
        self.sidecar.serve(1000, EMAIL, **policy)
        self.sidecar.submit(a_submission(options=options))
        self.lease = self.sidecar.grant()

    def report(self, kind: OutcomeKind, **failure: Any) -> str | None:
        """Report on the lease at hand."""
        value = Failure(**{"error_type": "ValueError"} | failure)
        return self.sidecar.report(failed(self.lease, kind, value))[0]

    def returned(self) -> Outcome:
        """Return the outcome that gives the lease at hand back unused."""
        return Outcome(self.lease.id, self.lease.token, RETURNED, 0, None)

    def again(self) -> GrantedTask:
        """Let the longest wait pass, and take the lease that is then at hand."""
        before = len(self.sidecar.granted())
        self.sidecar.beat()
        self.bench.advance(WAIT_MS)
        assert len(self.sidecar.granted()) == before + 1, "not granted again"
        self.lease = self.sidecar.grant()
        return self.lease

    def task(self) -> Any:
        """Return what the record says."""
        return self.bench.audit().tasks[task_id()]


class TestSuccess:
    def test_is_recorded_with_its_result(self) -> None:
        case = Case()
        assert case.sidecar.report(success(case.lease, b"42")) == [None]
        task = case.task()
        assert (task.state, task.result) == (State.SUCCEEDED, Result(None, b"42"))
        assert (task.attempts, task.deliveries, task.finished_ms) == (1, 1, FIRST_MS)

    def test_is_durable_before_it_is_recorded(self) -> None:
        case = Case()
        case.bench.receive(case.sidecar.peer, Outcomes(5, [success(case.lease)]))
        case.bench.begin()
        assert not any(isinstance(message, Recorded) for message in case.sidecar.received())
        case.bench.finish()
        assert case.task().state is State.SUCCEEDED
        assert case.sidecar.last(Recorded) == Recorded(5, [])

    def test_ends_the_lease_in_the_store(self) -> None:
        case = Case()
        case.sidecar.report(success(case.lease))
        assert case.bench.rows(b"g") == case.bench.rows(b"r") == []

    def test_is_remembered(self) -> None:
        case = Case()
        case.bench.pass_time(2_000)
        case.sidecar.report(success(case.lease)._replace(run_us=500_000))
        (attempt,) = case.task().history
        assert (attempt.number, attempt.outcome, attempt.sidecar) == (1, 0, "host-1")
        assert (attempt.started_ms, attempt.run_us) == (FIRST_MS + 1_500, 500_000)

    def test_after_a_run_longer_than_time_itself_is_taken(self) -> None:
        case = Case()
        case.sidecar.report(success(case.lease)._replace(run_us=2**63 - 1))
        assert case.task().history[0].started_ms == 0

    def test_of_many_tasks_of_one_grant_keeps_the_leases_of_the_others(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(1), a_submission(2))

        sidecar.report(success(sidecar.granted()[0]))
        bench.crash()

        assert [i for i, _ in bench.audit().leases] == [task_id(2)]


class TestRetry:
    def test_waits_for_the_backoff_with_its_jitter(self) -> None:
        case = Case()
        case.report(RETRY)
        wait_ms = backoff_ms(
            1, ms_min=WAIT_MS, ms_max=WAIT_MS, jitter=jitter_of(task_id(), case.lease.token)
        )
        assert (case.task().state, case.task().due_ms) == (State.SCHEDULED, FIRST_MS + wait_ms)

    def test_begins_again_when_it_is_due_and_not_before(self) -> None:
        case = Case()
        case.report(RETRY, retry_after_ms=500)
        case.bench.advance(499)
        assert len(case.sidecar.granted()) == 1
        case.bench.advance(1)
        assert [task.attempt for task in case.sidecar.granted()] == [1, 2]

    def test_lets_the_handler_choose_the_wait(self) -> None:
        case = Case()
        case.report(RETRY, retry_after_ms=86_400_000)
        assert case.task().due_ms == FIRST_MS + 86_400_000

    def test_at_once_still_leaves_the_lease_first(self) -> None:
        case = Case()
        case.report(RETRY, retry_after_ms=0)
        assert case.task().due_ms == FIRST_MS + 1

    def test_has_the_backoff_of_the_task_before_that_of_the_handler(self) -> None:
        case = Case(options={"backoff_ms_min": 7, "backoff_ms_max": 7})
        case.report(RETRY)
        assert case.task().due_ms <= FIRST_MS + 7

    def test_without_any_value_waits_for_the_backoff(self) -> None:
        case = Case()
        case.sidecar.report(failed(case.lease)._replace(value=None))
        assert case.task().state is State.SCHEDULED

    def test_kills_the_task_when_its_attempts_are_used_up(self) -> None:
        case = Case(attempts_max=3)
        for _ in range(2):
            case.report(RETRY)
            case.again()
        case.report(RETRY, message="still bad")
        task = case.task()
        assert (task.state, task.attempts) == (State.DEAD, 3)
        assert task.error == "3 attempts used up; last: ValueError: still bad"

    def test_counts_attempts_of_the_task_before_those_of_the_handler(self) -> None:
        case = Case(options={"attempts_max": 1}, attempts_max=9)
        case.report(RETRY)
        assert case.task().state is State.DEAD


class TestDefer:
    def test_is_not_charged(self) -> None:
        case = Case(attempts_max=1)
        for _ in range(3):
            case.report(DEFER)
            assert case.again().attempt == 1
        assert (case.task().attempts, case.task().deferrals) == (0, 3)

    def test_kills_the_task_when_it_has_been_deferred_too_often(self) -> None:
        case = Case(deferrals_max=2)
        for _ in range(2):
            case.report(DEFER)
            case.again()
        case.report(DEFER)
        assert case.task().error == "deferred too often; last: ValueError"


class TestFatal:
    def test_kills_the_task_at_once(self) -> None:
        case = Case()
        case.report(FATAL, message="no such address", detail="traceback")
        task = case.task()
        assert (task.state, task.attempts) == (State.DEAD, 1)
        assert task.error == "ValueError: no such address"
        assert task.history[-1].detail == "traceback"

    def test_without_a_reason_is_unknown(self) -> None:
        case = Case()
        case.sidecar.report(failed(case.lease, FATAL)._replace(value=None))
        assert case.task().error == "unknown"

    def test_keeps_payload_and_id_for_a_person_to_look_at(self) -> None:
        case = Case()
        case.report(FATAL)
        assert case.task().payload == a_submission().payload

    def test_has_an_error_of_bounded_length(self) -> None:
        case = Case()
        case.report(FATAL, message="x" * ERROR_MESSAGE_CHARS_MAX)
        assert len(case.task().error) == ERROR_MESSAGE_CHARS_MAX


class TestReturned:
    def test_is_ready_again_at_once_and_not_charged(self) -> None:
        case = Case(attempts_max=1)
        case.sidecar.report(case.returned())
        first, second = case.sidecar.granted()
        assert (second.attempt, second.delivery) == (1, 2)
        assert second.token > first.token
        assert case.task().history == []

    def test_with_a_reason_is_remembered(self) -> None:
        case = Case(attempts_max=1)
        case.report(RETURNED, error_type="misrouted", message="404")
        assert case.sidecar.grant().attempt == 1
        assert case.sidecar.grant().extras == {"last_error": "misrouted"}
        [record] = case.task().history
        assert (record.outcome, record.error_type, record.message) == (RETURNED, "misrouted", "404")

    def test_kills_the_task_that_nobody_keeps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outcomes, "RETURNS_MAX", 2)
        case = Case(attempts_max=3)
        case.report(RETRY)
        case.again()
        case.report(DEFER)
        case.again()
        for _ in range(3):
            assert case.task().state is State.READY
            case.lease = case.sidecar.grant()
            case.sidecar.report(case.returned())
        assert (case.task().state, case.task().deliveries) == (State.DEAD, 5)
        assert case.task().error.startswith("returned too often; last: returned")


class TestLost:
    def test_is_charged_and_ready_again_at_once(self) -> None:
        case = Case()
        case.report(LOST)
        assert case.sidecar.grant().attempt == 2
        assert (case.task().attempts, case.task().crashes) == (1, 1)

    def test_kills_the_task_that_has_crashed_too_often(self) -> None:
        case = Case(crashes_max=2)
        case.report(LOST)
        case.lease = case.sidecar.grant()
        case.report(LOST)
        assert case.task().error == "crashed 2 times; last: ValueError"

    def test_kills_the_task_when_its_attempts_are_used_up(self) -> None:
        case = Case(attempts_max=1)
        case.report(LOST)
        assert case.task().error == "1 attempts used up; last: ValueError"


class TestHistory:
    def test_keeps_the_first_and_the_latest_attempts(self) -> None:
        case = Case(attempts_max=100)
        for _ in range(HISTORY_MAX + 5):
            case.report(RETRY, retry_after_ms=1)
            case.again()
        numbers = [attempt.number for attempt in case.task().history]
        assert numbers == [1, *range(7, HISTORY_MAX + 6)]

    def test_keeps_the_tracebacks_of_the_latest_attempts_only(self) -> None:
        case = Case()
        for _ in range(5):
            case.report(RETRY, detail="traceback", retry_after_ms=1)
            case.again()
        details = [bool(attempt.detail) for attempt in case.task().history]
        assert details == [False, False, True, True, True]


ENDS = [(OutcomeKind.SUCCESS, State.SUCCEEDED), (FATAL, State.DEAD)]


class TestLate:
    """The session has expired; the task waits again, and nobody else has got it."""

    def case(self) -> Case:
        case = Case()
        case.bench.advance(LEASE_MS)
        assert case.task().state is State.READY
        case.sidecar.hello()
        return case

    def outcome(self, case: Case, kind: OutcomeKind) -> Outcome:
        value = None if kind is OutcomeKind.SUCCESS else Failure("ValueError")
        return Outcome(case.lease.id, case.lease.token, kind, 0, value)

    @pytest.mark.parametrize(("kind", "state"), ENDS)
    def test_end_is_taken_of_a_task_that_is_ready_again(
        self, kind: OutcomeKind, state: State
    ) -> None:
        case = self.case()
        assert case.sidecar.report(self.outcome(case, kind)) == [None]
        assert (case.task().state, case.task().attempts) == (state, 1)

    @pytest.mark.parametrize(("kind", "state"), ENDS)
    def test_end_is_taken_of_a_task_that_is_in_the_store_only(
        self, kind: OutcomeKind, state: State
    ) -> None:
        case = self.case()
        case.bench.crash()
        case.sidecar.hello()
        assert case.sidecar.report(self.outcome(case, kind)) == [None]
        assert case.task().state is state

    @pytest.mark.parametrize(("kind", "state"), ENDS)
    def test_end_is_taken_of_a_task_that_waits_for_its_next_attempt(
        self, kind: OutcomeKind, state: State
    ) -> None:
        case = Case()
        case.report(RETRY, retry_after_ms=5_000)
        assert case.sidecar.report(self.outcome(case, kind)) == [None]
        assert case.task().state is state
        case.bench.advance(5_000)
        assert len(case.sidecar.granted()) == 1

    @pytest.mark.parametrize("kind", [RETRY, DEFER, RETURNED, LOST])
    def test_other_outcome_is_not_taken(self, kind: OutcomeKind) -> None:
        case = self.case()
        before = case.task().history
        assert case.sidecar.report(self.outcome(case, kind)) == [Code.STALE_TOKEN]
        assert (case.task().state, case.task().history) == (State.READY, before)

    @pytest.mark.parametrize("kind", list(OutcomeKind))
    def test_nothing_is_taken_once_a_later_lease_was_granted(self, kind: OutcomeKind) -> None:
        case = self.case()
        case.sidecar.serve()
        later = case.sidecar.grant()

        assert case.sidecar.report(self.outcome(case, kind)) == [Code.STALE_TOKEN]

        assert case.bench.audit().leases == [(later.id, later.token)]
        assert case.sidecar.report(success(later)) == [None]

    def test_success_is_not_said_to_be_recorded_of_a_task_that_the_loss_has_killed(self) -> None:
        case = Case(attempts_max=1)
        case.bench.advance(LEASE_MS)
        assert case.task().state is State.DEAD
        case.sidecar.hello()

        assert case.sidecar.report(self.outcome(case, OutcomeKind.SUCCESS)) == [Code.STALE_TOKEN]
        assert case.sidecar.report(self.outcome(case, FATAL)) == [None]
        assert case.task().state is State.DEAD

    @pytest.mark.parametrize("kind", list(OutcomeKind))
    def test_nothing_is_taken_once_a_later_lease_has_ended(self, kind: OutcomeKind) -> None:
        case = self.case()
        case.sidecar.serve()
        case.sidecar.report(failed(case.sidecar.grant(), DEFER))
        assert case.sidecar.report(self.outcome(case, kind)) == [Code.STALE_TOKEN]
        assert case.task().state is State.SCHEDULED

    def test_end_reported_again_while_the_first_is_looked_up_is_recorded_too(self) -> None:
        case = self.case()
        case.bench.crash()
        case.sidecar.hello()
        outcome = self.outcome(case, OutcomeKind.SUCCESS)

        case.bench.receive(case.sidecar.peer, Outcomes(8, [outcome]))
        case.bench.receive(case.sidecar.peer, Outcomes(9, [outcome]))
        case.bench.settle()

        recorded = [m for m in case.sidecar.received() if isinstance(m, Recorded)]
        assert recorded == [Recorded(8, []), Recorded(9, [])]

    def test_end_reported_twice_in_one_message_is_taken_once(self) -> None:
        case = self.case()
        case.bench.crash()
        case.sidecar.hello()
        outcome = self.outcome(case, OutcomeKind.SUCCESS)

        codes = case.sidecar.report(outcome, an_outcome(9), outcome)

        assert codes == [None, Code.UNKNOWN_TASK, None]
        assert len(case.task().history) == 2


@pytest.mark.parametrize("kind", list(OutcomeKind))
def test_outcome_reported_again_is_recorded_again_and_changes_nothing(kind: OutcomeKind) -> None:
    case = Case()
    outcome = success(case.lease) if kind is OutcomeKind.SUCCESS else failed(case.lease, kind)
    case.sidecar.demand(1)
    case.sidecar.report(outcome)
    before = dict(case.bench.pairs)

    (code,) = case.sidecar.report(outcome)

    assert code == (None if kind in (OutcomeKind.SUCCESS, FATAL) else Code.STALE_TOKEN)
    assert case.bench.pairs == before


def test_two_outcomes_of_one_lease_in_one_message_count_once() -> None:
    case = Case()
    case.sidecar.demand(1)
    codes = case.sidecar.report(failed(case.lease, RETURNED), failed(case.lease, RETURNED))
    assert codes == [None, Code.STALE_TOKEN]
    assert (case.task().state, case.task().deliveries) == (State.READY, 1)


def test_outcome_of_an_unknown_task_is_final() -> None:
    bench = Bench()
    assert Sidecar(bench).report(an_outcome(7)) == [Code.UNKNOWN_TASK]
    assert bench.shard.counts[Code.UNKNOWN_TASK] == 1


def test_outcome_with_a_token_that_was_never_given_is_refused() -> None:
    case = Case()
    forged = success(case.lease)._replace(token=case.lease.token + 1)
    assert case.sidecar.report(forged) == [Code.STALE_TOKEN]
    assert case.task().state is State.READY


class TestOfAnotherSidecar:
    """An outcome with the right token that does not come from the session of the lease."""

    def outcome(self, case: Case) -> Outcome:
        return success(case.lease)

    def test_is_refused_if_its_service_does_not_own_the_handler(self) -> None:
        case = Case()
        stranger = Sidecar(case.bench, 2, welcome=False)
        stranger.hello(service="video")

        assert stranger.report(self.outcome(case)) == [Code.STALE_TOKEN]

        assert case.bench.audit().leases == [(case.lease.id, case.lease.token)]
        assert case.sidecar.report(self.outcome(case)) == [None]

    @pytest.mark.parametrize("service", ["video", "emai", "email.send"])
    def test_is_refused_when_the_lease_has_ended_too(self, service: str) -> None:
        case = Case()
        case.bench.advance(LEASE_MS)
        stranger = Sidecar(case.bench, 2, welcome=False)
        stranger.hello(service=service)

        assert stranger.report(self.outcome(case)) == [Code.STALE_TOKEN]

        assert case.task().state is State.READY

    @pytest.mark.parametrize("passed_ms", [0, LEASE_MS])
    def test_is_taken_from_the_process_after_it(self, passed_ms: int) -> None:
        """It reads what the process before it has journaled."""
        case = Case()
        case.bench.advance(passed_ms)

        assert Sidecar(case.bench, 2).report(self.outcome(case)) == [None]

        assert case.task().state is State.SUCCEEDED


def test_exceptions_name_the_place_of_the_outcome() -> None:
    case = Case()
    codes = case.sidecar.report(an_outcome(7), success(case.lease), an_outcome(8))
    assert codes == [Code.UNKNOWN_TASK, None, Code.UNKNOWN_TASK]


def test_retry_of_a_task_that_may_not_begin_any_more_expires_it() -> None:
    case = Case(options={"expires_ms": 100})
    case.bench.advance(100)
    case.report(RETRY)
    assert (case.task().state, case.task().attempts) == (State.EXPIRED, 1)


def test_return_of_a_task_that_may_not_begin_any_more_expires_it() -> None:
    case = Case(options={"expires_ms": 100})
    case.bench.advance(100)
    case.report(RETURNED)
    assert case.task().state is State.EXPIRED


def test_success_of_a_task_that_ran_past_its_expiry_is_taken() -> None:
    case = Case(options={"expires_ms": 100})
    case.bench.advance(5_000)
    assert case.sidecar.report(success(case.lease)) == [None]
    assert case.task().state is State.SUCCEEDED


def test_policy_declared_later_decides_about_the_attempts_that_follow() -> None:
    case = Case(attempts_max=9)
    case.sidecar.declare(attempts_max=1)
    case.report(RETRY)
    assert case.task().state is State.DEAD


def test_default_policy_is_that_of_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve()
    sidecar.submit(a_submission())
    assert sidecar.grant().attempts_max == Policy().attempts_max
