"""Run the simulation: one seed with its trace, or a campaign of many.

    python -m tests.simulation --seed S [--trace]       one seed; the same seed, the same trace hash
    python -m tests.simulation --seeds N [--seed S] [--jobs J] [--json]

Exit codes: 0 nothing was broken, 1 something was, or a campaign of many seeds did not reach every
``sometimes`` point.
"""

import argparse
import json
import sys
import time
from typing import Any

from tests.simulation import campaign
from tests.simulation.campaign import Report
from tests.simulation.simulation import STEPS, run_seed
from tests.simulation.sometimes import POINTS

PROGRESS_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    if options.seeds == 1 and not options.json:
        return _run_one(options)
    began = time.monotonic()
    report = campaign.run(
        range(options.seed, options.seed + options.seeds),
        options.steps,
        jobs=options.jobs,
        broken_max=options.broken_max,
        told=Progress(options.seeds, sys.stderr if options.json else sys.stdout),
    )
    seconds = time.monotonic() - began
    demanded = report.never() if report.seeds >= options.demand_points else []
    if options.json:
        _say(json.dumps(_figures(report, options, seconds)))
    else:
        _tell(report, seconds, all_hits=options.all_hits)
        if demanded:
            _say(f"never reached: {', '.join(demanded)}")
    return 1 if report.findings or demanded else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--steps", type=int, default=STEPS, help="batches submitted, about")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run them")
    parser.add_argument("--json", action="store_true", help="print figures as JSON at the end")
    parser.add_argument("--broken-max", type=int, default=10, help="stop after so many")
    parser.add_argument("--trace", action="store_true", help="print every event of one seed")
    parser.add_argument("--all-hits", action="store_true", help="print whatever was counted")
    parser.add_argument(
        "--demand-points",
        type=int,
        default=500,
        help="fail on points never reached when so many seeds are run",
    )
    return parser


def _run_one(options: argparse.Namespace) -> int:
    echo = (lambda *event: _say(campaign.line(*event))) if options.trace else None
    world, failure = run_seed(options.seed, options.steps, echo)
    if failure is not None:
        _say(campaign.finding(options.seed, options.steps, world, failure).story)
    _say(f"seed {options.seed}: trace {world.trace}, {world.now / 1e6:.1f} s simulated")
    if options.all_hits:
        _tell_points(Report(hits=world.hits), all_hits=True)
    return 0 if failure is None else 1


class Progress:
    """Prints what breaks at once, and now and then how far it is.

    Args:
        seeds: How many there will be.
        out: Where to print.
    """

    def __init__(self, seeds: int, out: Any) -> None:
        self._seeds = seeds
        self._out = out
        self._began = self._told = time.monotonic()

    def __call__(self, report: Report, added: Report) -> None:
        """Take what has been added."""
        for finding in added.findings:
            self._out.write(finding.story + "\n")
        now = time.monotonic()
        if now - self._told > PROGRESS_SECONDS:
            self._told = now
            rate = report.seeds / (now - self._began)
            left = (self._seeds - report.seeds) / rate
            self._out.write(
                f"... {report.seeds} of {self._seeds} seeds, {rate:.1f} a second, "
                f"{left / 60:.0f} min {left % 60:.0f} s left, {len(report.findings)} broken\n"
            )
        self._out.flush()


def _tell(report: Report, seconds: float, *, all_hits: bool) -> None:
    _tell_points(report, all_hits=all_hits)
    _say(
        f"{report.seeds} seeds in {seconds:.1f} s ({report.seeds / seconds:.1f} a second, "
        f"{1000 * report.cpu_seconds / report.seeds:.0f} ms of CPU each), "
        f"{report.simulated_seconds / 3600:.1f} h simulated"
    )
    _say(f"broken: {len(report.findings) or 'none'}")
    for finding in report.findings:
        _say(f"  {finding.check}: {finding.repeat}")


def _tell_points(report: Report, *, all_hits: bool) -> None:
    for point, meaning in POINTS.items():
        _say(f"{report.hits[point]:9} {point}: {meaning}")
    if all_hits:
        for point, times in sorted(report.hits.items()):
            if point not in POINTS:
                _say(f"{times:9} ({point})")


def _figures(report: Report, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    return {
        "seed": options.seed,
        "seeds": report.seeds,
        "steps": options.steps,
        "seconds": round(seconds, 1),
        "cpu_ms_per_seed": round(1000 * report.cpu_seconds / report.seeds),
        "simulated_hours": round(report.simulated_seconds / 3600, 2),
        "broken": [
            {"seed": f.seed, "check": f.check, "detail": f.detail, "repeat": f.repeat}
            for f in report.findings
        ],
        "never_reached": report.never(),
        "points": {point: report.hits[point] for point in POINTS},
    }


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
