"""What must see a bug: a test, a range of seeds, a set of crash images; run in a fresh process."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutants.startup.sitecustomize import VARIABLE

STARTUP = Path("tests/mutants/startup")
_EVIDENCE = re.compile(r"^(?:E\s{2,}(?=\S)|BROKEN by |image )(.*)", re.MULTILINE)


class Verdict(StrEnum):
    """What an instrument says of the product."""

    SOUND = "sound"
    BROKEN = "broken"
    NOTHING = "nothing"
    """It did not come to a verdict: it could not be run, or took too long."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of running an instrument once."""

    verdict: Verdict
    seconds: float
    evidence: str
    """The first line that tells what is wrong; the end of all output where there is no verdict."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A command that exits with 0 if the product is sound and with 1 if it is broken."""

    module: str
    arguments: tuple[str, ...]
    seconds_max: int = 120

    def __str__(self) -> str:
        if self.module == "pytest":
            return " ".join(self.arguments).removeprefix("tests/")
        return f"{self.module.removeprefix('tests.')} {' '.join(self.arguments)}"

    def run(self, tree: Path, sources: Mapping[str, str] | None = None) -> Said:
        """Run it on a tree, with other text for some modules in all of its processes."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="pillion-mutant-") as folder:
            process = subprocess.Popen(
                self._command(),
                cwd=tree,
                env=_environment(tree, sources or {}, folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            try:
                output, _ = process.communicate(timeout=self.seconds_max)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                output += f"\nno end within {self.seconds_max} s"
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        verdict = {0: Verdict.SOUND, 1: Verdict.BROKEN}.get(process.returncode, Verdict.NOTHING)
        return Said(verdict, time.monotonic() - began, _evidence(verdict, output))

    def _command(self) -> list[str]:
        quiet = ("--tb=short", "-x", "-p", "no:cacheprovider") if self.module == "pytest" else ()
        return [sys.executable, "-m", self.module, *quiet, *self.arguments]


def _environment(tree: Path, sources: Mapping[str, str], folder: str) -> dict[str, str]:
    environment = dict(os.environ)
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = folder  # What it finds here is no example.
    if sources:
        environment["PYTHONPATH"] = os.fspath(tree / STARTUP)
        environment[VARIABLE] = json.dumps(sources)
    return environment


def _evidence(verdict: Verdict, output: str) -> str:
    if verdict is Verdict.NOTHING:
        return output[-2_000:]
    found = _EVIDENCE.search(output)
    return found.group(1).strip() if found else ""


def a_test(*names: str) -> Instrument:
    """Return a test, or a few, by pytest names below ``tests/``."""
    return Instrument("pytest", tuple(f"tests/{name}" for name in names))


def simulation(seeds: range) -> Instrument:
    """Return a range of seeds of the simulation; the first broken one is enough."""
    limits = ("--seed", str(seeds.start), "--seeds", str(len(seeds)), "--broken-max", "1")
    return Instrument("tests.simulation", limits, seconds_max=120 + 5 * len(seeds))


def crash_images(count: int, *, subject: str) -> Instrument:
    """Return a number of crash images of the coordinator's store or the sidecar's spool."""
    arguments = ("--subject", subject, "--images", str(count), "--workers", "1")
    return Instrument("tests.crash_images", arguments)
