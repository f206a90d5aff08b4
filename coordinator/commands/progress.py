"""How far something long has come, on stderr: a line, redrawn on a terminal, else now and then.

Told seldom however often it is called, so that it costs nothing.
"""

import sys
import time

from coordinator.commands.output import tell

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 5.0


class Progress:
    """One bar.

    Args:
        what: What is being done, such as ``copying``.
        total: What is complete; 0 if that is not known.
        unit: What is counted; bytes are told as MiB.
    """

    def __init__(self, what: str, total: int, unit: str = "bytes") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._terminal = sys.stderr.isatty()
        self._every = _TERMINAL_SECONDS if self._terminal else _LOG_SECONDS
        self._began = self._told_at = time.monotonic()
        self._shown = False

    def __call__(self, done: int) -> None:
        """Say how much is done."""
        now = time.monotonic()
        if now - self._told_at < self._every:
            return
        self._told_at, self._shown = now, True
        self._show(self._line(done, now - self._began))

    def close(self) -> None:
        """Leave the line."""
        if self._shown and self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._shown = False

    def _line(self, done: int, seconds: float) -> str:
        if self._unit == "bytes":
            amount, pace = f"{done >> 20} MiB", f"{done / seconds / 2**20:.0f} MiB/s"
        else:
            amount, pace = f"{done} {self._unit}", f"{done / seconds:.0f}/s"
        share = f" ({min(99, done * 100 // self._total)} %)" if self._total else ""
        return f"{self._what}: {amount}{share}, {pace}"

    def _show(self, line: str) -> None:
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            tell(line)
