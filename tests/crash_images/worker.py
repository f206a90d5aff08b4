"""Judge images; started by ``campaign``, which reads what is told here.

    python -m tests.crash_images.worker LOG SUBJECT SEED FOLDER_FOR_FAILURES < numbers

Each image is told twice, ``begin N`` and ``done N problem``, so that the one that ends this process
is known.
"""

import asyncio
import faulthandler
import gc
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path

import uvloop

from coordinator.store.switching import set_switch_interval
from tests.crash_images import recording
from tests.crash_images.campaign import SECONDS_PER_IMAGE_MAX, Cuts, rng_of
from tests.crash_images.disk import Disk, Image
from tests.crash_images.recording import PLACE, Recording
from tests.crash_images.subjects import SUBJECTS, Judge
from tests.crash_images.wrong import Wrong


async def work(
    log: Path, judge: Judge, seed: int, numbers: Sequence[int], keep: Path | None
) -> None:
    """Judge the images of some numbers."""
    made = recording.load(log)
    with tempfile.TemporaryDirectory(prefix="image-", dir=log.parent) as name:
        folder = Path(name) / "disk"
        for number, image, cut, rng in images(made, seed, numbers):
            tell(f"begin {number} ")
            write(image, folder)
            problem = await _problem(judge(folder / PLACE, made.expected[cut], made, rng))
            if problem and keep is not None:
                shutil.rmtree(keep / str(number), ignore_errors=True)
                write(image, keep / str(number))
            shutil.rmtree(folder)
            tell(f"done {number} {f'after step {cut}: {problem}' if problem else ''}")


def images(
    made: Recording, seed: int, numbers: Sequence[int]
) -> Iterator[tuple[int, Image, int, random.Random]]:
    """Yield number, image, cut and what is left of the random numbers; in the order of the cuts."""
    cuts = Cuts(made)
    chosen = []
    for number in numbers:
        rng = rng_of(seed, number)
        chosen.append((cuts.choose(rng), number, rng))
    disk, applied = Disk(made.root), 0
    for cut, number, rng in sorted(chosen, key=lambda each: each[:2]):
        for step in made.steps[applied:cut]:
            disk.apply(step)
        applied = cut
        yield number, disk.image(rng), cut, rng


def write(image: Image, folder: Path) -> None:
    """Lay an image into a new folder."""
    folder.mkdir(parents=True)
    for path, data in image.items():
        if data is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(data)


async def _problem(judging: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(SECONDS_PER_IMAGE_MAX):
            await judging
    except Wrong as wrong:
        return str(wrong).replace("\n", " ")
    except Exception as error:  # Whatever it is, it is a finding, and the next image goes on.
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    return ""


def tell(line: str) -> None:
    """Tell the campaign."""
    os.write(1, line.encode() + b"\n")


def main(arguments: list[str]) -> None:
    """Run."""
    faulthandler.enable(all_threads=False)
    log, subject, seed, keep = arguments
    numbers = [int(number) for number in sys.stdin.read().split()]
    set_switch_interval()
    gc.freeze()
    uvloop.run(
        work(Path(log), SUBJECTS[subject].judge, int(seed), numbers, Path(keep) if keep else None)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
