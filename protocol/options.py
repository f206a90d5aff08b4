"""What a submission may ask for beside its payload, and how each of it is checked."""

import difflib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from protocol import fields, limits
from protocol.errors import Code, InvalidField
from protocol.messages import Priority

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


class Form(NamedTuple):
    """How an option that is no number must look."""

    expected: str
    """For people."""
    check: Callable[[str, Any], Any]
    """Raises ``InvalidField``."""


def _matches(expected: str, test: Callable[[str], object]) -> Form:
    def check(field: str, value: Any) -> None:
        if type(value) is not str or not test(value):
            raise fields.fail(field, value, expected)

    return Form(expected, check)


def _ascii_to(chars_max: int) -> Form:
    return _matches(
        f"1 to {chars_max} printable ASCII characters",
        lambda text: 1 <= len(text) <= chars_max and text.isascii() and text.isprintable(),
    )


OPTIONS: dict[str, tuple[int, int] | Form] = {
    "delay_ms": (0, limits.DELAY_MS_MAX),
    "at_ms": (0, fields.INT_MAX),
    "priority": (int(min(Priority)), int(max(Priority))),
    "collection": Form("a name", fields.name),
    "expires_ms": (1, limits.DELAY_MS_MAX),
    "attempts_max": (1, limits.ATTEMPTS_MAX),
    "timeout_ms": (1, limits.TIMEOUT_MS_MAX),
    "backoff_ms_min": (0, limits.DAY_MS),
    "backoff_ms_max": (0, 30 * limits.DAY_MS),
    "key": _matches(
        f"1 to {limits.KEY_CHARS_MAX} printable characters",
        lambda text: 1 <= len(text) <= limits.KEY_CHARS_MAX and text.isprintable(),
    ),
    "traceparent": _matches("a traceparent as of W3C Trace Context", _TRACEPARENT.fullmatch),
    "tracestate": _ascii_to(limits.TRACESTATE_CHARS_MAX),
    "baggage": _ascii_to(limits.BAGGAGE_CHARS_MAX),
    "meta": Form("a map of names to texts", fields.meta),
}
"""Options a task may carry: integers with their range, or what has a form.

``delay_ms`` counts from acceptance; ``at_ms`` is a wall-clock time; they exclude each other.
``expires_ms`` counts from the due time: after it no attempt begins, and a task that waits (for its
first attempt or for another) ends as expired. An attempt that runs at that time may finish.
"""

FOR_HANDLER = ("key", "traceparent", "tracestate", "baggage", "meta")
"""Options that mean nothing to the coordinator: they are carried to the handler."""


def check_options(options: Any) -> tuple[str, str] | None:
    """Return None if the options may be taken, otherwise a code and what is wrong."""
    if type(options) is not dict:
        return Code.INVALID_OPTION, fields.fail("options", options, "a map").detail
    for key, value in options.items():
        expected = OPTIONS.get(key) if type(key) is str else None
        if expected is None:
            return Code.UNKNOWN_OPTION, _unknown(key)
        if isinstance(expected, Form):
            try:
                expected.check(key, value)
            except InvalidField as error:
                return Code.INVALID_OPTION, error.detail
            continue
        low, high = expected
        if type(value) is not int or not low <= value <= high:
            due = key in ("delay_ms", "at_ms") and type(value) is int
            code = Code.DUE_OUT_OF_RANGE if due else Code.INVALID_OPTION
            return code, fields.fail(key, value, f"an integer from {low} to {high}").detail
    if "delay_ms" in options and "at_ms" in options:
        return Code.INVALID_OPTION, "delay_ms and at_ms exclude each other; give one"
    return None


def _unknown(key: object) -> str:
    near = difflib.get_close_matches(key[:64], OPTIONS, n=1) if isinstance(key, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(OPTIONS)}"
    return f"no option is called {fields.shown(key)}{hint}"
