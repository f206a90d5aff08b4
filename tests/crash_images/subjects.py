"""Whose images there are: the coordinator's store and the sidecar's spool."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash_images import judge, spool_judge
from tests.crash_images.recording import Expected, Recording

Judge = Callable[[Path, Expected, Recording, random.Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One of them."""

    workload: str
    """The module that is recorded."""
    judge: Judge
    audited: bool
    """Whether what was promised is looked for in what was committed."""


SUBJECTS = {
    "store": Subject("tests.crash_images.workload", judge.judge, True),
    "spool": Subject("tests.crash_images.spool_workload", spool_judge.judge, False),
}
