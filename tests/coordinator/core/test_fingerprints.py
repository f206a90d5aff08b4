"""Failures of one cause have one fingerprint, others have others."""

import pytest

from coordinator.core.fingerprints import fingerprint, pattern


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("timed out after 30.5 s", "timed out after #.# s"),
        ("no user 'ada' in \"eu-1\"", "no user '…' in '…'"),
        ("can't open `a.txt`, isn't there", "can't open '…', isn't there"),
        ("task 018f2b4c-5d6e-7abc-8def-0123456789ab", "task #"),
        ("at 0x7f3A, hash deadbeef01 but decade", "at #, hash # but decade"),
        ("first line\nsecond", "first line"),
        ("", ""),
    ],
)
def test_pattern_leaves_out_what_differs_from_task_to_task(message: str, expected: str) -> None:
    assert pattern(message) == expected


def test_pattern_is_bounded() -> None:
    assert len(pattern("x" * 5_000)) == 200


def test_fingerprint_tells_error_types_and_patterns_apart() -> None:
    marks = {fingerprint(kind, text) for kind in ("A", "B") for text in ("x", "y")}
    assert len(marks) == 4
    assert all(len(mark) == 8 for mark in marks)
