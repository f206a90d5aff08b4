"""The files that the handlers wrote are what they should be, computed here in another way."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat

from examples.demo import places
from examples.demo.plan import Case
from examples.demo.services.reports import CELL, SHEET_COLUMNS

COLOUR_DIFFERENCE_MAX = 6
"""Of the mean colour, in steps of 256: shrinking leaves it nearly as it was."""


def wrong_files(folder: Path, cases: Sequence[Case], handler: str) -> list[str]:
    """Return what is wrong with the files and results of one handler's tasks."""
    check = CHECKS[handler]
    wrong = []
    for case in cases:
        if case.handler == handler and case.status is not None and case.ends == "succeeded":
            try:
                problem = check(folder, case.status.result, **case.about)
            except OSError as error:
                problem = str(error)
            if problem:
                wrong.append(f"{handler} {case.id}: {problem}")
    return wrong


def _thumbnail(folder: Path, result: Any, *, picture: str, size: int) -> str:
    with Image.open(folder / places.picture(picture)) as image:
        width, height = image.size
        colour = _mean(image)
    with Image.open(folder / places.thumbnail(picture, size)) as made:
        scale = size / max(width, height)
        is_fit = max(made.size) == size and all(
            abs(is_ - was * scale) <= 1 for is_, was in zip(made.size, (width, height), strict=True)
        )
        differs = max(abs(a - b) for a, b in zip(_mean(made), colour, strict=True))
        if not is_fit or result != list(made.size):
            return f"{made.size} of {(width, height)}, told as {result}"
    return f"another colour than {picture}" if differs > COLOUR_DIFFERENCE_MAX else ""


def _checksum(folder: Path, result: Any, *, picture: str, algorithm: str) -> str:
    wanted = _digest(folder, picture, algorithm)
    written = (folder / places.checksum(picture, algorithm)).read_text()
    return "" if result == written == wanted else f"{algorithm} of {picture} is not {wanted}"


def _caption(folder: Path, result: Any, *, picture: str) -> str:
    with Image.open(folder / places.picture(picture)) as image:
        wanted = f"{picture}, {image.width} x {image.height}, mean #"
    written = (folder / places.caption(picture)).read_text()
    return "" if result == written and written.startswith(wanted) else f"caption {written!r}"


def _sheet(folder: Path, result: Any, *, album: str, count: int) -> str:
    wanted = [SHEET_COLUMNS * CELL, -(-count // SHEET_COLUMNS) * CELL]
    with Image.open(folder / places.sheet(album)) as made:
        made.load()
        return "" if result == list(made.size) == wanted else f"{made.size} is not {wanted}"


def _index(folder: Path, result: Any, *, album: str, algorithm: str, pictures: list[str]) -> str:
    wanted = [f"{_digest(folder, name, algorithm)}  {name}" for name in pictures]
    written = (folder / places.index(album, algorithm)).read_text().splitlines()
    is_right = written == wanted and result == len(wanted)
    return "" if is_right else f"the index {algorithm} of {album} is another"


CHECKS: dict[str, Callable[..., str]] = {
    "images.thumbnail": _thumbnail,
    "images.checksum": _checksum,
    "reports.caption": _caption,
    "reports.sheet": _sheet,
    "reports.index": _index,
}


def _mean(image: Image.Image) -> list[float]:
    return ImageStat.Stat(image.convert("RGB")).mean


def _digest(folder: Path, picture: str, algorithm: str) -> str:
    data = (folder / places.picture(picture)).read_bytes()
    return hashlib.new(algorithm, data).hexdigest()
