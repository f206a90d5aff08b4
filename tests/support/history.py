"""What happened to tasks, written down by everyone who saw some of it, and put together afterwards.

Each process appends lines to a file of its own: handlers write when an attempt began and ended,
the submitter what it submitted, what it was told and how each task ended, and whoever breaks
things what was broken. A line is one ``write`` to a file opened with ``O_APPEND``, so that a
``kill -9`` loses nothing that was written before it. All use one clock, ``CLOCK_BOOTTIME``.

``tests.support.checker`` judges the result; nothing here does.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCEPTED = "accepted"
UNKNOWN = "unknown"
"""The verdict of a submit that was not answered: it may or may not have been accepted."""
TERMINAL = frozenset({"succeeded", "dead", "expired", "cancelled", "dropped"})


def now_ns() -> int:
    """Read the clock of all events."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Recorder:
    """Appends what one process sees.

    Args:
        folder: Where all files of one history lie.
        writer: Names the process; for a service's process that may be killed, as in ``killed``.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self._writer = writer
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(folder / f"{writer}.jsonl", flags, 0o600)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _note(self, event: str, at: int | None = None, **fields: Any) -> None:
        line = {"event": event, "at": now_ns() if at is None else at, **fields}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    # By handlers

    def began(
        self, task: str, token: int, *, attempt: int, attempts_max: int, crc: int, sidecar: str
    ) -> None:
        """Note as a handler's first act that an attempt runs; ``crc`` is its payload's."""
        self._note(
            "began",
            task=task,
            token=token,
            attempt=attempt,
            attempts_max=attempts_max,
            crc=crc,
            sidecar=sidecar,
            process=self._writer,
        )

    def ended(self, task: str, token: int, how: str, result: Any = None) -> None:
        """Note as a handler's last act how it ends: ``success``, or the name of what it raises."""
        self._note("ended", task=task, token=token, how=how, result=result)

    # By the submitter

    def called(self, task: str, *, handler: str, crc: int) -> None:
        """Note that a task is about to be submitted; ``crc`` is its payload's."""
        self._note("called", task=task, handler=handler, crc=crc)

    def verdict(self, task: str, verdict: str) -> None:
        """Note what the submit came to: ``ACCEPTED``, ``UNKNOWN``, or an error's code."""
        self._note("verdict", task=task, verdict=verdict)

    def seen(
        self,
        task: str,
        *,
        state: str,
        attempts: int,
        attempts_max: int,
        result: Any = None,
        error: str = "",
    ) -> None:
        """Note how a task was said to stand."""
        self._note(
            "seen",
            task=task,
            state=state,
            attempts=attempts,
            attempts_max=attempts_max,
            result=result,
            error=error,
        )

    # By whoever breaks things

    def killed(self, process: str) -> None:
        """Note, right before it is sent, a ``kill -9`` for a service's process."""
        self._note("killed", process=process)

    def cut(self, sidecar: str) -> None:
        """Note, right before it is sent, a signal that kills or stops a sidecar."""
        self._note("cut", sidecar=sidecar)

    def mended(self, sidecar: str) -> None:
        """Note, right before it happens, that a sidecar is started again or goes on."""
        self._note("mended", sidecar=sidecar)


@dataclass(slots=True)
class Attempt:
    """One run of a handler."""

    token: int
    attempt: int
    attempts_max: int
    crc: int
    sidecar: str
    process: str
    began_ns: int
    ended_ns: int | None = None
    how: str | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Seen:
    """How a task was said to stand at some time."""

    at_ns: int
    state: str
    attempts: int
    attempts_max: int
    result: Any = None
    error: str = ""


@dataclass(slots=True)
class TaskHistory:
    """All that is known of one task."""

    id: str
    handler: str = ""
    called_ns: int | None = None
    crc: int | None = None
    verdicts: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    """In the order in which they began."""
    seen: list[Seen] = field(default_factory=list)
    """Terminal states only, in the order of time."""

    @property
    def accepted(self) -> bool:
        """Whether the submitter was told so."""
        return ACCEPTED in self.verdicts


@dataclass(slots=True)
class Cut:
    """A time in which a sidecar did not run."""

    sidecar: str
    from_ns: int
    until_ns: int | None = None


@dataclass(slots=True)
class History:
    """What happened, from all files together."""

    tasks: dict[str, TaskHistory] = field(default_factory=dict)
    killed_ns: dict[str, int] = field(default_factory=dict)
    """When each service's process that was killed was sent the signal."""
    cuts: list[Cut] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many tasks were accepted."""
        return sum(task.accepted for task in self.tasks.values())

    @property
    def attempts(self) -> int:
        """How many attempts began."""
        return sum(len(task.attempts) for task in self.tasks.values())


def read(folder: Path) -> History:
    """Return the history in all files of a folder."""
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.jsonl")):
        *complete, _ = path.read_bytes().split(b"\n")  # What a kill cut short is no event.
        lines += [json.loads(line) for line in complete]
    history = History()
    for line in sorted(lines, key=lambda line: int(line["at"])):
        _apply(history, line)
    return history


def _apply(history: History, line: dict[str, Any]) -> None:
    event, at_ns = line.pop("event"), line.pop("at")
    match event:
        case "killed":
            history.killed_ns[line["process"]] = at_ns
        case "cut":
            history.cuts.append(Cut(line["sidecar"], at_ns))
        case "mended":
            open_cuts = [c for c in history.cuts if c.sidecar == line["sidecar"]]
            open_cuts[-1].until_ns = at_ns
        case _:
            task_id = line.pop("task")
            task = history.tasks.setdefault(task_id, TaskHistory(task_id))
            _apply_to_task(task, event, at_ns, line)


def _apply_to_task(task: TaskHistory, event: str, at_ns: int, line: dict[str, Any]) -> None:
    match event:
        case "called":
            if task.called_ns is None:
                task.called_ns = at_ns
            task.handler, task.crc = line["handler"], line["crc"]
        case "verdict":
            task.verdicts.append(line["verdict"])
        case "began":
            task.attempts.append(Attempt(**line, began_ns=at_ns))
        case "ended":
            # The latest of this token that has not ended: a second run of one token is a finding
            # of the checker's, and must not hide here.
            open_ones = [
                a for a in task.attempts if a.token == line["token"] and a.ended_ns is None
            ]
            open_ones[-1].ended_ns = at_ns
            open_ones[-1].how, open_ones[-1].result = line["how"], line["result"]
        case "seen":
            if line["state"] in TERMINAL:
                task.seen.append(Seen(at_ns, **line))
        case _:
            raise AssertionError(f"no event is called {event!r}")
