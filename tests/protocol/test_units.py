import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.units import (
    InvalidUnit,
    format_duration_ms,
    format_size,
    parse_duration_ms,
    parse_size,
)

NUMBERS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("250ms", 250),
        ("30s", 30_000),
        (" 1h30m ", 5_400_000),
        ("1h 30m", 5_400_000),
        ("1.5s", 1_500),
        ("0.1s", 100),
        ("2d", 172_800_000),
        ("1m1ms", 60_001),
    ],
)
def test_duration_is_read(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "-1s",
        "1m1h",
        "1s1s",
        "1s 2",
        "1 sec",
        "1e3s",
        "٣s",
        "0.1ms",
        "1." + "0" * 80 + "s",
        "s",
    ],
)
def test_what_is_no_duration_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(InvalidUnit, match="expected a number with ms, s, m, h or d") as caught:
        parse_duration_ms(text)

    assert repr(text)[:40] in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("10B", 10),
        ("64MiB", 64 * 2**20),
        ("64 mib", 64 * 2**20),
        ("1.5GiB", 1_610_612_736),
        ("1kB", 1000),
        ("2TB", 2 * 10**12),
    ],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64M", "-1", "0.5B", "1.5", "MiB", "1 2MiB", "9" * 65])
def test_what_is_no_size_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(InvalidUnit, match="expected a number with B, KiB, MiB"):
        parse_size(text)


@given(NUMBERS)
def test_formatted_duration_reads_as_the_same_number(milliseconds: int) -> None:
    assert parse_duration_ms(format_duration_ms(milliseconds)) == milliseconds


@given(NUMBERS)
def test_formatted_size_reads_as_the_same_number(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("milliseconds", "text"), [(0, "0s"), (5_400_000, "1h30m"), (90, "90ms")])
def test_duration_is_written_short(milliseconds: int, text: str) -> None:
    assert format_duration_ms(milliseconds) == text


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    for parse in (parse_duration_ms, parse_size):
        with contextlib.suppress(InvalidUnit):
            assert parse(text) >= 0
