"""What ``top`` shows, and what its keys do: pure, from what was told to lines of text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from coordinator.commands.output import age, tame

Row = dict[str, Any]


class Column(NamedTuple):
    """One column of the table."""

    name: str
    title: str
    field: str
    ages: bool = False
    """Whether it holds milliseconds."""


COLUMNS = (
    Column("name", "HANDLER", "name"),
    Column("in", "IN/S", "in_per_second"),
    Column("out", "OUT/S", "out_per_second"),
    Column("dead", "DEAD/S", "dead_per_second"),
    Column("backlog", "BACKLOG", "ready"),
    Column("leased", "LEASED", "leased"),
    Column("oldest", "OLDEST", "oldest_ready_ms", ages=True),
    Column("wait50", "WAIT P50", "wait_p50_ms", ages=True),
    Column("wait99", "P99", "wait_p99_ms", ages=True),
    Column("run50", "RUN P50", "run_p50_ms", ages=True),
    Column("run99", "P99", "run_p99_ms", ages=True),
    Column("sidecars", "SIDECARS", "sidecars"),
)
NAMES = tuple(column.name for column in COLUMNS)
_HELP = "q leave   ←→ column to sort by   r reverse   ↑↓ scroll   / filter"
_HEAD_LINES = 3


@dataclass(slots=True)
class View:
    """What somebody has chosen to see."""

    sort: str = "backlog"
    reverse: bool = False
    """Whether the order is the other way round: names from z, numbers from the smallest."""
    pattern: str = ""
    first: int = 0
    """The row at the top."""
    typing: str | None = None
    """The pattern that is being typed."""
    left: bool = field(default=False)
    """Whether somebody wants to leave."""

    def press(self, key: str, page: int) -> None:
        """Do what a key stands for; ``page`` is how many rows fit."""
        if self.typing is not None:
            self._type(key)
            return
        match key:
            case "q" | "Q":
                self.left = True
            case "left" | "right" | "<" | ">" | "h" | "l":
                step = 1 if key in ("right", ">", "l") else -1
                self.sort = NAMES[(NAMES.index(self.sort) + step) % len(NAMES)]
            case "r":
                self.reverse = not self.reverse
            case "/":
                self.typing = self.pattern
            case "escape":
                self.pattern = ""
            case "home" | "g":
                self.first = 0
            case "up" | "k":
                self.first -= 1
            case "down" | "j":
                self.first += 1
            case "pageup":
                self.first -= page
            case "pagedown" | " ":
                self.first += page
            case "end" | "G":
                self.first = 10**9
        self.first = max(0, self.first)

    def _type(self, key: str) -> None:
        assert self.typing is not None
        if key == "enter":
            self.pattern, self.typing, self.first = self.typing, None, 0
        elif key == "escape":
            self.typing = None
        elif key == "backspace":
            self.typing = self.typing[:-1]
        elif len(key) == 1:
            self.typing += key

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that are meant, in their order."""
        column = COLUMNS[NAMES.index(self.sort)]
        rows = [row for row in rows if meant(row["name"], self.pattern)]
        rows.sort(key=lambda row: str(row["name"]))
        if column.name == "name":
            return rows[::-1] if self.reverse else rows
        # What is not known is least, and rows that are equal keep the order of their names.
        sign = 1 if self.reverse else -1
        return sorted(rows, key=lambda row: sign * (row[column.field] or 0))


def meant(name: str, pattern: str) -> bool:
    """Tell whether a pattern means a name: ``*`` is anything; without one, what it contains."""
    return fnmatchcase(name, pattern) if "*" in pattern else pattern in name


def page_of(lines: int) -> int:
    """Return how many rows fit."""
    return max(1, lines - _HEAD_LINES - 1)


def screen(
    told: dict[str, Any], rows: Sequence[Row], view: View, lines: int, trouble: str
) -> list[str]:
    """Return the lines to show.

    Args:
        told: The status.
        rows: All handlers.
        view: What is chosen.
        lines: How many fit.
        trouble: Why what is shown is old; empty if it is not.
    """
    chosen = view.chosen(rows)
    page = page_of(lines)
    view.first = max(0, min(view.first, len(chosen) - page))
    shown = chosen[view.first : view.first + page]
    text = [head(told), trouble or _reasons(told)]
    text += table(shown, view)
    text += [""] * (lines - 1 - len(text))
    return [*text[: lines - 1], _foot(view, len(chosen), len(rows), len(shown))]


def head(told: dict[str, Any]) -> str:
    """Return the verdict and the totals."""
    tasks, rates, sidecars = told["tasks"], told["rates"], told["sidecars"]
    oldest = age(told["oldest"]["age_ms"]) if told["oldest"] else "-"
    return (
        f"{told['verdict'].upper()}  {rates['submitted']:g} in/s  {rates['finished']:g} out/s  "
        f"{tasks['ready']} ready  {tasks['leased']} leased  {tasks['scheduled']} scheduled  "
        f"{tasks['dead']} dead  oldest {oldest}  {sidecars.get('ready', 0)} sidecars"
    )


def _reasons(told: dict[str, Any]) -> str:
    return "; ".join(tame(reason["text"]) for reason in told["reasons"])


def table(rows: Sequence[Row], view: View) -> list[str]:
    """Return the table with its head; the column that rules the order is marked."""
    mark = "▲" if view.reverse != (view.sort == "name") else "▼"
    titles = [c.title + (mark if c.name == view.sort else "") for c in COLUMNS]
    cells = [[_cell(column, row[column.field]) for column in COLUMNS] for row in rows]
    widths = [max(len(line[n]) for line in [titles, *cells]) for n in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.rjust(size) if place else cell.ljust(size)
            for place, (cell, size) in enumerate(zip(line, widths, strict=True))
        )
        for line in [titles, *cells]
    ]


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return "-"
    if column.ages:
        return age(value)
    return f"{value:g}" if isinstance(value, float) else tame(str(value))


def _foot(view: View, chosen: int, known: int, shown: int) -> str:
    if view.typing is not None:
        return f"/{view.typing}_   enter takes it, escape does not"
    of = f" of {known}, /{view.pattern}" if view.pattern else ""
    span = f"{view.first + 1}-{view.first + shown} of " if shown < chosen else ""
    return f"{span}{chosen} handlers{of}   {_HELP}"
