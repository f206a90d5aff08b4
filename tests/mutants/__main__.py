"""Put known bugs back, one at a time and in memory only, and see each of them caught.

    python -m tests.mutants [--list] [--only NAME ...] [--why] [--workers N]
    python -m tests.mutants --simulate SEEDS      how many of those in the cores the simulation sees

Exit codes: 0 every bug was caught, 1 some were not, 2 there is no bug of that name.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence

from tests.mutants import campaign
from tests.mutants.campaign import Fate, Result
from tests.mutants.catalogue import MUTANTS
from tests.mutants.instrument import simulation
from tests.mutants.mutant import Mutant

WORKERS = 2


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    chosen = [m for m in MUTANTS if not options.only or m.name in options.only]
    unknown = set(options.only or ()) - {m.name for m in MUTANTS}
    if unknown:
        sys.stderr.write(f"no mutant is called {', '.join(sorted(unknown))}; see --list\n")
        return 2
    if options.simulate:
        instrument = simulation(range(options.simulate))
        chosen = [dataclasses.replace(m, instrument=instrument) for m in chosen if m.in_a_core]
    if options.list:
        sys.stdout.write("".join(_description(mutant) for mutant in chosen))
        return 0
    return _run(chosen, workers=options.workers, why=options.why)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="tell what they are; run nothing")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this one; may repeat")
    parser.add_argument("--why", action="store_true", help="print what the instruments said")
    parser.add_argument(
        "--simulate",
        type=int,
        metavar="SEEDS",
        help="let so many seeds of the simulation look for them instead; it need not see all",
    )
    parser.add_argument("--workers", type=int, default=WORKERS, help="how many at a time")
    return parser


def _run(mutants: Sequence[Mutant], *, workers: int, why: bool) -> int:
    began = time.monotonic()
    done = 0

    def progress(result: Result) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {len(mutants)} \033[K")

    results = campaign.run(mutants, workers=workers, progress=progress)
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    widths = [
        max(len(str(cell)) for cell in column) for column in zip(*map(_row, results), strict=True)
    ]
    for result in results:
        cells = [str(c).ljust(w) for c, w in zip(_row(result), widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
        if why or result.fate is not Fate.CAUGHT:
            sys.stdout.write(f"    {result.evidence or 'it said nothing'}\n")
    caught = sum(result.fate is Fate.CAUGHT for result in results)
    seconds = time.monotonic() - began
    sys.stdout.write(f"{caught} of {len(results)} caught in {seconds:.0f} s\n")
    return 0 if caught == len(results) else 1


def _row(result: Result) -> tuple[str, str, str, str]:
    mutant = result.mutant
    return mutant.name, mutant.promise, str(mutant.instrument), result.fate


def _description(mutant: Mutant) -> str:
    return (
        f"{mutant.name}\n    {mutant.says}\n"
        f"    breaks: {mutant.promise}\n    caught by: {mutant.instrument}\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
