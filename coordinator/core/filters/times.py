"""Moments in a filter: so long ago, or a time of day in UTC. No clock is read here."""

import re
from calendar import monthrange, timegm
from typing import NamedTuple

from protocol import units

_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?)?(Z|\+00:00)?"
)
FORMS = f"{units.DURATION_FORMS}, or a time in UTC such as 2026-01-31T12:00Z"
AGO_MS_MAX = 100 * 366 * 86_400_000


class Moment(NamedTuple):
    """Either an age or a time of day; the other is 0."""

    ago_ms: int
    at_ms: int

    def wall_ms(self, now_ms: int) -> int:
        """Return the time of day that is meant at a time of day."""
        return self.at_ms or now_ms - self.ago_ms

    def __str__(self) -> str:
        return format_time(self.at_ms) if self.at_ms else units.format_duration_ms(self.ago_ms)


def parse_moment(text: str) -> Moment:
    """Return the moment that a text means.

    Raises:
        ValueError: It means none.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        try:
            ago_ms = units.parse_duration_ms(text)
        except units.InvalidUnit:
            raise ValueError(f"{text!r} is no time; expected {FORMS}") from None
        if ago_ms > AGO_MS_MAX:
            raise ValueError(f"{text!r} is longer ago than a hundred years")
        return Moment(ago_ms, 0)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fits = 1 <= month <= 12 and 1 <= day <= monthrange(max(year, 1), month)[1]
    if year < 1971 or not fits or hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is no time that there is; expected {FORMS}")
    millis = int((match[7] or "0").ljust(3, "0"))
    return Moment(0, timegm((year, month, day, hour, minute, second, 0, 0, 0)) * 1000 + millis)


def format_time(wall_ms: int) -> str:
    """Return a time of day in UTC, exact to the millisecond: ``2026-01-31T12:00:00Z``."""
    days, ms = divmod(wall_ms, 86_400_000)
    year, month, day = _civil(days)
    seconds, millis = divmod(ms, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    fraction = f".{millis:03}" if millis else ""
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of so many days after 1970-01-01.

    The calendar repeats every 400 years, and a year that begins in March has its leap day last.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day
