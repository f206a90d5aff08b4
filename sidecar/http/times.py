"""Times as HTTP shows them and takes them: ISO 8601 in UTC, durations with their unit."""

from datetime import UTC, datetime
from functools import lru_cache

from protocol import limits
from protocol.errors import Code
from protocol.units import DURATION_FORMS, InvalidUnit, parse_duration_ms
from sidecar.http.problems import Problem

INSTANT_FORMS = "milliseconds since 1970, or ISO 8601 with a zone such as 2030-01-31T08:00:00Z"
_CHARS_MAX = 64
_YEAR_10000_MS = 253_402_300_800_000


def show(ms: int) -> str:
    """Return a time in ISO 8601: ``2030-01-31T08:00:00.000Z``."""
    if not 0 <= ms < _YEAR_10000_MS:
        return str(ms)
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def duration_ms(name: str, value: object) -> int:
    """Return a duration given as text.

    Raises:
        Problem: It is none.
    """
    if type(value) is not str:
        raise invalid(name, value, DURATION_FORMS)
    try:
        return parse_duration_ms(value)
    except InvalidUnit:
        raise invalid(name, value, DURATION_FORMS) from None


def instant_ms(name: str, value: object) -> int:
    """Return a time in milliseconds since 1970.

    Raises:
        Problem: It is none, or nobody knows its time zone.
    """
    if type(value) is int:
        return value
    if type(value) is not str or len(value) > _CHARS_MAX:
        raise invalid(name, value, INSTANT_FORMS)
    if value.isascii() and value.isdigit():
        return int(value)
    try:
        # A plus that was not percent-encoded arrives as a space.
        moment = datetime.fromisoformat(value.replace(" ", "+"))
    except ValueError:
        raise invalid(name, value, INSTANT_FORMS) from None
    if moment.utcoffset() is None:
        raise invalid(name, value, INSTANT_FORMS)
    return round(moment.timestamp() * 1000)


def wait_ms(name: str, value: str) -> int:
    """Return how long to wait: whole seconds, or a duration.

    Raises:
        Problem: It is neither, or too long.
    """
    seconds = value.isascii() and value.isdigit() and len(value) <= _CHARS_MAX
    ms = 1000 * int(value) if seconds else duration_ms(name, value)
    if ms > limits.WAIT_MS_MAX:
        raise invalid(name, value, f"at most {limits.WAIT_MS_MAX // 1000} seconds")
    return ms


def invalid(name: str, value: object, expected: str) -> Problem:
    """Return the problem of an option with a wrong value."""
    shown = repr(value)[:_CHARS_MAX] if isinstance(value, str | int | float) else "no text"
    return Problem(400, Code.INVALID_OPTION, f"{name} is {shown}", f"{name} takes {expected}")
