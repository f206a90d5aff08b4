"""Rows as text."""

import pytest

from coordinator.commands.output import Writer, age, table, tame
from coordinator.commands.status import size


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1_500, "1.5s"),
        (59_000, "59s"),
        (150_000, "2m30s"),
        (3_600_000, "1h00m"),
        (172_800_000, "2d00h"),
        (-5, "0ms"),
    ],
)
def test_age_is_told_in_about_two_digits(ms: int, text: str) -> None:
    assert age(ms) == text


def test_table_is_aligned_and_cut_to_the_width() -> None:
    rows = [{"name": "a", "ready": 5}, {"name": "longer", "ready": 1_000}]

    text = table(rows, ["name", "ready"], None)

    assert text.splitlines() == ["NAME    READY", "a           5", "longer   1000"]
    assert table(rows, ["name", "ready"], 4).splitlines() == ["NAME", "a", "long"]


def test_nothing_is_a_table_with_a_head() -> None:
    assert table([], ["name"], None) == "NAME\n"


def test_missing_and_empty_values_are_dashes() -> None:
    (_, line) = table(
        [{"a_ms": None, "b": "", "c": [], "finished_ms": 0}],
        ["a_ms", "b", "c", "finished_ms"],
        None,
    ).splitlines()
    assert line.split() == ["-", "-", "-", "-"]


def test_text_is_kept_in_one_line() -> None:
    assert tame("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert tame("süß") == "süß"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "0.999 KiB"), (1536, "1.5 KiB"), (2**50, "1024 TiB")]
)
def test_size_is_told_in_three_digits(count: int, text: str) -> None:
    assert size(count) == text


def test_csv_writes_lists_and_truth_as_json_does(capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer("csv", ["name"], "name")
    writer.write([{"name": "edge-1", "handlers": ["mail.send"], "exact": True}])
    writer.close()

    assert capsys.readouterr().out == 'name,handlers,exact\nedge-1,"[""mail.send""]",true\n'
