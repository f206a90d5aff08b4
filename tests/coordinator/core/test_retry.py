from statistics import mean

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.retry import backoff_ms, jitter_of
from protocol.policy import Policy
from tests.support.builders import task_id

bounds = st.integers(0, 30 * 86_400_000)


@given(st.integers(1, 10**6), bounds, bounds, st.floats(0, 1, exclude_max=True))
def test_wait_is_within_the_largest_bound(
    attempt: int, ms_min: int, ms_max: int, jitter: float
) -> None:
    assert 0 <= backoff_ms(attempt, ms_min=ms_min, ms_max=ms_max, jitter=jitter) <= ms_max


def test_bound_triples_until_it_is_at_its_maximum() -> None:
    bounds = [backoff_ms(n, ms_min=100, ms_max=5_000, jitter=0.999999999) for n in range(1, 7)]
    assert bounds == [99, 299, 899, 2_699, 4_999, 4_999]


def test_default_policy_waits_about_one_point_three_hours_in_all() -> None:
    policy = Policy()
    bounds = [
        backoff_ms(n, ms_min=policy.backoff_ms_min, ms_max=policy.backoff_ms_max, jitter=0.5)
        for n in range(1, policy.attempts_max)
    ]
    assert 1.2 < sum(bounds) / 3_600_000 < 1.4


def test_jitter_is_even_over_tasks_and_attempts() -> None:
    drawn = [jitter_of(task_id(n), token) for n in range(100) for token in range(1, 101)]
    assert 0 <= min(drawn) < 0.01
    assert 0.99 < max(drawn) < 1
    assert 0.48 < mean(drawn) < 0.52


def test_jitter_of_one_attempt_is_always_the_same() -> None:
    assert jitter_of(task_id(), 7) == jitter_of(task_id(), 7) != jitter_of(task_id(), 8)
