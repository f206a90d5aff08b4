"""A recorded workload: its steps, and what must be in the store after each of them."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from protocol.messages import OutcomeKind, State
from tests.coordinator.core.audit import Audit
from tests.crash_images import log, marks, recorder
from tests.crash_images.log import DSYNC, Event, Kind

SECONDS_MAX = 120
PLACE = "state/pillion"
"""The folder that is the program's own, in the one that is watched; neither is there before."""
Pairs = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must hold of the store if the power is cut now."""

    uuid: bytes | None = None
    """None while no opening of the store has returned."""
    epoch: int = 0
    opening: bool = False
    """Whether an opening is under way, which may raise the epoch."""
    done: int = 0
    """The last commit that was done: it must be there."""
    begun: int = 0
    """The last commit that was begun: nothing after it may be there."""


class Step(NamedTuple):
    """What happens at once: an event, or the flush that it ends with."""

    event: Event
    flush: bool


def steps_of(events: Iterable[Event]) -> Iterator[Step]:
    """Yield events, each flush as a step of its own: the power may be cut before it."""
    for event in events:
        yield Step(event, False)
        if event.kind in (Kind.SYNC, Kind.SYNC_FOLDER) or event.flags & DSYNC:
            yield Step(event, True)


@dataclass
class Recording:
    """One workload, ready to be cut anywhere."""

    root: PurePosixPath
    steps: list[Step]
    expected: list[Expected] = field(default_factory=list)
    """What holds after so many steps; the first is before all."""
    states: list[Pairs] = field(default_factory=list)
    """What is in the store after each commit; the first is before all."""
    _audits: dict[int, Audit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now, state = Expected(), dict[bytes, bytes]()
        self.states.append(state)
        self.expected.append(now)
        for event, _ in self.steps:
            if event.kind is Kind.MARK:
                mark = marks.decode(event.data)
                if isinstance(mark, marks.Begins):
                    state = _after(state, mark.writes)
                    self.states.append(state)
                now = _expected_after(now, mark)
            self.expected.append(now)

    def audit(self, commit: int) -> Audit:
        """Return the audit of the store after a commit."""
        audit = self._audits.get(commit)
        if audit is None:
            audit = self._audits[commit] = Audit(self.states[commit])
        return audit

    def problems(self) -> list[str]:
        """Return what is wrong with the workload itself, even if no power is ever cut.

        What was promised must be in what was committed before: this is judged from the log alone.
        """
        found = []
        for commit in range(len(self.states)):
            found += [f"commit {commit}: {text}" for text in self.audit(commit).problems()]
        for (event, _), expected in zip(self.steps, self.expected, strict=False):
            if event.kind is Kind.MARK:
                problem = self._broken(marks.decode(event.data), expected.done)
                if problem:
                    found.append(f"commit {expected.done}: {problem}")
        return found

    def _broken(self, mark: marks.Mark, commit: int) -> str | None:
        audit = self.audit(commit)
        if isinstance(mark, marks.Accepted):
            task = audit.tasks.get(mark.id)
            if task is None:
                return f"{mark.id.hex()} was accepted and is not there"
            payload = audit.pairs.get(b"p" + mark.id) if task.payload_apart else task.payload
            if not task.state.terminal and (payload or b"") != mark.payload:
                return f"{mark.id.hex()} was accepted with another payload"
        elif isinstance(mark, marks.Recorded) and mark.kind == OutcomeKind.SUCCESS:
            task = audit.tasks.get(mark.id)
            # It may have been removed, since it ended a retention ago; what else is a loss.
            if task is not None and task.state is not State.SUCCEEDED and task.token == mark.token:
                return f"{mark.id.hex()} has a success recorded and is {task.state.name}"
        elif isinstance(mark, marks.Granted) and (mark.id, mark.token) not in audit.leases:
            return f"{mark.id.hex()} was granted and has no lease"
        return None


def _after(state: Pairs, writes: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
    after = dict(state)
    for key, value in writes.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


def _expected_after(now: Expected, mark: marks.Mark) -> Expected:
    match mark:
        case marks.Opening():
            return Expected(now.uuid, now.epoch, True, now.done, now.begun)
        case marks.Opened(uuid, epoch):
            return Expected(uuid, epoch, False, now.done, now.begun)
        case marks.Begins(number, _):
            return Expected(now.uuid, now.epoch, False, now.done, number)
        case marks.Done(number):
            return Expected(now.uuid, now.epoch, False, number, number)
        case _:
            return now


def make(folder: Path, library: Path, workload: str, seed: int, *more: object) -> Path:
    """Run a workload with the recorder in it and return the path of its log."""
    root = folder / f"recorded-{seed}"
    root.mkdir()
    path = folder / f"{seed}.log"
    arguments = [root / PLACE, root, path, seed, *more]
    subprocess.run(
        [sys.executable, "-m", workload, *map(str, arguments)],
        env=recorder.environment(library),
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=SECONDS_MAX,
    )
    return path


def load(path: Path) -> Recording:
    """Read a recorded workload."""
    root = path.with_name(f"recorded-{path.stem}").resolve()
    return Recording(PurePosixPath(os.fspath(root)), list(steps_of(log.read(path))))
