from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.sdk.times import duration_ms, instant_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        (timedelta(milliseconds=1500), 1500),
        (2, 2000),
        (0.25, 250),
        (0, 0),
        (0.0001, 1),
        (0.1 + 0.2, 300),
    ],
)
def test_durations_are_whole_milliseconds_and_something_stays_something(
    value: Any, ms: int
) -> None:
    assert duration_ms("delay", value) == ms


@pytest.mark.parametrize(
    "value", [-1, "10", "soon", True, None, float("inf"), float("nan"), timedelta(seconds=-1), []]
)
def test_what_is_no_duration_is_refused_under_its_name(value: Any) -> None:
    with pytest.raises(ValueError, match="delay"):
        duration_ms("delay", value)


def test_instants_are_milliseconds_since_1970() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)

    assert instant_ms("at", at) == instant_ms("at", at.timestamp()) == 1_893_456_000_000
    assert instant_ms("at", 1.5) == 1500


@pytest.mark.parametrize(
    "value", [datetime(2030, 1, 1), "2030-01-01", -1, True, float("nan"), None]
)
def test_what_is_no_instant_is_refused_under_its_name(value: Any) -> None:
    with pytest.raises(ValueError, match="at is"):
        instant_ms("at", value)
