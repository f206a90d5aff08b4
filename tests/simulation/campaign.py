"""Many seeds, in one process or several: what broke, and which points were reached."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context

from tests.simulation.brief import brief
from tests.simulation.simulation import Failure, run_seed
from tests.simulation.sometimes import POINTS
from tests.simulation.world import World

SHOWN = 100
"""Events printed with a failure."""
LINE = 220
PART = 10
"""Seeds that a process runs at a time; its garbage is collected after them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken seed."""

    seed: int
    check: str
    detail: str
    repeat: str
    """The command that runs it again."""
    story: str
    """The last events before it, and all of the above, for people."""


@dataclass
class Report:
    """What seeds have come to."""

    seeds: int = 0
    cpu_seconds: float = 0.0
    simulated_seconds: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Take in what other seeds have come to."""
        self.seeds += other.seeds
        self.cpu_seconds += other.cpu_seconds
        self.simulated_seconds += other.simulated_seconds
        self.hits.update(other.hits)
        self.findings += other.findings

    def never(self) -> list[str]:
        """Return the points that were not reached."""
        return [point for point in POINTS if not self.hits[point]]


Told = Callable[[Report, Report], None]
"""Takes what there is so far, and what has just been added to it."""


def run(
    seeds: range, steps: int, *, jobs: int = 1, broken_max: int = 10, told: Told = lambda *_: None
) -> Report:
    """Run seeds, and return what they came to.

    Args:
        seeds: Which.
        steps: Batches submitted in each, about.
        jobs: In how many processes.
        broken_max: After how many broken ones to begin no more.
        told: Called after every few seeds.
    """
    report = Report()
    parts = (seeds[at : at + PART] for at in range(0, len(seeds), PART))
    done = _one_by_one(parts, steps, broken_max) if jobs == 1 else _at_once(parts, steps, jobs)
    for part in done:
        report.add(part)
        told(report, part)
        if len(report.findings) >= broken_max:
            done.close()
    return report


def _one_by_one(
    parts: Iterator[range], steps: int, broken_max: int
) -> Generator[Report, None, None]:
    for part in parts:
        yield run_part(part, steps, broken_max)


def _at_once(parts: Iterator[range], steps: int, jobs: int) -> Generator[Report, None, None]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as processes:
        running: set[Future[Report]] = set()
        while True:
            more = islice(parts, 2 * jobs - len(running))
            running |= {processes.submit(run_part, part, steps) for part in more}
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from [future.result() for future in ended]


def run_part(seeds: range, steps: int, broken_max: int = PART) -> Report:
    """Run a few seeds in this process."""
    report = Report()
    began = time.process_time()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for seed in seeds:
            world, failure = run_seed(seed, steps, traced=False)
            report.seeds += 1
            report.simulated_seconds += world.now / 1e6
            report.hits.update(world.hits)
            if failure is not None:
                report.findings.append(finding(seed, steps, world, failure))
                if len(report.findings) >= broken_max:
                    break
    finally:
        if collecting:
            gc.enable()
        gc.collect()
    report.cpu_seconds = time.process_time() - began
    return report


def finding(seed: int, steps: int, world: World, failure: Failure) -> Finding:
    """Return what there is to know about a failure."""
    repeat = f"python -m tests.simulation --seed {seed} --steps {steps} --trace"
    story = [
        *[line(*event) for event in list(world.recent)[-SHOWN:]],
        f"BROKEN by seed {seed} at {world.now / 1e6:.6f} s: {failure.check}",
        f"  {failure.detail}",
        f"  repeat: {repeat}",
    ]
    return Finding(seed, failure.check, failure.detail, repeat, "\n".join(story))


def line(now: int, what: str, detail: object) -> str:
    """Return one event as people read it."""
    return f"{now / 1e6:12.6f}  {what}  {brief(detail)}"[:LINE]
