"""Tell who watches what is going on: one live line on a terminal, plain lines elsewhere."""

import logging
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence

from examples.demo.evidence import Reader
from examples.demo.plan import Case

PLAIN_EVERY_S = 2.0
BAR_CHARS = 16
COLUMNS_MAX = 100


class Progress:
    """The progress of all tasks.

    Args:
        cases: All tasks, submitted or not.
        evidence: What the handlers wrote down.
    """

    def __init__(self, cases: Sequence[Case], evidence: Reader) -> None:
        self._cases = cases
        self._evidence = evidence
        self._is_live = sys.stdout.isatty()
        self._drawn = ""
        self._told_at = 0.0
        self._began = time.monotonic()
        logging.getLogger("pillion").addHandler(_Said(self))

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return sum(case.status is not None for case in self._cases)

    @property
    def share(self) -> float:
        """The share of all tasks that has ended."""
        return self.ended / max(1, len(self._cases))

    def say(self, text: str) -> None:
        """Tell of an event, above the live line."""
        self._erase()
        head = f"{time.monotonic() - self._began:5.1f} s  "
        lines = textwrap.wrap(text, COLUMNS_MAX - len(head))
        print(head + f"\n{' ' * len(head)}".join(lines), flush=True)

    def draw(self) -> None:
        """Show the figures as they are now."""
        now = time.monotonic()
        if not any(case.id for case in self._cases):
            return
        if self._is_live:
            line = self._line()[: shutil.get_terminal_size().columns - 1]
            if line != self._drawn:
                sys.stdout.write(f"\r\x1b[K{line}")
                sys.stdout.flush()
                self._drawn = line
        elif now - self._told_at >= PLAIN_EVERY_S:
            self._told_at = now
            self.say(self._line())

    def finish(self) -> None:
        """Take the live line away."""
        self._erase()

    def _erase(self) -> None:
        if self._drawn:
            sys.stdout.write("\r\x1b[K")
            self._drawn = ""

    def _line(self) -> str:
        states = Counter(case.status.state for case in self._cases if case.status is not None)
        submitted = sum(bool(case.id) for case in self._cases)
        running = len(self._evidence.running)
        waiting = max(0, submitted - states.total() - running)
        filled = int(self.share * BAR_CHARS)
        return (
            f"[{'#' * filled}{'.' * (BAR_CHARS - filled)}] {states.total()} of {len(self._cases)}: "
            f"{waiting} waiting, {running} running, {states['succeeded']} succeeded, "
            f"{self._evidence.count('retry')} retried, {states['dead']} dead"
        )


class _Said(logging.Handler):
    """What the SDK logs, among it what it waits for, belongs to the story."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Say it above the live line."""
        self._progress.say(f"the app's {record.getMessage()}")
