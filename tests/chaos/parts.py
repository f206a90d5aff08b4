"""What a campaign consists of: a command for each kind of damage, and how to read what it did."""

import json
import math
import os
import sys
import xml.etree.ElementTree as Xml
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.rounds import KILLS_PER_ROUND, LINKS_PER_ROUND, PAUSES_PER_ROUND


@dataclass(frozen=True, slots=True)
class Asked:
    """How much of each kind is to be done."""

    kills: int
    pauses: int
    links: int
    images: int
    """Of the store, and as many of the spool."""
    frames: int
    outage_seconds: int
    seed: int
    workers: int


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of damage."""

    name: str
    says: str
    asked: int
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def is_pytest(self) -> bool:
        """Whether it is a set of tests; otherwise a command that prints JSON."""
        return self.command[0] == "pytest"

    @property
    def again(self) -> str:
        """The command that does it again."""
        variables = "".join(f"{name}={value} " for name, value in self.environment.items())
        return f"{variables}python -m {' '.join(self.command)}"


@dataclass(slots=True)
class Done:
    """What came of a part."""

    part: Part
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    facts: dict[str, int] = field(default_factory=dict)
    said: str = ""
    """What it printed, if it failed."""

    @property
    def clean(self) -> bool:
        """Whether all was done and nothing failed."""
        return not self.failed and self.done >= self.part.asked


def parts(asked: Asked) -> list[Part]:
    """Return all parts."""
    rounds = {
        "KILL": math.ceil(asked.kills / KILLS_PER_ROUND),
        "PAUSE": math.ceil(asked.pauses / PAUSES_PER_ROUND),
        "LINK": math.ceil(asked.links / LINKS_PER_ROUND),
    }
    return [
        _of_tests("kills", "kill -9 under load", asked.kills, "robustness/test_kills.py", rounds),
        _of_tests(
            "pauses", "SIGSTOP under load", asked.pauses, "robustness/test_pauses.py", rounds
        ),
        _of_tests(
            "links", "links cut or blocked one way", asked.links, "robustness/test_links.py", rounds
        ),
        Part(
            "outages",
            f"the coordinator away for {asked.outage_seconds} s",
            1,
            ("pytest", "tests/scenarios/test_outage.py", "--timeout", "900"),
            {"PILLION_OUTAGE_SECONDS": str(asked.outage_seconds)},
        ),
        Part(
            "faults",
            "each call of the disk fails, full or broken",
            1,
            ("pytest", "tests/coordinator/test_fault_loop.py", "--timeout", "900"),
            {"PILLION_FAULTS": "all"},
        ),
        Part("full", "a store that is full", 1, ("pytest", "tests/scenarios/test_store_full.py")),
        _of_images("store", asked),
        _of_images("spool", asked),
        Part(
            "frames",
            "mutated frames",
            asked.frames,
            (
                *("tests.fuzz", "--frames", str(asked.frames), "--seed", str(asked.seed)),
                *("--workers", str(asked.workers), "--json"),
            ),
        ),
    ]


def _of_tests(name: str, says: str, asked: int, file: str, rounds: dict[str, int]) -> Part:
    variable = name.removesuffix("s").upper()
    environment = {f"PILLION_{variable}_ROUNDS": str(rounds[variable])}
    return Part(name, says, asked, ("pytest", f"tests/{file}"), environment)


def _of_images(subject: str, asked: Asked) -> Part:
    return Part(
        f"{subject} images",
        f"power cut from the {subject}",
        asked.images,
        (
            *("tests.crash_images", "--subject", subject, "--images", str(asked.images)),
            *("--seed", str(asked.seed), "--workers", str(asked.workers), "--json"),
        ),
    )


# --- What it did ---------------------------------------------------------------------------------


def read_json(done: Done, output: str) -> None:
    """Take the figures that a command has printed in its last line."""
    try:
        figures = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        done.failed += 1
        return
    done.done = int(figures.get("images", figures.get("frames", 0)))
    failed = figures.get("failed", figures.get("findings", 0))
    done.failed = failed if isinstance(failed, int) else len(failed)


def read_tests(done: Done, report: Path, trials: Path) -> None:
    """Take what tests came to, and what they broke meanwhile if they say so."""
    if not report.exists():
        done.failed += 1
        return
    cases = list(Xml.parse(report).getroot().iter("testcase"))
    bad = [case for case in cases if any(child.tag in ("failure", "error") for child in case)]
    skipped = sum(any(child.tag == "skipped" for child in case) for case in cases)
    done.failed += len(bad)
    done.facts = {"tests": len(cases) - skipped}
    told = read_trials(trials)
    done.facts |= {name: told[name] for name in ("accepted", "attempts") if told[name]}
    done.done = told["breaks"] if told["breaks"] else len(cases) - skipped - len(bad)


def read_trials(trials: Path) -> Counter[str]:
    """Return the sums of what trials under load have written down."""
    total: Counter[str] = Counter()
    if trials.exists():
        for line in trials.read_text().splitlines():
            total.update(json.loads(line))
    return total


def command_of(part: Part, report: Path) -> list[str]:
    """Return what to run."""
    module, *arguments = part.command
    more: Sequence[str] = ()
    if part.is_pytest:
        more = ("-p", "no:cacheprovider", "--tb=short", f"--junitxml={os.fspath(report)}")
    return [sys.executable, "-m", module, *arguments, *more]
