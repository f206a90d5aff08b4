"""Make images of recorded workloads, judge them, and count.

Image ``n`` of a seed is the same in every campaign. Worker processes judge many images each. One
that dies, for instance by reading a map beyond the end of its file, loses the image at hand and no
other: a new worker goes on behind it.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash_images import recorder, recording
from tests.crash_images.recording import Recording
from tests.crash_images.subjects import SUBJECTS

ROUNDS = 150
"""Rounds of traffic in one recorded workload."""
IMAGES_PER_RECORDING = 2_000
SECONDS_PER_IMAGE_MAX = 20.0
FAST_FOLDER = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Failure:
    """One image that breaks a promise."""

    subject: str
    seed: int
    image: int
    problem: str

    def __str__(self) -> str:
        return (
            f"image {self.image} of seed {self.seed}: {self.problem}\n"
            f"    again: python -m tests.crash_images --subject {self.subject} --seed {self.seed} "
            f"--only {self.image}"
        )


@dataclass
class Report:
    """What a campaign has found."""

    images: int = 0
    recordings: int = 0
    commits: int = 0
    steps: int = 0
    seconds: float = 0.0
    """Spent on images; recording is not counted."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Images judged in a second."""
        return self.images / self.seconds if self.seconds else 0.0


Progress = Callable[[Report], None]


class Cuts:
    """Where to cut: everywhere, and more often where it matters most."""

    def __init__(self, made: Recording) -> None:
        self._last = len(made.steps)
        self._opened = next(i for i, e in enumerate(made.expected) if e.uuid is not None)
        self._flushes = [i for i, step in enumerate(made.steps) if step.flush]

    def choose(self, rng: random.Random) -> int:
        """Return after how many steps to cut for one image."""
        where = rng.random()
        if where < 0.15:
            return rng.randint(0, self._opened)  # While the store is made.
        if where < 0.4:
            return rng.choice(self._flushes) + rng.randint(0, 1)
        return rng.randint(0, self._last)


def rng_of(seed: int, image: int) -> random.Random:
    """Return the random numbers of one image."""
    return random.Random(f"crash image {seed} {image}")


def run(
    seed: int,
    images: Sequence[int],
    *,
    workers: int,
    progress: Progress = lambda _: None,
    keep: Path | None = None,
    subject: str = "store",
    sabotage: str | None = None,
) -> Report:
    """Judge images of a seed, and return what was found.

    Args:
        seed: Decides workloads and images.
        images: The numbers of the images.
        workers: How many processes judge.
        progress: Called now and then.
        keep: A folder for the images that fail.
        subject: One of ``subjects.SUBJECTS``.
        sabotage: One of ``sabotage.KINDS``, to see that it is found.

    Raises:
        NoCompiler: The recorder cannot be built.
    """
    report, kind = Report(), SUBJECTS[subject]
    fast = FAST_FOLDER if os.access(FAST_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pillion-images-", dir=fast) as name:
        folder = Path(name)
        library = recorder.build(folder)
        parts: dict[int, list[int]] = {}
        for image in images:
            parts.setdefault(image // IMAGES_PER_RECORDING, []).append(image)
        for part, numbers in parts.items():
            more = [sabotage] if sabotage else []
            log = recording.make(folder, library, kind.workload, seed + part, ROUNDS, *more)
            made = recording.load(log)
            report.recordings += 1
            report.commits += len(made.states) - 1
            report.steps += len(made.steps)
            if kind.audited:
                report.failures += [
                    Failure(subject, seed, numbers[0], text) for text in made.problems()
                ]
            _judge(report, Judging(log, subject, seed, keep), numbers, workers, progress)
            log.unlink()
    return report


def _judge(
    report: Report, judging: "Judging", numbers: list[int], workers: int, progress: Progress
) -> None:
    lock = threading.Lock()

    def tell(images: int, failure: Failure | None) -> None:
        with lock:
            report.images += images
            if failure is not None:
                report.failures.append(failure)
            progress(report)

    began = time.monotonic()
    with ThreadPoolExecutor(workers) as threads:
        shares = [numbers[i::workers] for i in range(workers)]
        for done in [threads.submit(_supervise, judging, share, tell) for share in shares if share]:
            done.result()
    report.seconds += time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Judging:
    """What workers judge."""

    log: Path
    subject: str
    seed: int
    keep: Path | None

    def command(self) -> list[str]:
        """Return the command of a worker."""
        arguments = [str(self.log), self.subject, str(self.seed), str(self.keep or "")]
        return [sys.executable, "-m", "tests.crash_images.worker", *arguments]


def _supervise(
    judging: Judging, numbers: list[int], tell: Callable[[int, Failure | None], None]
) -> None:
    """Run a worker, and another one behind each image that ends it."""
    left = set(numbers)
    while left:
        with subprocess.Popen(
            judging.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write(" ".join(map(str, sorted(left))))
            worker.stdin.close()
            at = None
            for line in worker.stdout:
                word, number, text = line.rstrip("\n").split(" ", 2)
                at = int(number)
                if word == "done":
                    left.discard(at)
                    tell(1, Failure(judging.subject, judging.seed, at, text) if text else None)
                    at = None
        if worker.returncode == 0:
            assert not left, "a worker has left images out"
            return
        ended = worker.returncode
        how = signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
        if at is None:
            raise RuntimeError(f"a worker ended with {how} beside its images")
        left.discard(at)
        tell(
            1,
            Failure(
                judging.subject, judging.seed, at, f"the process that opened it ended with {how}"
            ),
        )
