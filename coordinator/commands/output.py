"""Rows as a table for people, or as JSON, NDJSON, CSV or bare ids for programs.

Data goes to stdout, talk to stderr. Nothing is coloured; only a table on a terminal is cut to its
width. What apps have put into texts cannot steer a terminal.
"""

import difflib
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

FORMATS = ("table", "json", "ndjson", "csv", "id")
ALL = "*"
"""Chosen instead of columns: all that rows have, however wide."""
Row = dict[str, Any]
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000


class UnknownColumn(Exception):
    """Raised when a column is asked for that rows do not have."""


class Writer:
    """Writes rows in one format.

    Args:
        form: One of ``FORMATS``.
        columns: The columns of a table, if nobody has chosen others.
        key: The column that names a row.
        chosen: The columns that somebody has chosen; ``*`` alone means all.
    """

    def __init__(
        self, form: str, columns: Sequence[str], key: str, chosen: Sequence[str] = ()
    ) -> None:
        self._form = form
        self._columns = columns
        self._key = key
        self._chosen = chosen
        self._wide = False
        self._rows: list[Row] = []
        self._headed = False

    def write(self, rows: Iterable[Row]) -> None:
        """Take rows; those of NDJSON, CSV and ids are written at once."""
        rows = list(rows)
        if rows and list(self._chosen) == [ALL]:
            self._chosen = list(rows[0])
            self._wide = True
        if rows and self._chosen:
            check_columns(self._chosen, rows[0])
        if self._form in ("table", "json"):
            self._rows += rows
        elif self._form == "id":
            say("".join(f"{row[self._key]}\n" for row in rows))
        elif self._form == "ndjson":
            say("".join(json.dumps(self._picked(row)) + "\n" for row in rows))
        else:
            self._write_csv(rows)

    def close(self) -> None:
        """Write what was kept."""
        if self._form == "json":
            say(json.dumps([self._picked(row) for row in self._rows], indent=2) + "\n")
        elif self._form == "table":
            columns = self._columns if list(self._chosen) == [ALL] else self._chosen
            columns_max = None if self._wide else width()
            say(table(self._rows, columns or self._columns, columns_max))

    def _picked(self, row: Row) -> Row:
        return {name: row[name] for name in self._chosen} if self._chosen else row

    def _write_csv(self, rows: list[Row]) -> None:
        import csv  # noqa: PLC0415 (seldom needed)

        text = io.StringIO()
        for row in rows:
            picked = self._picked(row)
            if not self._headed:
                csv.writer(text, lineterminator="\n").writerow(picked)
                self._headed = True
            csv.writer(text, lineterminator="\n").writerow(map(_csv_cell, picked.values()))
        say(text.getvalue())


def _csv_cell(value: Any) -> Any:
    """Return what CSV has no type for as JSON writes it, and all else as it is."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def check_columns(names: Sequence[str], row: Row) -> None:
    """Refuse columns that rows do not have.

    Raises:
        UnknownColumn: Names it, and the nearest.
    """
    for name in names:
        if name not in row:
            near = difflib.get_close_matches(name, row, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(row)}"
            raise UnknownColumn(f"no column is called {name!r}; {hint}")


def table(rows: Sequence[Row], columns: Sequence[str], columns_max: int | None) -> str:
    """Return rows as aligned text, cut to a width if there is one."""
    now_ms = int(time.time() * 1000)
    lines = [[_title(name) for name in columns]]
    lines += [[_cell(name, row.get(name), now_ms) for name in columns] for row in rows]
    numeric = [all(isinstance(row.get(name), int | float) for row in rows) for name in columns]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    text = []
    for line in lines:
        cells = [
            cell.rjust(size) if number and rows else cell.ljust(size)
            for cell, size, number in zip(line, widths, numeric, strict=True)
        ]
        joined = "  ".join(cells).rstrip()
        text.append(joined if columns_max is None else joined[:columns_max].rstrip())
    return "\n".join(text) + "\n"


def width() -> int | None:
    """Return the width of the terminal on stdout, or None if there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return None


def say(text: str) -> None:
    """Write data."""
    sys.stdout.write(text)
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write talk, for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def age(ms: float) -> str:
    """Return a duration in about two digits: ``850ms``, ``12s``, ``3h12m``, ``4d02h``."""
    ms = max(0, int(ms))
    if ms < 10 * _SECOND:
        return f"{ms}ms" if ms < _SECOND else f"{ms / 1000:.1f}s"
    if ms < 2 * _MINUTE:
        return f"{ms // _SECOND}s"
    if ms < _HOUR:
        return f"{ms // _MINUTE}m{ms % _MINUTE // _SECOND:02}s"
    if ms < 2 * _DAY:
        return f"{ms // _HOUR}h{ms % _HOUR // _MINUTE:02}m"
    return f"{ms // _DAY}d{ms % _DAY // _HOUR:02}h"


def tame(text: str) -> str:
    """Return a text in one line, with nothing in it that steers a terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


_MOMENTS = (
    *("submitted_ms", "due_ms", "finished_ms", "created_ms", "until_ms", "at_ms", "set_ms"),
    *("first_ms", "last_ms", "ended_ms", "drained_ms"),
)


def _title(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ").upper()


def _cell(name: str, value: Any, now_ms: int) -> str:
    if value is None:
        return "-"
    if name in _MOMENTS:
        return _moment(value, now_ms)
    if name.endswith("_ms") and isinstance(value, int):
        return age(value)
    if isinstance(value, list):
        return tame(",".join(str(item) for item in value)) or "-"
    return (f"{value:g}" if isinstance(value, float) else tame(str(value))) or "-"


def _moment(value: int, now_ms: int) -> str:
    if not value:
        return "-"
    return f"in {age(value - now_ms)}" if value > now_ms else f"{age(now_ms - value)} ago"
