"""Durations and instants as users write them, in the milliseconds of the protocol."""

import math
from datetime import datetime, timedelta

from protocol.units import DURATION_FORMS, parse_duration_ms

Duration = str | timedelta | int | float
"""``"10m"``, a ``timedelta``, or seconds."""
Instant = datetime | int | float
"""A ``datetime`` with a time zone, or seconds since 1970."""


def duration_ms(name: str, value: Duration) -> int:
    """Return a duration in whole milliseconds, rounded up so that something stays something.

    Raises:
        ValueError: Not a duration; names the argument.
    """
    if isinstance(value, str):
        try:
            return parse_duration_ms(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_number(seconds) or seconds < 0:
        raise ValueError(f"{name} is {value!r}; expected seconds, a timedelta, or {DURATION_FORMS}")
    return math.ceil(round(seconds * 1000, 3))


def instant_ms(name: str, value: Instant) -> int:
    """Return an instant in milliseconds since 1970.

    Raises:
        ValueError: Not an instant, or a datetime of which nobody knows the time zone.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(
                f"{name} is {value!r}, a datetime without a time zone; "
                "give it one, such as datetime.now(timezone.utc) or value.astimezone()"
            )
        return round(value.timestamp() * 1000)
    if not _is_number(value) or value < 0:
        raise ValueError(
            f"{name} is {value!r}; expected a datetime with a time zone or seconds since 1970"
        )
    return round(value * 1000)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
