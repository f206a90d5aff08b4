import pytest

from coordinator.core import layout
from coordinator.core.handler import Handler
from coordinator.core.operations import By, Done, Refusal, RevertPolicy, SetPolicy
from protocol.messages import State
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import a_submission, task_id

BY = By("ada", "spare the provider")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def sidecar(bench: Bench) -> Sidecar:
    sidecar = Sidecar(bench)
    sidecar.declare()
    return sidecar


def change(bench: Bench, **changes: int) -> None:
    assert isinstance(bench.operate(SetPolicy(EMAIL, changes, BY)), Done)


def revert(bench: Bench, *fields: str) -> None:
    assert isinstance(bench.operate(RevertPolicy(EMAIL, fields, BY)), Done)


def handler(bench: Bench) -> Handler:
    return bench.shard.ledger.handlers[EMAIL]


def submit(sidecar: Sidecar, count: int) -> None:
    sidecar.submit(*[a_submission(number) for number in range(1, count + 1)])


def test_change_of_concurrency_counts_at_once_in_both_directions(
    bench: Bench, sidecar: Sidecar
) -> None:
    change(bench, concurrency=2)
    submit(sidecar, 6)
    sidecar.demand(10)
    assert len(sidecar.granted()) == 2
    change(bench, concurrency=4)
    assert len(sidecar.granted()) == 4
    change(bench, concurrency=1)
    sidecar.report(*[success(task) for task in sidecar.granted()[:3]])
    assert len(sidecar.granted()) == 4
    revert(bench)
    assert len(sidecar.granted()) == 6


def test_change_of_attempts_and_timeout_counts_for_what_is_granted_and_settled(
    bench: Bench, sidecar: Sidecar
) -> None:
    submit(sidecar, 2)
    sidecar.demand(1)
    first = sidecar.grant()
    change(bench, attempts_max=1, timeout_ms=5)
    sidecar.report(failed(first))
    assert bench.audit().tasks[first.id].state is State.DEAD
    sidecar.demand(2)
    assert (sidecar.grant().attempts_max, sidecar.grant().timeout_ms) == (1, 5)


def test_what_a_submitter_has_set_wins_over_both(bench: Bench, sidecar: Sidecar) -> None:
    change(bench, attempts_max=5)
    sidecar.submit(a_submission(1, options={"attempts_max": 2}))
    sidecar.demand(1)
    assert sidecar.grant().attempts_max == 2


def test_owner_who_declares_again_changes_what_is_declared_only(
    bench: Bench, sidecar: Sidecar
) -> None:
    change(bench, attempts_max=5)
    sidecar.declare(EMAIL, attempts_max=9, crashes_max=2)
    assert (handler(bench).policy.attempts_max, handler(bench).declared.attempts_max) == (5, 9)
    assert handler(bench).policy.crashes_max == 2
    revert(bench, "attempts_max")
    assert handler(bench).policy.attempts_max == 9
    assert not bench.rows(b"v")


def test_changes_outlast_a_restart_and_stay_changes(bench: Bench, sidecar: Sidecar) -> None:
    sidecar.declare(EMAIL, crashes_max=2)
    change(bench, attempts_max=5, concurrency=1)
    before = handler(bench).overrides
    bench.crash()
    assert handler(bench).overrides == before
    assert handler(bench).policy.attempts_max == 5
    assert handler(bench).declared.changes() == {"crashes_max": 2}
    revert(bench)
    bench.crash()
    assert handler(bench).policy == handler(bench).declared


def test_bound_that_was_changed_moves_the_other_if_the_owner_contradicts(
    bench: Bench, sidecar: Sidecar
) -> None:
    change(bench, backoff_ms_min=60_000)
    sidecar.declare(EMAIL, backoff_ms_min=1, backoff_ms_max=10)
    policy = handler(bench).policy
    assert (policy.backoff_ms_min, policy.backoff_ms_max) == (60_000, 60_000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attempts_max": 0}, "attempts_max is 0; expected 1 to"),
        ({"backoff_ms_min": 1_800_001}, "backoff_ms_min (1800001) is over"),
        ({"nothing": 1}, "no field 'nothing'"),
    ],
)
def test_change_that_cannot_be_is_refused_whole(
    bench: Bench, sidecar: Sidecar, changes: dict[str, int], said: str
) -> None:
    answer = bench.operate(SetPolicy(EMAIL, {"crashes_max": 1} | changes, BY))
    assert isinstance(answer, Refusal)
    assert answer.code == "invalid_policy"
    assert said in answer.detail
    assert not handler(bench).overrides


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((), "unknown_override"),
        (("attempts_max",), "unknown_override"),
        (("attempts_max", "nothing"), "invalid_policy"),
    ],
)
def test_revert_of_what_nobody_has_changed_is_refused(
    bench: Bench, sidecar: Sidecar, fields: tuple[str, ...], code: str
) -> None:
    answer = bench.operate(RevertPolicy(EMAIL, fields, BY))
    assert isinstance(answer, Refusal)
    assert answer.code == code


def test_damaged_changes_are_told_and_the_declared_policy_counts(
    bench: Bench, sidecar: Sidecar
) -> None:
    submit(sidecar, 1)
    change(bench, attempts_max=5)
    key = layout.override_key(handler(bench).number)
    bench.pairs[key] = bench.pairs[key][:-1] + b"?"
    bench.crash()
    assert handler(bench).policy.attempts_max == 12
    assert bench.noted("record_corrupt")[0]["kind"] == "changes of a policy"
    assert task_id(1) in bench.audit().tasks
