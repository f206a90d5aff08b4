"""Read what the handlers wrote down about their attempts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo import places


@dataclass(slots=True)
class Attempt:
    """One attempt, as its handler wrote it down."""

    process: str
    pid: int
    task: str
    handler: str
    token: int
    delivery: int
    began_ns: int
    began_wall_ms: int
    ended_ns: int | None = None
    outcome: str = ""


class Reader:
    """Reads all journals of a studio, again and again, each line once.

    Attributes:
        attempts: All attempts, in the order in which they were read.
        running: Those without an end, by task and token.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / places.JOURNAL
        self._offsets: dict[Path, int] = {}
        self.attempts: list[Attempt] = []
        self.running: dict[tuple[str, int], Attempt] = {}

    def read(self) -> None:
        """Take in what was written since the last call."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                lines = file.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):  # The last one may be in the middle of being written.
                    self._offsets[path] = self._offsets.get(path, 0) + len(line)
                    self._take(path.stem, json.loads(line))

    def killed(self, pid: int, at_ns: int) -> int:
        """Note that a process was killed: what ran in it ended then. Return how much ran."""
        self.read()
        ended = [key for key, attempt in self.running.items() if attempt.pid == pid]
        for key in ended:
            attempt = self.running.pop(key)
            attempt.ended_ns, attempt.outcome = at_ns, "killed"
        return len(ended)

    def count(self, outcome: str) -> int:
        """Return how many attempts have ended so."""
        return sum(attempt.outcome == outcome for attempt in self.attempts)

    def running_in(self, process: str) -> int:
        """Return how many attempts run in a process, or in those whose names begin so."""
        return sum(attempt.process.startswith(process) for attempt in self.running.values())

    def _take(self, process: str, entry: dict[str, Any]) -> None:
        key = (entry["task"], entry["token"])
        if "outcome" in entry:
            ended = self.running.pop(key)
            ended.ended_ns, ended.outcome = entry["at_ns"], entry["outcome"]
            return
        begun = Attempt(
            process,
            entry["pid"],
            entry["task"],
            entry["handler"],
            entry["token"],
            entry["delivery"],
            entry["at_ns"],
            entry["wall_ms"],
        )
        self.attempts.append(begun)
        self.running[key] = begun
