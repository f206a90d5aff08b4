from typing import Any

import pytest

from protocol.errors import Code
from protocol.options import FOR_HANDLER, OPTIONS, Form, check_options
from tests.protocol.examples import CARRIED

NUMBERS = [name for name, expected in OPTIONS.items() if not isinstance(expected, Form)]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("option", NUMBERS)
def test_number_takes_both_ends_of_its_range_and_nothing_beyond(option: str) -> None:
    expected = OPTIONS[option]
    assert not isinstance(expected, Form)
    low, high = expected
    assert check_options({option: low}) is None
    assert check_options({option: high}) is None
    for wrong in (low - 1, high + 1, str(low), None, float(low)):
        assert check_options({option: wrong}) is not None


TAKEN: list[tuple[str, Any]] = [
    ("collection", "welcome"),
    ("key", "x"),
    ("key", "Bestellung 42 für Ä/ß \U0001f600"),
    ("key", "x" * 255),
    ("traceparent", TRACEPARENT),
    ("traceparent", "cc" + TRACEPARENT[2:]),
    ("tracestate", "vendor=opaque,other=1"),
    ("tracestate", "x" * 512),
    ("baggage", "x" * 1024),
    ("meta", {}),
    ("meta", {"tenant": "", "x" * 64: "ä" * 256}),
    ("meta", {f"n{i}": "" for i in range(16)}),
]


@pytest.mark.parametrize(("option", "value"), TAKEN)
def test_option_of_its_form_is_taken(option: str, value: Any) -> None:
    assert check_options({option: value}) is None


REFUSED: list[tuple[str, Any, str]] = [
    ("collection", "", "a name of [a-z0-9._-]{1,64}"),
    ("key", "", "1 to 255 printable characters"),
    ("key", "x" * 256, "1 to 255 printable characters"),
    ("key", "two\nlines", "1 to 255 printable characters"),
    ("key", b"x", "1 to 255 printable characters"),
    ("key", 1, "1 to 255 printable characters"),
    ("traceparent", "", "W3C Trace Context"),
    ("traceparent", TRACEPARENT.upper(), "W3C Trace Context"),
    ("traceparent", TRACEPARENT + "-00", "W3C Trace Context"),
    ("traceparent", TRACEPARENT + "\n", "W3C Trace Context"),
    ("traceparent", "ff" + TRACEPARENT[2:], "W3C Trace Context"),
    ("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01", "W3C Trace Context"),
    ("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", "W3C Trace Context"),
    ("tracestate", "", "1 to 512 printable ASCII characters"),
    ("tracestate", "x" * 513, "1 to 512 printable ASCII characters"),
    ("tracestate", "ä=1", "1 to 512 printable ASCII characters"),
    ("baggage", "x" * 1025, "1 to 1024 printable ASCII characters"),
    ("baggage", "a=1\r\nhost: x", "1 to 1024 printable ASCII characters"),
    ("meta", [], "a map of at most 16 texts"),
    ("meta", {f"n{i}": "" for i in range(17)}, "a map of at most 16 texts"),
    ("meta", {"Tenant": "x"}, "a name of [a-z0-9._-]{1,64}"),
    ("meta", {"a": 1}, "meta.a is 1; expected printable text"),
    ("meta", {"a": "x" * 257}, "printable text of at most 256 characters"),
    ("meta", {"a": "x\nb: y"}, "printable text of at most 256 characters"),
]


@pytest.mark.parametrize(("option", "value", "expected"), REFUSED)
def test_option_of_another_form_is_refused_with_what_was_expected(
    option: str, value: Any, expected: str
) -> None:
    problem = check_options({option: value})
    assert problem is not None
    assert problem[0] == Code.INVALID_OPTION
    assert expected in problem[1]
    assert len(problem[1]) < 300


def test_what_is_for_the_handler_is_told_apart_from_what_the_coordinator_heeds() -> None:
    assert set(CARRIED) == set(FOR_HANDLER) < set(OPTIONS)
