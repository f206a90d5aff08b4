"""Many seeds in a row: what broke, how to repeat it, which ``sometimes`` points were reached."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.brief import brief
from tests.simulation.simulation import STEPS, Failure, run_seed
from tests.simulation.sometimes import POINTS
from tests.simulation.world import World

SHOWN = 100
"""Events printed with a failure."""
LINE = 220


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    hits: Counter[str] = Counter()
    broken: list[int] = []
    began, cpu = time.monotonic(), time.process_time()
    ran = 0
    for seed in range(options.seed, options.seed + options.seeds):
        ran += 1
        world, failure = run_seed(seed, options.steps, _echo if options.trace else None)
        hits.update(world.hits)
        if failure is not None:
            broken.append(seed)
            _say(describe(seed, options.steps, world, failure))
            if len(broken) >= options.broken_max:
                break
        if options.seeds == 1:
            _say(f"seed {seed}: trace {world.trace}, {world.now / 1e6:.1f} s simulated")
        elif (seed - options.seed) % 50 == 49:
            _say(f"... {seed - options.seed + 1} seeds, {len(broken)} broken")
    cpu = time.process_time() - cpu
    _say(
        f"{ran} seeds in {time.monotonic() - began:.1f} s, "
        f"{1000 * cpu / ran:.0f} ms of CPU each; broken: {broken or 'none'}"
    )
    never = [point for point in POINTS if not hits[point]]
    if options.seeds > 1 or options.points:
        for point, meaning in POINTS.items():
            _say(f"{hits[point]:9} {point}: {meaning}")
    if options.all_hits:
        for point, times in sorted(hits.items()):
            if point not in POINTS:
                _say(f"{times:9} ({point})")
    if never and ran >= options.demand_points:
        _say(f"never reached: {', '.join(never)}")
        return 1
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--steps", type=int, default=STEPS, help="batches submitted, about")
    parser.add_argument("--broken-max", type=int, default=10, help="stop after so many")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--points", action="store_true", help="print the points of one seed too")
    parser.add_argument("--all-hits", action="store_true", help="print whatever was counted")
    parser.add_argument(
        "--demand-points",
        type=int,
        default=500,
        help="fail on points never reached when so many seeds are run",
    )
    return parser


def describe(seed: int, steps: int, world: World, failure: Failure) -> str:
    """Return what there is to know about a failure."""
    events = [_line(*event) for event in list(world.recent)[-SHOWN:]]
    return "\n".join(
        [
            *events,
            f"BROKEN by seed {seed} at {world.now / 1e6:.6f} s: {failure.check}",
            f"  {failure.detail}",
            f"  repeat: python -m tests.simulation --seed {seed} --steps {steps} --trace",
        ]
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _echo(now: int, what: str, detail: object) -> None:
    _say(_line(now, what, detail))


def _line(now: int, what: str, detail: object) -> str:
    return f"{now / 1e6:12.6f}  {what}  {brief(detail)}"[:LINE]
