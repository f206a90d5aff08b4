"""What is counted of each handler."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.figures import AttemptResult, Commits, Figures, percentile_ms
from coordinator.core.operations import By, SetPolicy
from protocol.messages import Failure, OutcomeKind, Outcomes, State
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import a_submission, an_outcome

LEASE_MS = 11_000


class Case:
    """A sidecar that serves, and has submitted one task."""

    def __init__(self, **policy: int) -> None:
        self.bench = Bench()
        self.sidecar = Sidecar(self.bench)
        self.sidecar.serve(1000, EMAIL, **policy)
        self.sidecar.submit(a_submission())
        self.lease = self.sidecar.grant()

    @property
    def figures(self) -> Figures:
        return self.bench.shard.ledger.handlers[EMAIL].figures

    def attempts(self) -> dict[str, int]:
        counts = self.figures.attempts
        return {result.name: counts[result] for result in AttemptResult if counts[result]}


def test_task_is_counted_from_its_submission_to_its_end() -> None:
    case = Case()
    case.bench.pass_time(300)

    case.sidecar.report(success(case.lease)._replace(run_us=5_999))

    figures = case.figures
    assert figures.submitted == 1
    assert figures.finished[State.SUCCEEDED] == figures.ended == 1
    assert case.attempts() == {"SUCCESS": 1}
    assert figures.wait[0] == 1
    assert (figures.run[3], figures.run_us) == (1, 5_999)  # Under 8 ms.
    assert (figures.total[9], figures.total_ms) == (1, 300)  # Under 512 ms.


def test_wait_is_counted_from_when_the_task_was_due() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission(options={"delay_ms": 1_000}))
    bench.advance(1_000)
    bench.advance(70)

    sidecar.serve(1, EMAIL)
    sidecar.grant()

    figures = bench.shard.ledger.handlers[EMAIL].figures
    assert (figures.wait[7], figures.wait_ms) == (1, 70)


@pytest.mark.parametrize(
    ("policy", "wait_ms", "late"),
    [
        ({}, 5_000, 0),
        ({}, 5_001, 1),
        ({"start_within_ms": 70}, 70, 0),
        ({"start_within_ms": 70}, 71, 1),
        ({"start_within_ms": 0}, 60_000, 0),
    ],
)
def test_lease_that_begins_later_than_its_handler_promises_is_counted(
    policy: dict[str, int], wait_ms: int, late: int
) -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(0, EMAIL, **policy)
    sidecar.submit(a_submission(options={"delay_ms": 1_000}))
    bench.advance(1_000)
    bench.pass_time(wait_ms)

    sidecar.serve(1, EMAIL, **policy)
    sidecar.grant()

    assert bench.shard.ledger.handlers[EMAIL].figures.late == late


def test_lateness_goes_by_the_objective_that_an_operator_has_set() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.submit(a_submission())
    bench.operate(SetPolicy(EMAIL, {"start_within_ms": 10}, By("ada", "")))
    bench.pass_time(11)

    sidecar.serve(1, EMAIL)
    sidecar.grant()

    assert bench.shard.ledger.handlers[EMAIL].figures.late == 1


def test_lease_is_counted_from_its_grant_to_its_outcome() -> None:
    case = Case()
    case.bench.pass_time(300)

    case.sidecar.report(success(case.lease)._replace(run_us=5_999))

    figures = case.figures
    assert (figures.granted, figures.runs, figures.lease_ms) == (1, 1, 300)


@pytest.mark.parametrize(
    ("kind", "failure", "counted"),
    [
        (OutcomeKind.RETRY, Failure("ValueError"), "RETRY"),
        (OutcomeKind.RETRY, Failure("timeout"), "TIMEOUT"),
        (OutcomeKind.DEFER, Failure("busy"), "DEFER"),
        (OutcomeKind.FATAL, Failure("ValueError"), "FATAL"),
        (OutcomeKind.RETURNED, Failure("stopping"), "RETURNED"),
        (OutcomeKind.LOST, Failure("crash"), "CRASH"),
    ],
)
def test_attempt_is_counted_by_what_it_came_to(
    kind: OutcomeKind, failure: Failure, counted: str
) -> None:
    case = Case()
    case.sidecar.report(failed(case.lease, kind, failure))
    assert case.attempts() == {counted: 1}


def test_lease_that_ran_out_is_counted_and_its_task_redelivered() -> None:
    case = Case()

    case.bench.advance(LEASE_MS)

    assert case.attempts() == {"LEASE_LOST": 1}
    counts = case.bench.shard.counts
    assert counts["lease_expired"] == counts["redelivered"] == 1


def test_clock_that_is_set_back_makes_no_counter_smaller() -> None:
    case = Case()
    case.bench.pass_time(1, wall_ms=-60_000)

    case.sidecar.report(success(case.lease))

    assert case.figures.total[0] == 1
    assert case.figures.total_ms == case.figures.lease_ms == 0


def test_outcome_that_comes_too_late_is_counted_as_fenced() -> None:
    case = Case()
    case.bench.receive(case.sidecar.peer, Outcomes(99, [an_outcome(token=case.lease.token - 1)]))
    case.bench.settle()
    assert case.bench.shard.counts["stale_token"] == 1


def test_dead_task_is_told_to_those_who_watch() -> None:
    case = Case()
    shard = case.bench.shard

    case.bench.receive(
        case.sidecar.peer,
        Outcomes(99, [failed(case.lease, OutcomeKind.FATAL, Failure("ValueError"))]),
    )
    events = shard.flush(case.bench.now).events

    assert [event.event for event in events] == ["task_dead"]
    assert events[0].fields["handler"] == EMAIL
    assert events[0].fields["error_type"] == "ValueError"


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50), st.integers(1, 100))
def test_percentile_is_over_the_true_one_and_at_most_twice_it(
    values: list[int], percent: int
) -> None:
    buckets = [0] * 64
    for value in values:
        buckets[value.bit_length()] += 1
    true = sorted(values)[-(-len(values) * percent // 100) - 1]

    told = percentile_ms(buckets, percent)

    assert told is not None
    assert true < told <= max(1, 2 * true)


def test_nothing_has_no_percentile() -> None:
    assert percentile_ms([0] * 64, 99) is None


def test_figures_add_up() -> None:
    one, two = Case().figures, Case().figures
    one += two
    assert one.submitted == 2
    assert one.wait[0] == 2


def test_commit_is_counted_by_time_and_size() -> None:
    commits = Commits()
    commits.observe(0.0015, 300)
    assert (commits.took[11], commits.took_us) == (1, 1_500)
    assert (commits.writes[9], commits.writes_sum) == (1, 300)
