"""Commands at a person's terminal: what goes on, live, and what can be typed."""

import sys
from typing import Any

import click

from coordinator.cli_completion import completion, handler_names
from coordinator.cli_options import duration_ms, has_place, run_command

_COLUMNS = (
    *("name", "in", "out", "dead", "backlog", "leased", "oldest"),
    *("wait50", "wait99", "run50", "run99", "sidecars"),
)


@click.command()
@has_place
@click.option(
    "--sort", type=click.Choice(_COLUMNS), default="backlog", show_default=True, help="By what."
)
@click.option("--every", metavar="DURATION", default="1s", show_default=True, help="How often.")
@click.argument("pattern", default="", shell_complete=handler_names)
def top(sort: str, every: str, pattern: str, **flags: Any) -> None:
    """Show handlers live: rates, waits, backlog, age, who serves them. Leave with q.

    PATTERN is a part of names, or with * a whole one: 'mail.*'

    \b
    left, right                     the column to sort by
    r                               the other way round
    up, down, page up, page down    scroll
    /                               another PATTERN; escape: none
    """  # noqa: D301 (click wants the character)
    from coordinator.commands import top as live  # noqa: PLC0415
    from coordinator.commands.top_view import View  # noqa: PLC0415

    every_ms = duration_ms("--every", every) or 1_000
    view = View(sort=sort, pattern=pattern)
    ended_by: list[int] = []
    code = run_command(flags, lambda api: ended_by.append(live.top(api, view, every_ms)))
    live.end(ended_by[0] if ended_by else 0)
    sys.exit(code)


COMMANDS: tuple[click.Command, ...] = (top, completion)
