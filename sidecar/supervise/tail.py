"""The last lines that a process wrote to stderr: bytes in, lines out, little kept."""

from collections import deque

LINES_MAX = 50
BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 8 * 1024
"""A longer line is cut into several."""


class Tail:
    """Cuts a stream into lines and keeps the last ones."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Take bytes; return the lines they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) >= LINE_BYTES_MAX:
            lines.append(self._rest[:LINE_BYTES_MAX])
            self._rest = self._rest[LINE_BYTES_MAX:]
        return [self._keep(line) for line in lines]

    def end(self) -> list[str]:
        """Take the end of the stream; return the line that had none."""
        rest, self._rest = self._rest, b""
        return [self._keep(rest)] if rest else []

    def _keep(self, line: bytes) -> str:
        short = line[:LINE_BYTES_MAX]
        self._kept.append(short)
        self._kept_bytes += len(short)
        while len(self._kept) > LINES_MAX or self._kept_bytes > BYTES_MAX:
            self._kept_bytes -= len(self._kept.popleft())
        return _text(line)

    def text(self, chars_max: int) -> str:
        """Return the last lines, the newest ones if they do not all fit."""
        text = "\n".join(_text(line) for line in [*self._kept, self._rest]).rstrip("\n")
        return text if len(text) <= chars_max else "…" + text[1 - chars_max :]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
