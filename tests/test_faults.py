"""``docs/faults.md`` and ``docs/guarantees.md`` name instruments that are there."""

import re

import pytest

from tests.support.process import ROOT

FAULTS = (ROOT / "docs" / "faults.md").read_text()
PATH = re.compile(r"`(?:\S+ )?((?:tests|benchmarks|protocol|coordinator|sidecar)/[\w./]+)`")


def rows(text: str) -> list[str]:
    """Return the rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("| fault |", "|---"))]


@pytest.mark.parametrize("name", ["faults.md", "guarantees.md"])
def test_every_path_that_is_named_exists(name: str) -> None:
    named = set(PATH.findall((ROOT / "docs" / name).read_text()))

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    assert len(named) > 10


def test_every_fault_has_an_instrument_and_an_end() -> None:
    assert len(rows(FAULTS)) > 50
    for row in rows(FAULTS):
        _, fault, made_by, outcome, _ = re.split(r"(?<!\\)\|", row)
        assert fault.strip()
        assert outcome.strip()
        paths = PATH.findall(made_by)
        assert paths, row
        assert all(path.startswith("tests/") for path in paths), row


def test_every_place_that_breaks_things_is_named() -> None:
    folders = [ROOT / "tests" / name for name in ("robustness", "scenarios")]
    files = [path for folder in folders for path in folder.glob("test_*.py")]
    breaking = [path for path in files if re.search(r"\.kill\(|SIGSTOP|prlimit", path.read_text())]
    named = set(PATH.findall(FAULTS))

    missing = [str(path.relative_to(ROOT)) for path in breaking]
    assert [path for path in missing if path not in named] == []
