import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.filters.times import Moment, format_time, parse_moment

UTC = datetime.UTC


@given(st.datetimes(datetime.datetime(1971, 1, 1), datetime.datetime(9999, 12, 31)))
def test_time_of_day_is_what_the_standard_library_says(moment: datetime.datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    wall_ms = round(moment.replace(tzinfo=UTC).timestamp() * 1000)

    text = format_time(wall_ms)

    assert datetime.datetime.fromisoformat(text).replace(tzinfo=None) == moment
    assert parse_moment(text) == Moment(0, wall_ms)


@pytest.mark.parametrize(
    "text", ["2026-01-31", "2026-01-31T00:00", "2026-01-31 00:00:00Z", "2026-01-31T00:00:00+00:00"]
)
def test_shorter_forms_mean_the_same(text: str) -> None:
    assert str(parse_moment(text)) == "2026-01-31T00:00:00Z"


def test_age_is_counted_from_the_time_at_which_it_is_asked() -> None:
    assert parse_moment("1h30m").wall_ms(10_000_000) == 4_600_000
    assert parse_moment("0").wall_ms(7) == 7


@pytest.mark.parametrize(
    "text", ["2026-13-01", "2026-02-29", "2026-01-01T24:00", "1970-01-01", "2026-01-01T10:00+02:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_moment(text)
