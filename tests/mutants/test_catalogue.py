"""CI's share of the catalogue, and that all of it is up to date; the rest is one command away."""

import re
from pathlib import Path

import pytest

from tests.mutants import campaign
from tests.mutants.campaign import Fate
from tests.mutants.catalogue import MUTANTS
from tests.mutants.frozen import ROOT
from tests.mutants.instrument import Instrument, a_test
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


VERSIONS = a_test("protocol/test_version.py")


def a_mutant(edit: Edit, instrument: Instrument = VERSIONS) -> Mutant:
    return Mutant("a-name", "Something is wrong.", Promise.DURABLE, [edit], instrument)


def a_test_of(folder: Path, body: str) -> Instrument:
    """Return an instrument made of one test with this body."""
    file = folder / "test_made.py"
    file.write_text(f"def test_it() -> None:\n    {body}\n")
    return Instrument("pytest", (str(file),))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_place_of_the_bug_is_still_there(mutant: Mutant) -> None:
    assert mutant.sources(ROOT)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_instrument_is_still_there(mutant: Mutant) -> None:
    if mutant.instrument.module != "pytest":
        return
    for argument in mutant.instrument.arguments:
        file, *names = argument.partition("[")[0].split("::")
        text = (ROOT / file).read_text()
        for name in names:
            assert re.search(rf"\b(def|class) {name}\b", text), argument


def test_every_bug_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(MUTANTS)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", SHARE)
def test_bug_is_caught(name: str) -> None:
    result = campaign.try_one(BY_NAME[name], ROOT)
    assert result.fate is Fate.CAUGHT, result.evidence


def test_place_that_is_gone_is_told() -> None:
    mutant = a_mutant(
        Edit("protocol.version", "no such line", ""), a_test("protocol/test_version.py")
    )
    with pytest.raises(Moved, match="has 0 times, not 1 times, 'no such line'"):
        mutant.sources(ROOT)
    assert campaign.try_one(mutant, ROOT).fate is Fate.MOVED


def test_bug_that_is_no_python_is_told() -> None:
    edit = Edit("protocol.version", "SOFTWARE = ", "SOFTWARE ) ")
    with pytest.raises(Moved, match="does not compile"):
        a_mutant(edit).sources(ROOT)


def test_bug_that_nothing_sees_is_not_called_caught() -> None:
    [result] = campaign.run([a_mutant(HARMLESS)], workers=1)
    assert result.fate is Fate.NOT_CAUGHT


def test_instrument_that_fails_by_itself_catches_nothing(tmp_path: Path) -> None:
    broken = a_test_of(tmp_path, "assert False, 'always'")

    [result] = campaign.run([a_mutant(HARMLESS, broken)], workers=1)

    assert (result.fate, "always" in result.evidence) == (Fate.UNSOUND, True)


def test_instrument_that_cannot_be_run_catches_nothing() -> None:
    gone = a_mutant(HARMLESS, a_test("protocol/test_version.py::test_nothing"))
    assert campaign.try_one(gone, ROOT).fate is Fate.NO_VERDICT


def test_bug_is_in_the_processes_that_the_instrument_starts(tmp_path: Path) -> None:
    child = "from protocol.version import SOFTWARE; assert SOFTWARE == 'mutant', SOFTWARE"
    held = a_test_of(
        tmp_path,
        f"import subprocess, sys; subprocess.check_output([sys.executable, '-c', {child!r}])",
    )
    edit = Edit("protocol.version", "SOFTWARE = ", 'SOFTWARE = "mutant" or ')

    # Its test holds because the bug is there.
    assert campaign.try_one(a_mutant(edit, held), ROOT).fate is Fate.NOT_CAUGHT


def test_run_takes_place_in_a_copy_that_nobody_edits_meanwhile(tmp_path: Path) -> None:
    """A bug was called caught when in truth somebody had broken the tree since the first look."""
    elsewhere = a_test_of(
        tmp_path,
        "import os, protocol.version as v, coordinator.core.ledger as l, sidecar.core.link as s; "
        f"assert os.getcwd() != {str(ROOT)!r}; "
        "assert all(x.__file__.startswith(os.getcwd() + '/') for x in (v, l, s))",
    )
    [result] = campaign.run([a_mutant(HARMLESS, elsewhere)], workers=1)
    assert result.fate is Fate.NOT_CAUGHT, result.evidence
