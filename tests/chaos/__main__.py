"""Break real processes, disks and frames for as long as one likes, and tell what was survived.

    python -m tests.chaos [--kills N] [--pauses N] [--links N] [--images N] [--frames N]
                          [--outage SECONDS] [--only PART ...] [--list] [--json]

Exit codes: 0 everything was survived, 1 something was not, 2 there is no part of that name.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.parts import Asked, Done, Part, command_of, parts, read_json, read_tests
from tests.chaos.parts import read_trials as so_far
from tests.robustness.rounds import TRIALS

ROOT = Path(__file__).resolve().parents[2]
PROGRESS_SECONDS = 15.0
SAID_CHARS_MAX = 20_000


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    every = parts(
        Asked(
            kills=options.kills,
            pauses=options.pauses,
            links=options.links,
            images=options.images,
            frames=options.frames,
            outage_seconds=options.outage,
            seed=options.seed,
            workers=options.workers,
        )
    )
    unknown = set(options.only or ()) - {part.name for part in every}
    if unknown:
        sys.stderr.write(f"no part is called {', '.join(sorted(unknown))}; see --list\n")
        return 2
    chosen = [p for p in every if p.asked and (not options.only or p.name in options.only)]
    if options.list:
        for part in chosen:
            sys.stdout.write(f"{part.name}: {part.says}, {part.asked}\n    {part.again}\n")
        return 0
    results = []
    for number, part in enumerate(chosen, 1):
        sys.stderr.write(f"[{number}/{len(chosen)}] {part.name}: {part.says}, {part.asked}\n")
        results.append(run(part))
    if options.json:
        sys.stdout.write(json.dumps([_figures(result) for result in results]) + "\n")
    else:
        sys.stdout.write(_table(results))
    return 0 if all(result.clean for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=1_000, help="of real processes")
    parser.add_argument("--pauses", type=int, default=100, help="of real processes")
    parser.add_argument("--links", type=int, default=100, help="cuts and blocks of real links")
    parser.add_argument("--images", type=int, default=50_000, help="of the store, and of the spool")
    parser.add_argument("--frames", type=int, default=10_000_000, help="mutated ones")
    parser.add_argument("--outage", type=int, default=60, help="seconds without a coordinator")
    parser.add_argument("--seed", type=int, default=1, help="of images and frames")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", metavar="PART", help="only this; may repeat")
    parser.add_argument("--list", action="store_true", help="tell what would be done")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    return parser


def run(part: Part) -> Done:
    """Do one part, and tell now and then how far it is."""
    done = Done(part)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pillion-chaos-") as name:
        report, trials, output = (Path(name) / file for file in ("report.xml", "trials", "output"))
        environment = {**os.environ, **part.environment, TRIALS: os.fspath(trials)}
        with (
            output.open("w") as out,
            subprocess.Popen(
                command_of(part, report),
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=out if part.is_pytest else None,
            ) as process,
        ):
            _wait(process, part, trials, began)
        text = output.read_text(errors="replace")
        if part.is_pytest:
            read_tests(done, report, trials)
        else:
            read_json(done, text)
    done.failed = max(done.failed, int(process.returncode != 0))
    done.seconds = time.monotonic() - began
    if done.failed:
        done.said = text[-SAID_CHARS_MAX:]
        sys.stderr.write(f"{done.said}\nagain: {part.again}\n")
    return done


def _wait(process: subprocess.Popen[bytes], part: Part, trials: Path, began: float) -> None:
    while True:
        try:
            process.wait(PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            breaks = so_far(trials)["breaks"]
            if breaks:
                spent = time.monotonic() - began
                left = max(0.0, spent / breaks * (part.asked - breaks))
                sys.stderr.write(
                    f"... {breaks} of {part.asked} {part.name}, "
                    f"{left // 60:.0f} min {left % 60:.0f} s left\n"
                )
        else:
            return


def _figures(result: Done) -> dict[str, object]:
    return {
        "part": result.part.name,
        "asked": result.part.asked,
        "done": result.done,
        "failed": result.failed,
        "seconds": round(result.seconds, 1),
        **result.facts,
        "again": result.part.again,
    }


def _table(results: Sequence[Done]) -> str:
    rows = [("part", "done", "failed", "minutes", "beside")]
    for result in results:
        beside = ", ".join(f"{count} {name}" for name, count in result.facts.items())
        rows.append(
            (
                f"{result.part.name}: {result.part.says}",
                str(result.done),
                str(result.failed),
                f"{result.seconds / 60:.1f}",
                beside,
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    again = [f"again: {result.part.again}" for result in results if not result.clean]
    return "\n".join([*lines, *again]) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
