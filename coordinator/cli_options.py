"""What commands of ``pillion-coordinator`` share: flags, settings, asking a coordinator."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from coordinator import settings as coordinator_settings
from protocol import command_line
from protocol.command_line import Command
from protocol.settings import Values
from protocol.units import InvalidUnit, parse_duration_ms, parse_size

if TYPE_CHECKING:
    from coordinator.commands.api import Api
    from coordinator.commands.operating import Wish


PLACE = ("data_dir", "http_socket", "http_bind", "http_token_file")
"""The settings that say where a coordinator can be asked."""
_STORE = ("data_dir", "store_map_size", "store_bytes_max", "disk_free_min", "allow_filesystem")
"""The settings for a store that nobody serves."""
_FORMATS = ("table", "wide", "json", "ndjson", "csv", "id")
_WIDE = "wide"


class _Form(click.Choice[str]):
    """A format; a wide table is a table with all columns."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the format, and remember if it is to be wide."""
        form: str = super().convert(value, param, ctx)
        if form != _WIDE:
            return form
        if ctx is not None:
            ctx.meta[_WIDE] = True
        return "table"


def _has_form(command: Command, formats: Sequence[str] = _FORMATS) -> Command:
    """Give a command ``-o`` and what is short for it."""
    kind = _Form(formats)  # Of both: click reads what is given to the one by either.
    short = click.option("--json", "form", flag_value="json", type=kind, help="As -o json.")
    return click.option(
        *("-o", "--output", "form"),
        type=kind,
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(short(command))


def with_settings(command: Command, names: Sequence[str] = ()) -> Command:
    """Give a command ``--config`` and a flag for each setting, or for some."""
    table = [row for row in coordinator_settings.TABLE if not names or row.name in names]
    return command_line.with_settings(command, table, coordinator_settings.PREFIX)


def asks(command: Command) -> Command:
    """Give a command what all have that ask a coordinator: where it is, format, repetition."""
    for option in (
        _has_form,
        click.option(
            "--watch",
            metavar="DURATION",
            is_flag=False,
            flag_value="2s",
            help="Ask again and again, every 2s or as often as is said; what is piped on is "
            "only what has changed.",
        ),
    ):
        command = option(command)
    return with_settings(command, PLACE)


def has_owner(command: Command) -> Command:
    """Give a command what all have that change something: who and why, format, place."""
    for option in (
        click.option(
            "--as", "owner", metavar="NAME", default="", help="Who you are; or else $USER."
        ),
        click.option("--reason", metavar="TEXT", default="", help="Why; others will read it."),
        _has_form,
    ):
        command = option(command)
    return with_settings(command, PLACE)


def has_place(command: Command) -> Command:
    """Give a command the flags that say where the coordinator is."""
    return with_settings(command, PLACE)


def has_store(command: Command) -> Command:
    """Give a command the flags that say where a store is that nobody serves."""
    return with_settings(command, _STORE)


def has_everything(command: Command) -> Command:
    """Give a command the flags for a store and for who serves it."""
    return with_settings(command, (*_STORE, *PLACE))


def reports(command: Command) -> Command:
    """Give a command that says what it did the format of that."""
    return _has_form(command, ("table", "json"))


def has_columns(command: Command) -> Command:
    """Give a command ``--columns``."""
    return click.option("--columns", metavar="A,B", default="", help="Which columns, in order.")(
        command
    )


def ask_to_change(
    rest: dict[str, Any], path: Callable[[], str], change: "Callable[[Api, Wish], None]"
) -> NoReturn:
    """Ask a coordinator for a change, and exit.

    Args:
        rest: The flags of ``has_owner``, and ``dry_run``; ``yes`` if the command has it.
        path: Returns the path of what is changed, once the place is known; it may raise ``Usage``.
        change: Asks, and writes.
    """
    from coordinator.commands import operating  # noqa: PLC0415

    owner, reason, form, dry_run = (rest.pop(x) for x in ("owner", "reason", "form", "dry_run"))
    yes = rest.pop("yes", False)

    def ask(api: "Api") -> None:
        by = operating.who(owner, reason)
        change(api, operating.Wish(path(), by, form, dry_run, yes))

    ask_api(rest, ask)


def ask_api(flags: dict[str, Any], ask: "Callable[[Api], None]") -> NoReturn:
    """Ask a coordinator, and exit."""
    sys.exit(run_command(flags, ask))


def run_command(flags: dict[str, Any], ask: "Callable[[Api], None]") -> int:
    """Ask a coordinator, again and again if it is watched; return the exit code."""
    from coordinator.commands import running  # noqa: PLC0415

    watch_ms = duration_ms("--watch", flags.pop("watch", None))
    form = click.get_current_context().params.get("form") or "table"
    return running.run(read_settings(flags.pop("config_file"), flags), ask, watch_ms, form)


def settings_of(flags: dict[str, Any]) -> coordinator_settings.Settings:
    """Return the settings that flags, environment and file make."""
    return coordinator_settings.build(read_settings(flags.pop("config_file"), flags))


def mebibytes(flag: str, text: str) -> int:
    """Return the MiB that a flag says."""
    try:
        number = parse_size(text) >> 20
    except InvalidUnit as error:
        raise click.UsageError(f"{flag}: {error}") from None
    if not number:
        raise click.UsageError(f"{flag}: {text!r} is less than 1MiB")
    return number


def duration_ms(flag: str, text: str | None) -> int | None:
    """Return the duration that a flag says, or None without it."""
    if text is None:
        return None
    try:
        return max(100, parse_duration_ms(text))
    except InvalidUnit as error:
        raise click.UsageError(f"{flag}: {error}") from None


def split_columns(columns: str) -> list[str]:
    """Return the names in ``--columns``; all of them, if the table is to be wide."""
    if not columns and click.get_current_context().meta.get(_WIDE):
        return ["*"]
    return [name.strip() for name in columns.split(",") if name.strip()]


def read_settings(config_file: str | None, flags: dict[str, object]) -> Values:
    """Return the values that flags, environment and file set."""
    text = command_line.text_of(config_file)
    return coordinator_settings.read(
        flags=flags, environ=os.environ, file_text=text, file_name=config_file or ""
    )
