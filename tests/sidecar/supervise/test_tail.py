"""The last lines of stderr: cut, bounded, and never at the mercy of what is written."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.supervise.tail import BYTES_MAX, LINE_BYTES_MAX, LINES_MAX, Tail


@given(st.lists(st.binary(max_size=20)))
def test_lines_are_the_same_however_the_bytes_arrive(pieces: list[bytes]) -> None:
    whole, parts = Tail(), Tail()

    at_once = whole.feed(b"".join(pieces)) + whole.end()
    one_by_one = [line for piece in pieces for line in parts.feed(piece)] + parts.end()

    assert at_once == one_by_one
    assert whole.text(1_000) == parts.text(1_000)


def test_last_lines_are_kept() -> None:
    tail = Tail()

    tail.feed(b"".join(b"%d\n" % n for n in range(1_000)))

    assert tail.text(10_000).split("\n") == [str(n) for n in range(1_000 - LINES_MAX, 1_000)]


def test_line_without_an_end_is_part_of_the_text() -> None:
    tail = Tail()
    tail.feed(b"one\ntw")
    assert tail.text(100) == "one\ntw"
    assert tail.end() == ["tw"]
    assert tail.text(100) == "one\ntw"


def test_newest_characters_stay_where_not_all_fit() -> None:
    tail = Tail()
    tail.feed(b"abc\ndef\n")
    assert tail.text(5) == "…\ndef"


def test_endless_line_is_cut_and_takes_little_memory() -> None:
    tail = Tail()

    lines = [line for _ in range(100) for line in tail.feed(b"x" * 10_000)]

    assert {len(line) for line in lines} == {LINE_BYTES_MAX}
    assert len(tail.text(10**9)) <= BYTES_MAX + LINES_MAX + LINE_BYTES_MAX


def test_long_lines_are_kept_up_to_the_bytes_allowed() -> None:
    tail = Tail()
    tail.feed(b"".join(b"%05d" % n + b"x" * 5_000 + b"\n" for n in range(20)))
    text = tail.text(10**9)
    assert text.endswith("x")
    assert "00019" in text
    assert len(text) <= BYTES_MAX


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert Tail().feed(b"caf\xe9\r\n") == ["caf�"]
