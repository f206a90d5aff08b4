"""Durations and sizes as people write them: text to milliseconds or bytes, and back.

A bare number is no duration, because nobody can see whether it means seconds or milliseconds;
only ``0`` needs no unit. Formatting is exact, so that parsing it again gives the same number.
"""

import re
from fractions import Fraction

DURATION_FORMS = "a number with ms, s, m, h or d, such as 250ms, 30s or 1h30m"
SIZE_FORMS = "a number with B, KiB, MiB, GiB, TiB or kB, MB, GB, TB, such as 64MiB"

_TEXT_CHARS_MAX = 64
_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|[dhms])")
_BINARY_UNITS = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_SIZE_UNITS = {
    **{unit.lower(): factor for unit, factor in _BINARY_UNITS.items()},
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)", re.IGNORECASE)


class InvalidUnit(ValueError):
    """Raised when a text is no duration or no size; names the text and the accepted forms."""


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds in a text such as ``1h30m``.

    Parts stand from the largest unit to the smallest, each once.

    Raises:
        InvalidUnit: The text is no duration, or is finer than a millisecond.
    """
    stripped = text.strip()
    if stripped == "0":
        return 0
    total, place, last = Fraction(0), 0, 2**63
    while place < len(stripped) <= _TEXT_CHARS_MAX:
        part = _DURATION_PART.match(stripped, place)
        factor = _DURATION_UNITS[part[2]] if part else last
        if part is None or factor >= last:
            break
        total += Fraction(part[1]) * factor
        place = _skip_spaces(stripped, part.end())
        last = factor
    if not stripped or place != len(stripped):
        raise InvalidUnit(f"{_shown(text)} is no duration; expected {DURATION_FORMS}")
    if total.denominator != 1:
        raise InvalidUnit(f"{_shown(text)} is finer than 1ms; expected {DURATION_FORMS}")
    return int(total)


def format_duration_ms(milliseconds: int) -> str:
    """Return a duration in its shortest exact form: 5400000 is ``1h30m``."""
    assert milliseconds >= 0
    parts, rest = [], milliseconds
    for unit, factor in _DURATION_UNITS.items():
        count, rest = divmod(rest, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Return the bytes in a text such as ``64MiB``; a bare integer is bytes.

    Raises:
        InvalidUnit: The text is no size, or is no whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _TEXT_CHARS_MAX else None
    factor = _SIZE_UNITS.get(match[2].lower() or "b") if match else None
    if match is None or factor is None:
        raise InvalidUnit(f"{_shown(text)} is no size; expected {SIZE_FORMS}")
    size = Fraction(match[1]) * factor
    if size.denominator != 1:
        raise InvalidUnit(f"{_shown(text)} is no whole number of bytes; expected {SIZE_FORMS}")
    return int(size)


def format_size(size: int) -> str:
    """Return a size in the largest binary unit that is exact: 67108864 is ``64MiB``."""
    assert size >= 0
    for unit, factor in _BINARY_UNITS.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return "0B"


def _skip_spaces(text: str, place: int) -> int:
    while place < len(text) and text[place] == " ":
        place += 1
    return place


def _shown(text: str) -> str:
    return repr(text if len(text) <= _TEXT_CHARS_MAX else text[:_TEXT_CHARS_MAX] + "…")
