"""A terminal that is drawn on: its other screen, keys one by one, and everything put back after.

Whatever ends the command, also SIGTERM, a closed window or an error, the terminal is left as it was
found. A drawing is one write that overwrites what is there line by line, so that nothing flickers.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""The other screen, without a cursor and without wrapping; and back."""
_KEYS = {
    **{b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left"},
    **{b"\x1bOA": "up", b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left"},
    **{b"\x1b[5~": "pageup", b"\x1b[6~": "pagedown", b"\x1b[H": "home", b"\x1b[F": "end"},
    **{b"\x7f": "backspace", b"\x08": "backspace", b"\r": "enter", b"\n": "enter"},
    **{b"\x1b": "escape", b"\x0c": "redraw", b"\x04": "q"},
}


class Ended(Exception):
    """Raised when a signal asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Size(NamedTuple):
    """Of a terminal."""

    columns: int
    lines: int


class Terminal:
    """The terminal on stdin and stdout; used within ``taken``."""

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._in)
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._drawn: list[str] = []
        self._size = Size(0, 0)
        self._signalled = 0
        self._entered = False

    @property
    def waker(self) -> int:
        """A descriptor; a byte that is written to it ends ``wait``."""
        return self._wake

    def size(self) -> Size:
        """Return how large it is now."""
        with suppress(OSError):
            found = os.get_terminal_size(self._out)
            return Size(max(20, found.columns or 80), max(4, found.lines or 24))
        return Size(80, 24)

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines, of which only those are written that have changed."""
        size = self.size()
        wanted = [line[: size.columns] for line in lines[: size.lines]]
        anew = size != self._size or not self._drawn
        parts = ["\x1b[H\x1b[2J"] if anew else []
        for place, line in enumerate(wanted):
            if anew or place >= len(self._drawn) or self._drawn[place] != line:
                parts.append(f"\x1b[{place + 1};1H{line}\x1b[K")
        if not anew and len(self._drawn) > len(wanted):
            parts.append(f"\x1b[{len(wanted) + 1};1H\x1b[J")
        self._drawn, self._size = wanted, size
        if parts:
            self._write("".join(parts))

    def forget(self) -> None:
        """Draw everything anew next time."""
        self._drawn = []

    def wait(self, seconds: float) -> list[str]:
        """Return the keys that were pressed, once there are some or the time is over.

        Raises:
            Ended: A signal asks for it, or the terminal is gone.
        """
        self._heed()
        ready, _, _ = select.select([self._in, self._woken], [], [], max(0.0, seconds))
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
        self._heed()
        if self._in not in ready:
            return []
        try:
            data = os.read(self._in, 1024)
        except OSError:
            data = b""
        if not data:
            raise Ended(signal.SIGHUP)
        return list(keys(data))

    @contextmanager
    def taken(self) -> Iterator["Terminal"]:
        """Take the terminal, and give it back as it was."""
        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
        before = {number: signal.signal(number, self._signal) for number in numbers}
        waker = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            self._enter()
            yield self
        finally:
            self._leave()
            signal.set_wakeup_fd(waker)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signal(self, number: int, _: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            self._signalled = number
        elif number == signal.SIGCONT:
            self._enter()

    def _heed(self) -> None:
        number, self._signalled = self._signalled, 0
        if number == signal.SIGTSTP:
            self._leave()
            os.kill(os.getpid(), signal.SIGSTOP)  # SIGCONT takes the terminal again.
        elif number:
            raise Ended(number)

    def _enter(self) -> None:
        tty.setcbreak(self._in, termios.TCSADRAIN)
        self._write(_ENTER)
        self._entered = True
        self.forget()

    def _leave(self) -> None:
        if not self._entered:
            return
        self._entered = False
        with suppress(OSError):
            self._write(_LEAVE)
        with suppress(termios.error):
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)

    def _write(self, text: str) -> None:
        data = memoryview(text.encode(errors="replace"))
        while data:
            data = data[os.write(self._out, data) :]


def keys(data: bytes) -> Iterator[str]:
    """Yield the names of keys, or the characters, in what a terminal has sent."""
    while data:
        for sequence, name in _KEYS.items():
            if data.startswith(sequence) and (sequence != b"\x1b" or len(data) == 1):
                yield name
                data = data[len(sequence) :]
                break
        else:
            if data[:1] == b"\x1b":  # A key that is not known here.
                rest = data[2:].lstrip(b"0123456789;") if data[1:2] in b"[O" else data[1:]
                data = rest[1:]
                continue
            if 32 <= data[0] < 127:
                yield chr(data[0])
            data = data[1:]
