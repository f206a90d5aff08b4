"""Which attempts continue their submitter's trace."""

import pytest

from sidecar.tracing.relation import AUTO, CHILD, CHILD_MS_MAX, LINK, is_child


@pytest.mark.parametrize(("age_ms", "child"), [(0, True), (CHILD_MS_MAX, True), (30_001, False)])
def test_attempt_soon_after_its_submission_is_a_child(age_ms: int, child: bool) -> None:
    assert is_child(AUTO, 1_000, 1_000 + age_ms) is child


def test_clock_that_lags_behind_the_coordinators_makes_children() -> None:
    assert is_child(AUTO, 60_000, 1_000)


def test_what_is_said_holds_at_any_age() -> None:
    assert is_child(CHILD, 0, 10 * CHILD_MS_MAX)
    assert not is_child(LINK, 0, 0)
