"""Everything that the demo will submit, and what should become of each task."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from examples.demo.pictures import ALBUMS, Picture
from examples.demo.services.images import checksum, thumbnail
from examples.demo.services.reports import CELL, caption, index, publish, sheet
from sidecar import NewTask, Options, TaskStatus

THUMBNAIL_SIZES = (64, CELL, 192, 256)
ALGORITHMS: tuple[Literal["sha256"], Literal["blake2b"]] = ("sha256", "blake2b")
PRIORITIES = ("critical", "high", "normal", "low")
SHARE_DELAYED = 0.3
DELAY_S_MAX = 6.0
PUBLISH_ATTEMPTS = 3
LATE_ALBUM = ALBUMS[-1]
"""Its tasks are submitted one by one, while processes are being killed."""


@dataclass(slots=True)
class Case:
    """One task: what is submitted, what should come of it, and what did.

    Attributes:
        task: What is submitted.
        about: What the handler was asked for, for the checks.
        ends: The state it should end in.
        why: What its error should say.
        late: Whether it is submitted later, in the middle of the story.
        id: Given once the coordinator has accepted it.
        submitted_ms: When the demo began to submit it, by the wall clock.
        status: As the coordinator told it at the end; None if it did not end.
        trouble: Why it has no id or no status.
    """

    task: NewTask
    about: dict[str, object]
    ends: str = "succeeded"
    why: str = ""
    late: bool = False
    id: str = ""
    submitted_ms: int = 0
    status: TaskStatus | None = None
    trouble: str = ""

    @property
    def handler(self) -> str:
        """The handler's full name."""
        return self.task.handler


def plan(pictures: list[Picture], dead_port: int, seed: int) -> list[Case]:
    """Return all tasks in the order in which they will be submitted.

    Args:
        pictures: What the studio has.
        dead_port: A port at which nobody listens.
        seed: Decides delays and priorities.
    """
    random = Random(seed)
    cases = [*_of_pictures(pictures, random), *_of_albums(pictures, dead_port)]
    for number in range(1, 4):
        printing = NewTask(handler="reports.print", payload={"copy": number}, expires="2s")
        cases.append(Case(printing, {}, ends="expired"))
    random.shuffle(cases)
    return cases


def _of_pictures(pictures: list[Picture], random: Random) -> Iterator[Case]:
    for picture in pictures:
        name, late = picture.name, picture.album == LATE_ALBUM
        ends, why = "succeeded", ""
        if picture.why_broken:
            ends, why = "dead", f"Fatal: {picture.why_broken}"
        for size in THUMBNAIL_SIZES:
            task = thumbnail.options(**_options(picture, random)).task(name, size)
            yield Case(task, {"picture": name, "size": size}, ends, why, late)
        for algorithm in ALGORITHMS:
            task = checksum.options(**_options(picture, random)).task(name, algorithm)
            yield Case(task, {"picture": name, "algorithm": algorithm}, late=late)
        task = caption.options(**_options(picture, random)).task(name)
        yield Case(task, {"picture": name}, ends, why, late)


def _of_albums(pictures: list[Picture], dead_port: int) -> Iterator[Case]:
    for album in ALBUMS:
        names = [p.name for p in pictures if p.album == album]
        good = [p.name for p in pictures if p.album == album and not p.why_broken]
        about: dict[str, object] = {"album": album}
        label = Options(collection=album)
        yield Case(sheet.options(**label).task(album, good), {**about, "count": len(good)})
        for algorithm in ALGORITHMS:
            task = index.options(**label).task(album, algorithm, names)
            yield Case(task, {**about, "algorithm": algorithm, "pictures": names})
        refused = f"{PUBLISH_ATTEMPTS} attempts used up; last: ConnectionRefusedError"
        yield Case(publish.options(**label).task(album, dead_port), about, "dead", refused)


def _options(picture: Picture, random: Random) -> Options:
    options = Options(collection=picture.album, priority=random.choice(PRIORITIES))
    if random.random() < SHARE_DELAYED:
        options["delay"] = round(random.uniform(0.2, DELAY_S_MAX), 1)
    return options
