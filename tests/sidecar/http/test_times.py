"""Times come as people and programs write them, and units are never guessed."""

import pytest

from sidecar.http.problems import Problem
from sidecar.http.times import duration_ms, instant_ms, show, wait_ms

MOMENT_MS = 1_900_000_000_123


def test_time_is_shown_in_a_form_that_reads_back() -> None:
    assert show(MOMENT_MS) == "2030-03-17T17:46:40.123Z"
    assert instant_ms("at", show(MOMENT_MS)) == MOMENT_MS
    assert show(0) == "1970-01-01T00:00:00.000Z"


def test_time_that_no_calendar_has_is_shown_as_a_number() -> None:
    assert show(2**62) == str(2**62)


@pytest.mark.parametrize(
    "value",
    [
        MOMENT_MS,
        str(MOMENT_MS),
        "2030-03-17T17:46:40.123Z",
        "2030-03-17T18:46:40.123+01:00",
        "2030-03-17T18:46:40.123 01:00",
    ],
)
def test_instant_is_taken_in_each_of_its_forms(value: object) -> None:
    assert instant_ms("at", value) == MOMENT_MS


@pytest.mark.parametrize(
    "value",
    ["tomorrow", "2030-03-17T17:46:40", "2030-03-17", "", "-1", 1.5, None, True, "²", "9" * 99],
)
def test_instant_that_nobody_can_know_is_refused(value: object) -> None:
    with pytest.raises(Problem, match="at is"):
        instant_ms("at", value)


def test_duration_names_its_unit() -> None:
    assert duration_ms("delay", "1h30m") == 5_400_000


@pytest.mark.parametrize("value", ["10", 10, None, "soon", "1.0001s"])
def test_duration_without_a_unit_is_refused_with_the_forms(value: object) -> None:
    with pytest.raises(Problem) as caught:
        duration_ms("delay", value)
    assert "30s" in caught.value.hint


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("30", 30_000), ("1m", 60_000)])
def test_wait_is_in_seconds_or_has_a_unit(value: str, expected: int) -> None:
    assert wait_ms("wait", value) == expected


@pytest.mark.parametrize("value", ["", "-1", "3601", "61m", "1e3", "٣"])
def test_wait_that_is_none_or_too_long_is_refused(value: str) -> None:
    with pytest.raises(Problem, match="wait is"):
        wait_ms("wait", value)
