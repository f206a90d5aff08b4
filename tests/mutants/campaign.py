"""Put each bug in, run its instrument, and tell which bugs were seen.

The instruments are run without any bug too: one that fails by itself sees nothing.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutants import frozen
from tests.mutants.instrument import Instrument, Verdict
from tests.mutants.mutant import Moved, Mutant


class Fate(StrEnum):
    """What became of a mutant."""

    CAUGHT = "caught"
    NOT_CAUGHT = "NOT CAUGHT"
    MOVED = "PLACE GONE"
    """What the bug changes is not in the source any more."""
    UNSOUND = "FAILS ANYWAY"
    """Its instrument fails without the bug."""
    NO_VERDICT = "NO VERDICT"
    """Its instrument could not be run, or came to no end."""


@dataclass(frozen=True, slots=True)
class Result:
    """One mutant, and what its instrument said of it."""

    mutant: Mutant
    fate: Fate
    seconds: float
    evidence: str


Progress = Callable[[Result], None]


def run(
    mutants: Sequence[Mutant],
    *,
    workers: int,
    progress: Progress = lambda _: None,
) -> list[Result]:
    """Try mutants, several at a time.

    Args:
        mutants: Which.
        workers: How many at a time.
        progress: Called with each result, in no particular order.
    """

    def judge(mutant: Mutant) -> Result:
        result = try_one(mutant, tree)
        if mutant.instrument in unsound:
            evidence = f"without the bug: {unsound[mutant.instrument]}"
            result = Result(mutant, Fate.UNSOUND, result.seconds, evidence)
        progress(result)
        return result

    with frozen.copy() as tree, ThreadPoolExecutor(workers) as threads:
        unsound = _unsound([mutant.instrument for mutant in mutants], tree, threads)
        return list(threads.map(judge, mutants))


def try_one(mutant: Mutant, tree: Path) -> Result:
    """Put one bug into a tree's processes and run its instrument."""
    try:
        sources = mutant.sources(tree)
    except Moved as moved:
        return Result(mutant, Fate.MOVED, 0.0, str(moved))
    said = mutant.instrument.run(tree, sources)
    fates = {
        Verdict.BROKEN: Fate.CAUGHT,
        Verdict.SOUND: Fate.NOT_CAUGHT,
        Verdict.NOTHING: Fate.NO_VERDICT,
    }
    return Result(mutant, fates[said.verdict], said.seconds, said.evidence)


def _unsound(
    instruments: Sequence[Instrument], tree: Path, threads: ThreadPoolExecutor
) -> dict[Instrument, str]:
    """Return the instruments that fail by themselves, with what they say.

    All tests are run at one go: one by one only if that fails, to find out which it is.
    """
    tests = [i for i in dict.fromkeys(instruments) if i.module == "pytest"]
    others = [i for i in dict.fromkeys(instruments) if i.module != "pytest"]
    names = dict.fromkeys(name for test in tests for name in test.arguments)
    together = [Instrument("pytest", tuple(names))] if names else []
    found = _failing([*together, *others], tree, threads)
    if found.keys() & set(together):
        found = {i: said for i, said in found.items() if i not in together}
        found |= _failing(tests, tree, threads)
    return found


def _failing(
    instruments: Sequence[Instrument], tree: Path, threads: ThreadPoolExecutor
) -> dict[Instrument, str]:
    said = threads.map(lambda instrument: instrument.run(tree), instruments)
    return {
        instrument: one.evidence
        for instrument, one in zip(instruments, said, strict=True)
        if one.verdict is not Verdict.SOUND
    }
