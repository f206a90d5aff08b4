"""Structured log lines: for people on a terminal, as JSON everywhere else; never a payload.

The only importer of structlog, and one of the three modules of this package that do I/O, with
``command_line`` and ``findings``: both processes write the same lines. One event is one line with a
stable name in the past tense (``session_opened``). Lines go to stderr from a thread of their own: a
reader that has stopped must not stop the event loop. What does not fit into the queue is dropped,
counted, and named later.
"""

import atexit
import json
import logging
import queue
import sys
import threading
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

Logger = FilteringBoundLogger

LINES_MAX = 10_000
"""Lines that may wait for a slow reader."""
VALUE_CHARS_MAX = 1_000
_STOP_SECONDS = 2.0


def logger(name: str) -> Logger:
    """Return the logger of one part of a process, such as ``store``."""
    log: Logger = structlog.get_logger(part=name)
    return log


def set_up(log_format: str, log_level: str, stream: TextIO | None = None) -> "LineWriter":
    """Send this process's log, and that of the libraries, to a stream (stderr by default).

    Args:
        log_format: ``console``, ``json``, or ``auto``: console if the stream is a terminal.
        log_level: The least severe level to write.
        stream: Where lines go.
    """
    out = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    level = logging.getLevelNamesMapping()[log_level.upper()]
    writer = LineWriter(out)
    structlog.configure(
        processors=_processors(console, colors=out.isatty()),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=max(level, logging.INFO), force=True)
    atexit.register(writer.stop)
    return writer


class LineWriter:
    """A bounded queue of lines, and the thread that writes them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="pillion-log", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        """Queue one line; structlog calls this under the name of each level."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    debug = info = warning = error = critical = exception = log = msg

    @property
    def is_running(self) -> bool:
        """Whether lines are still written."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what waits, for a short time at most; may come twice."""
        if not self.is_running:
            return
        try:
            self._lines.put(None, timeout=_STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                facts = {"event": "log_lines_dropped", "count": dropped, "level": "warning"}
                line += "\n" + json.dumps(facts)
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # The reader has gone; work goes on without a log.
                continue


def _processors(console: bool, *, colors: bool) -> list[Processor]:
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _tame,
    ]
    if console:
        # Not rich's tracebacks, if it is installed: they show local variables, and so payloads.
        plain = structlog.dev.plain_traceback
        return [*shared, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [
        *shared,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False, default=repr),
    ]


def _tame(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Shorten long texts, and escape what could forge a line or steer a terminal."""
    for key, value in event.items():
        if type(value) is str:
            text = value if len(value) <= VALUE_CHARS_MAX else value[:VALUE_CHARS_MAX] + "…"
            event[key] = text if text.isprintable() else text.encode("unicode_escape").decode()
    return event


class _Forward(logging.Handler):
    """Hands the libraries' log records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"part": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        structlog.get_logger().log(record.levelno, record.getMessage(), **fields)
