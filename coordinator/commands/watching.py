"""Do something again and again: on a terminal in place, on a pipe as a stream of what changes.

Rows as NDJSON, CSV or ids are written once, and again when they have changed. A table or a JSON
document is written whole, whenever it is another than before.
"""

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Callable

from coordinator.commands.api import Unreachable
from coordinator.commands.output import age, say

_ROWS = ("ndjson", "csv", "id")
Ask = Callable[[], None]


def watch(ask: Ask, every_ms: int, form: str) -> None:
    """Ask and write until somebody interrupts it."""
    if can_draw():
        one = _Screen(ask).show
    elif form in _ROWS:
        one = _Changes(ask).show
    else:
        one = _Whole(ask).show
    # Who reads may go while there is nothing to write: only looking for that finds it out.
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    while True:
        one()
        if poller.poll(every_ms):
            raise BrokenPipeError


def can_draw() -> bool:
    """Tell whether stdout is a terminal on which lines can be overwritten."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def no_answer(at: float, why: object) -> str:
    """Return what to say above the answer of a time ago, since there is no newer one."""
    since = age((time.monotonic() - at) * 1000)
    return f"NO ANSWER for {since}, this is how it was then: {why}"


class _Screen:
    """A terminal: lines are overwritten where they have changed."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._text = ""
        self._at = 0.0
        self._shown: list[str] = []
        self._size = (0, 0)

    def show(self) -> None:
        """Ask, and show what there is now; that nobody answers is shown too, but the first time."""
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                self._ask()
        except Unreachable as error:
            if not self._at:
                raise
            self._draw(f"{no_answer(self._at, error)}\n{self._text}")
        else:
            self._text, self._at = text.getvalue(), time.monotonic()
            self._draw(self._text)

    def _draw(self, text: str) -> None:
        columns, height = os.get_terminal_size(sys.stdout.fileno())
        lines = [line[: columns or 80] for line in text.splitlines()]
        room = max(2, (height or 24) - 1)
        if len(lines) > room:
            lines[room - 1 :] = [f"and {len(lines) - room + 1} lines more"[: columns or 80]]
        anew = not self._shown or (columns, height) != self._size
        parts = ["\x1b[H\x1b[2J"] if anew else []
        for place, line in enumerate(lines):
            if anew or place >= len(self._shown) or self._shown[place] != line:
                parts.append(f"\x1b[{place + 1};1H{line}\x1b[K")
        if parts or len(lines) != len(self._shown):
            say("".join([*parts, f"\x1b[{len(lines) + 1};1H\x1b[J"]))
        self._shown, self._size = lines, (columns, height)


class _Changes:
    """A pipe: lines that were not there the time before."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._before: set[int] = set()

    def show(self) -> None:
        """Ask, and write what is new."""
        changed = _Filter(self._before)
        with contextlib.redirect_stdout(changed):
            self._ask()
        self._before = changed.seen


class _Filter(io.TextIOBase):
    """Passes whole lines on, but those that were seen before."""

    def __init__(self, before: set[int]) -> None:
        self._before = before
        self._out = sys.stdout
        self.seen: set[int] = set()
        """Of each line its hash: a million of them must fit into memory."""

    def write(self, text: str) -> int:
        """Take lines, each with its end."""
        for line in text.splitlines(keepends=True):
            mark = hash(line)
            self.seen.add(mark)
            if mark not in self._before:
                self._out.write(line)
        return len(text)

    def flush(self) -> None:
        """Let it go."""
        self._out.flush()


class _Whole:
    """A pipe: everything, if it is another than before."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._before = ""

    def show(self) -> None:
        """Ask, and write it."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            self._ask()
        if text.getvalue() != self._before:
            self._before = text.getvalue()
            say(self._before)
