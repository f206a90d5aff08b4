"""CI's share of the catalogue, and that all of it is up to date; the rest is one command away."""

import os
import re
from pathlib import Path

import pytest

from tests.mutants import campaign
from tests.mutants.campaign import Fate
from tests.mutants.catalogue import MUTANTS
from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Moved, Mutant, Promise

SHARE = (
    "accepted-before-commit",
    "later-owner-not-noticed",
    "timer-row-released-early",
    "low-starved",
    "no-token-check",
    "session-without-margin",
    "revoked-result-taken",
    "lost-grant-not-given-back",
    "outcomes-dropped-on-reconnect",
    "submissions-unbounded",
    "slot-free-when-revoked",
    "spooled-before-commit",
)
"""Some of each kind, and quick ones. Their instruments run without the bug in this suite anyway."""
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
HARMLESS = Edit("protocol.version", "VERSION_MAX = 1\n", "VERSION_MAX = 1  # As before.\n")


def a_mutant(edit: Edit, test: str) -> Mutant:
    return Mutant("a-name", "Something is wrong.", Promise.DURABLE, [edit], a_test(test))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_place_of_the_bug_is_still_there(mutant: Mutant) -> None:
    assert mutant.sources()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_instrument_is_still_there(mutant: Mutant) -> None:
    if mutant.instrument.module != "pytest":
        return
    for argument in mutant.instrument.arguments:
        file, *names = argument.partition("[")[0].split("::")
        text = (Path(__file__).parents[2] / file).read_text()
        for name in names:
            assert re.search(rf"\b(def|class) {name}\b", text), argument


def test_every_bug_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(MUTANTS)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", SHARE)
def test_bug_is_caught(name: str) -> None:
    result = campaign.try_one(BY_NAME[name])
    assert result.fate is Fate.CAUGHT, result.evidence


def test_place_that_is_gone_is_told() -> None:
    mutant = a_mutant(Edit("protocol.version", "no such line", ""), "protocol/test_version.py")
    with pytest.raises(Moved, match="has 0 times, not 1 times, 'no such line'"):
        mutant.sources()
    assert campaign.try_one(mutant).fate is Fate.MOVED


def test_bug_that_is_no_python_is_told() -> None:
    edit = Edit("protocol.version", "SOFTWARE = ", "SOFTWARE ) ")
    with pytest.raises(Moved, match="does not compile"):
        a_mutant(edit, "protocol/test_version.py").sources()


def test_bug_that_nothing_sees_is_not_called_caught() -> None:
    [result] = campaign.run([a_mutant(HARMLESS, "protocol/test_version.py")], workers=1)
    assert result.fate is Fate.NOT_CAUGHT


def test_instrument_that_fails_by_itself_catches_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "test_broken.py"
    broken.write_text("def test_it() -> None:\n    assert False, 'always'\n")
    mutant = a_mutant(HARMLESS, os.path.relpath(broken, Path(__file__).parents[1]))

    [result] = campaign.run([mutant], workers=1)

    assert (result.fate, "always" in result.evidence) == (Fate.UNSOUND, True)


def test_instrument_that_cannot_be_run_catches_nothing() -> None:
    result = campaign.try_one(a_mutant(HARMLESS, "protocol/test_version.py::test_nothing"))
    assert result.fate is Fate.NO_VERDICT


def test_bug_is_in_the_processes_that_the_instrument_starts(tmp_path: Path) -> None:
    program = "import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {!r}]))"
    child = "from protocol.version import SOFTWARE; assert SOFTWARE == 'mutant', SOFTWARE"
    started = tmp_path / "test_started.py"
    started.write_text(f"def test_it() -> None:\n    {program.format(child)}\n")
    edit = Edit("protocol.version", "SOFTWARE = ", 'SOFTWARE = "mutant" or ')
    mutant = a_mutant(edit, os.path.relpath(started, Path(__file__).parents[1]))

    assert campaign.try_one(mutant).fate is Fate.NOT_CAUGHT  # The test in it holds with the bug.
