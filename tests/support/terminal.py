"""A program on a real pseudo-terminal: what it shows, keys that are pressed, its size, its end."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from types import TracebackType

from tests.support.process import ROOT

SECONDS = 20.0
_PART = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """One program with a terminal of its own; a context manager that ends it.

    Only what Pillion's commands use of a terminal's language is understood here.
    """

    def __init__(self, command: Sequence[str], columns: int = 120, lines: int = 30) -> None:
        self._main, self._end = pty.openpty()
        self.before = termios.tcgetattr(self._end)
        self.other_screen = False
        self.cursor = True
        self.raw = ""
        """All that was written."""
        self._rows: dict[int, str] = {}
        self._at = (0, 0)
        self._left = ""
        self.resize(columns, lines)
        self.program = subprocess.Popen(
            list(command),
            stdin=self._end,
            stdout=self._end,
            stderr=self._end,
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("PILLION_")}
            | {"TERM": "xterm"},
            start_new_session=True,
            # So that Ctrl-C reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait()
        os.close(self._main)
        os.close(self._end)

    @property
    def rows(self) -> list[str]:
        """What is shown, line by line."""
        return [self._rows.get(n, "").rstrip() for n in range(max(self._rows, default=-1) + 1)]

    @property
    def shown(self) -> str:
        """What is shown."""
        return "\n".join(self.rows)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._main, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def modes(self) -> list[object]:
        """Return the modes of the terminal, as ``before`` has those of before."""
        return list(termios.tcgetattr(self._end))

    def wait_for(self, text: str) -> str:
        """Wait until a text is shown; return all that is."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            ready, _, _ = select.select([self._main], [], [], 0.05)
            if ready:
                self._take(os.read(self._main, 65536).decode())
            elif self.program.poll() is not None:
                raise AssertionError(f"it ended before {text!r} was shown: {self.raw!r}")
            elif time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not shown, but\n{self.shown}")
        return self.shown

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        deadline = time.monotonic() + SECONDS
        while self.program.poll() is None:
            if select.select([self._main], [], [], 0.05)[0]:
                self._take(os.read(self._main, 65536).decode())
            assert time.monotonic() < deadline, f"it does not end\n{self.shown}"
        while select.select([self._main], [], [], 0)[0]:
            self._take(os.read(self._main, 65536).decode())
        return self.program.returncode

    def _take(self, text: str) -> None:
        self.raw += text
        text = self._left + text
        cut = text.rfind("\x1b")
        whole = cut < 0 or re.match(r"\x1b\[\??[0-9;]*[A-Za-z]", text[cut:])
        self._left = "" if whole else text[cut:]
        for part in _PART.finditer(text if whole else text[:cut]):
            self._part(part)

    def _part(self, part: re.Match[str]) -> None:
        private, numbers, letter = part[1], part[2], part[3]
        row, column = self._at
        if letter is None:
            if part[0] == "\r":
                self._at = (row, 0)
            elif part[0] == "\n":
                self._at = (row + 1, column)
            else:
                line = self._rows.get(row, "").ljust(column)
                self._rows[row] = line[:column] + part[0] + line[column + len(part[0]) :]
                self._at = (row, column + len(part[0]))
        elif private:
            on = letter == "h"
            if numbers == "1049":
                self.other_screen = on
            elif numbers == "25":
                self.cursor = on
        elif letter == "H":
            row, _, column = numbers.partition(";")  # type: ignore[assignment]
            self._at = (int(row or 1) - 1, int(column or 1) - 1)
        elif letter == "K":
            self._rows[row] = self._rows.get(row, "")[:column]
        elif letter == "J":
            kept = {} if numbers == "2" else {n: x for n, x in self._rows.items() if n < row}
            self._rows = kept
