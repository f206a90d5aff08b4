import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.errors import InvalidField
from protocol.policy import Policy

RANGES = {
    "attempts_max": (1, 1000),
    "backoff_ms_min": (0, limits.DAY_MS),
    "backoff_ms_max": (0, 30 * limits.DAY_MS),
    "timeout_ms": (1, 7 * limits.DAY_MS),
    "concurrency": (0, 100_000),
    "crashes_max": (1, 1000),
    "deferrals_max": (0, 1000),
    "start_within_ms": (0, 7 * limits.DAY_MS),
}
changes = st.fixed_dictionaries(
    {}, optional={name: st.integers(*ends) for name, ends in RANGES.items()}
).filter(lambda c: c.get("backoff_ms_min", 2_000) <= c.get("backoff_ms_max", 1_800_000))


def test_default_policy_has_no_changes() -> None:
    assert Policy().changes() == {}
    assert Policy().with_changes({}) == Policy()


@given(changes)
def test_changes_travel_and_make_the_same_policy(changes: dict[str, int]) -> None:
    policy = Policy().with_changes(changes)
    assert Policy().with_changes(policy.changes()) == policy
    assert all(getattr(policy, name) == value for name, value in changes.items())


def test_every_field_has_a_range() -> None:
    assert set(RANGES) == set(Policy.__dataclass_fields__)


@pytest.mark.parametrize("name", RANGES)
def test_field_takes_both_ends_of_its_range_and_nothing_beyond(name: str) -> None:
    low, high = RANGES[name]
    wide = Policy().with_changes({"backoff_ms_min": 0, "backoff_ms_max": 30 * limits.DAY_MS})
    assert getattr(wide.with_changes({name: low}), name) == low
    assert getattr(wide.with_changes({name: high}), name) == high
    for wrong in (low - 1, high + 1, str(low), True, None, 1.5):
        with pytest.raises(InvalidField, match=rf"policy field {name} is .*expected {low} to"):
            wide.with_changes({name: wrong})


def test_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidField, match="no field 'retries'; known: attempts_max, backoff"):
        Policy().with_changes({"retries": 3})


def test_shortest_wait_may_not_be_over_the_longest() -> None:
    with pytest.raises(InvalidField, match=r"backoff_ms_min \(5\) is over backoff_ms_max \(4\)"):
        Policy().with_changes({"backoff_ms_min": 5, "backoff_ms_max": 4})
    equal = Policy().with_changes({"backoff_ms_min": 5, "backoff_ms_max": 5})
    assert equal.backoff_ms_min == equal.backoff_ms_max == 5
