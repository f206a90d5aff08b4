"""The ``pillion-coordinator`` command: parse, build the settings, call one function.

Exit codes of ``serve``: 0 done; 1 failed, start it again; 2 wrong usage or settings; 3 the store
was refused. After 2 and 3 a restart does not help: a person must mend what the message names. Those
of commands that ask a coordinator are told in ``commands.running``, of ``check`` in its help.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from coordinator import settings as coordinator_settings
from coordinator.errors import CoordinatorError, Refused
from protocol.settings import SettingsError, Values, describe, options
from protocol.units import InvalidUnit, parse_duration_ms, parse_size
from protocol.version import SOFTWARE

if TYPE_CHECKING:
    from coordinator.commands.api import Api

EXIT_FAILED, EXIT_SETTINGS, EXIT_REFUSED = 1, 2, 3
_Command = Callable[..., None]


_PLACE = ("data_dir", "http_socket", "http_bind", "http_token_file")
"""The settings that say where a coordinator can be asked."""
_STORE = ("data_dir", "store_map_size", "store_bytes_max", "disk_free_min", "allow_filesystem")
"""The settings for a store that nobody serves."""
_FORMATS = ("table", "json", "ndjson", "csv", "id")


def _with_settings(command: _Command, names: Sequence[str] = ()) -> _Command:
    """Give a command ``--config`` and a flag for each setting, or for some."""
    table = [row for row in coordinator_settings.TABLE if not names or row.name in names]
    for option in reversed(options(table, coordinator_settings.PREFIX)):
        kind: dict[str, Any] = (
            {"is_flag": True} if option.is_switch else {"metavar": option.metavar}
        )
        command = click.option(option.flag, option.name, default=None, help=option.help, **kind)(
            command
        )
    variable = coordinator_settings.PREFIX + "CONFIG"
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        envvar=variable,
        help=f"TOML file with settings by name.  [env: {variable}]",
    )(command)


def _asks(command: _Command) -> _Command:
    """Give a command what all have that ask a coordinator: where it is, format, repetition."""
    for option in (
        click.option(
            *("-o", "--output", "form"),
            type=click.Choice(_FORMATS),
            default="table",
            show_default=True,
            help="For people, or for programs.",
        ),
        click.option(
            "--watch",
            metavar="DURATION",
            is_flag=False,
            flag_value="2s",
            help="Ask again and again, every 2s or as often as is said.",
        ),
    ):
        command = option(command)
    return _with_settings(command, _PLACE)


def _has_place(command: _Command) -> _Command:
    """Give a command the flags that say where the coordinator is."""
    return _with_settings(command, _PLACE)


def _has_store(command: _Command) -> _Command:
    """Give a command the flags that say where a store is that nobody serves."""
    return _with_settings(command, _STORE)


def _has_everything(command: _Command) -> _Command:
    """Give a command the flags for a store and for who serves it."""
    return _with_settings(command, (*_STORE, *_PLACE))


def _reports(command: _Command) -> _Command:
    """Give a command that says what it did the format of that."""
    return click.option(
        *("-o", "--output", "form"),
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(command)


def _columns(command: _Command) -> _Command:
    return click.option("--columns", metavar="A,B", default="", help="Which columns, in order.")(
        command
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(SOFTWARE, prog_name="pillion-coordinator")
def cli() -> None:
    """Pillion's coordinator: keeps tasks durably, decides when and where each may run.

    Flags win over the environment, the environment over the file, the file over the defaults.
    """


@cli.command()
@_with_settings
def serve(config_file: str | None, **flags: object) -> None:
    """Serve sidecars until SIGTERM or SIGINT."""
    values = _read(config_file, flags)
    settings = coordinator_settings.build(values)
    from coordinator import runtime  # noqa: PLC0415 (help and config need no ZeroMQ and LMDB)

    sys.exit(runtime.serve(settings))


@cli.command()
@_with_settings
@click.option(
    *("-o", "--output", "form"),
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="A file for --config, or an object for programs.",
)
def config(config_file: str | None, form: str, **flags: object) -> None:
    """Print the settings in effect and where each comes from."""
    values = _read(config_file, flags)
    coordinator_settings.build(values)
    if form == "json":
        import json  # noqa: PLC0415 (nothing else here needs it)

        click.echo(json.dumps({name: values[name]._asdict() for name in values}, indent=2))
    else:
        click.echo("\n".join(describe(coordinator_settings.TABLE, values)))


# What follows asks a running coordinator; each loads its own module only.


@cli.command()
@_asks
def status(form: str, **flags: Any) -> None:
    """One screen: is it well, why not, rates, backlog, oldest task, sidecars, disk."""
    from coordinator.commands.status import status as show  # noqa: PLC0415

    _ask(flags, lambda api: show(api, form))


@cli.command()
@_asks
@_columns
def handlers(form: str, columns: str, **flags: Any) -> None:
    """List handlers: backlog, oldest task, rates, percentiles, who serves them."""
    from coordinator.commands import lists  # noqa: PLC0415

    _ask(flags, lambda api: lists.handlers(api, form, _split(columns)))


@cli.command()
@_asks
@_columns
def sidecars(form: str, columns: str, **flags: Any) -> None:
    """List sidecars: whether they are heard, what they hold and would take."""
    from coordinator.commands import lists  # noqa: PLC0415

    _ask(flags, lambda api: lists.sidecars(api, form, _split(columns)))


@cli.command()
@_asks
@_columns
@click.option("--limit", default=100, show_default=True, help="How many; 0 means all.")
@click.argument("terms", metavar="[FILTER]...", nargs=-1)
def tasks(form: str, columns: str, limit: int, terms: tuple[str, ...], **flags: Any) -> None:
    r"""List the tasks that a filter means.

    \b
    pillion-coordinator tasks state=dead 'handler=mail.*' error~timeout since=1h

    \b
    Fields: id handler state priority collection sidecar error error_type
            attempts since until
    Operators: = != ~ !~ >= <= > <     Several values: state=dead,expired
    """
    from coordinator.commands import lists  # noqa: PLC0415

    wanted = " ".join(terms)
    _ask(flags, lambda api: lists.tasks(api, wanted, max(0, limit), form, _split(columns)))


@cli.command()
@_asks
@click.argument("task_id", metavar="ID")
def trace(form: str, task_id: str, **flags: Any) -> None:
    """Show what has happened to one task, in order, and what it waits for."""
    from coordinator.commands.trace import trace as show  # noqa: PLC0415

    _ask(flags, lambda api: show(api, task_id, form))


@cli.command()
@_has_place
@click.option("--oldest", metavar="DURATION", help="Critical if a ready task has waited longer.")
@click.option("--dead", type=click.IntRange(0), help="Critical with more dead tasks.")
@click.option("--backlog", type=click.IntRange(0), help="Critical with more ready tasks.")
@click.option("--sidecars", type=click.IntRange(0), help="Critical with fewer ready sidecars.")
@click.option("--store", is_flag=True, help="Look for damage in the whole store instead.")
@_reports
def check(oldest: str | None, store: bool, form: str, **flags: Any) -> None:
    """Print one line for a monitoring system.

    Exits 0 if all is well, 1 with a warning, 2 if it is critical or no coordinator answers, 3 if
    nothing can be said.

    With --store: reads every row and checks its checksum, of a coordinator that serves or of a
    store that nobody serves; names what is damaged, and exits 1 if anything is.
    """
    counts = {name: flags.pop(name) for name in ("dead", "sidecars", "backlog")}
    if store:
        from coordinator.commands import scrub  # noqa: PLC0415

        sys.exit(scrub.scrub(_read(flags.pop("config_file"), flags), form))
    from coordinator.commands import check as checking  # noqa: PLC0415

    limits = checking.Thresholds(_duration("--oldest", oldest), **counts)
    codes: list[int] = []
    code = _run(flags, lambda api: codes.append(checking.check(api, limits)))
    sys.exit(codes[0] if codes else code or checking.UNKNOWN)


# What follows saves stores and puts them back.


@cli.command()
@_has_place
@_reports
@click.option("--replace", is_flag=True, help="Replace a FILE that exists, at the end.")
@click.option(
    "--rate",
    metavar="SIZE",
    default="32MiB",
    show_default=True,
    help="How much to copy a second while a coordinator serves.",
)
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path, rate: str, replace: bool, form: str, **flags: Any) -> None:
    """Save the store to FILE, verified, while its coordinator goes on serving.

    If none serves it, its folder is read. FILE has its name only once it is whole. Exits 4 if
    something is in the way, 5 if no coordinator answers, 75 if there is no room.
    """
    from coordinator.commands import backup as backing_up  # noqa: PLC0415

    values = _read(flags.pop("config_file"), flags)
    sys.exit(
        backing_up.backup(
            values, file, rate_mib=_mebibytes("--rate", rate), replace=replace, form=form
        )
    )


@cli.command()
@_has_store
@_reports
@click.option("--replace", is_flag=True, help="Replace the store there; its file is kept beside.")
@click.argument("file", type=click.Path(path_type=Path))
def restore(file: Path, replace: bool, form: str, **flags: Any) -> None:
    """Put the backup FILE into the data folder, verified; the coordinator must be stopped.

    Its epoch jumps, so that tokens only grow; tasks that ended since the backup run again.
    """
    from coordinator.commands import restore as restoring  # noqa: PLC0415

    sys.exit(restoring.restore(_settings(flags), file, replace=replace, form=form))


@cli.command()
@_has_store
@_reports
def compact(form: str, **flags: Any) -> None:
    """Make the store's file as small as what it holds; the coordinator must be stopped."""
    from coordinator.commands import restore as restoring  # noqa: PLC0415

    sys.exit(restoring.compact(_settings(flags), form))


@cli.command("export")
@_has_store
@click.option("--backup", type=click.Path(path_type=Path), help="Read this backup instead.")
@click.option("--all", "ended", is_flag=True, help="Also tasks that have ended.")
@click.argument("file", type=click.Path(path_type=Path), default="-")
def export_tasks(file: Path, backup: Path | None, ended: bool, **flags: Any) -> None:
    """Write the tasks that have not ended to FILE (or stdout) as lines of JSON.

    The coordinator must be stopped; of one that serves, make a backup and export that.
    """
    from coordinator.commands import export  # noqa: PLC0415

    sys.exit(export.export(_settings(flags), file, backup, ended=ended))


@cli.command("import")
@_has_store
@_reports
@click.argument("file", type=click.Path(path_type=Path))
def import_tasks(file: Path, form: str, **flags: Any) -> None:
    """Submit the tasks in FILE (or - for stdin), as export wrote them; ids are kept.

    The coordinator must be stopped. Tasks that are there already are skipped, so that an import can
    be repeated; attempts begin anew. Exits 1 if a line was refused, 75 if the store is full.
    """
    from coordinator.commands import importing  # noqa: PLC0415

    sys.exit(importing.run(_settings(flags), file, form))


@cli.command()
@_has_everything
@_reports
def doctor(form: str, **flags: Any) -> None:
    """Look at folder, disk, limits, clock, sockets and versions, each with a fix.

    Exits 1 if something is bad.
    """
    from coordinator.commands import doctor as looking  # noqa: PLC0415

    sys.exit(looking.doctor(_read(flags.pop("config_file"), flags), form))


def _ask(flags: dict[str, Any], ask: "Callable[[Api], None]") -> NoReturn:
    sys.exit(_run(flags, ask))


def _run(flags: dict[str, Any], ask: "Callable[[Api], None]") -> int:
    from coordinator.commands import running  # noqa: PLC0415

    watch_ms = _duration("--watch", flags.pop("watch", None))
    return running.run(_read(flags.pop("config_file"), flags), ask, watch_ms)


def _settings(flags: dict[str, Any]) -> coordinator_settings.Settings:
    return coordinator_settings.build(_read(flags.pop("config_file"), flags))


def _mebibytes(flag: str, text: str) -> int:
    try:
        return max(1, parse_size(text) >> 20)
    except InvalidUnit as error:
        raise click.UsageError(f"{flag}: {error}") from None


def _duration(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return max(100, parse_duration_ms(text))
    except InvalidUnit as error:
        raise click.UsageError(f"{flag}: {error}") from None


def _split(columns: str) -> list[str]:
    return [name.strip() for name in columns.split(",") if name.strip()]


def _read(config_file: str | None, flags: dict[str, object]) -> Values:
    text = None
    if config_file:
        try:
            text = Path(config_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError([f"--config {config_file}: cannot be read: {error}"]) from None
    return coordinator_settings.read(
        flags=flags, environ=os.environ, file_text=text, file_name=config_file or ""
    )


def main() -> NoReturn:
    """Run the command and exit."""
    try:
        cli(prog_name="pillion-coordinator")
    except SettingsError as error:
        _fail(error, EXIT_SETTINGS)
    except Refused as error:
        _fail(error, EXIT_REFUSED)
    except CoordinatorError as error:
        _fail(error, EXIT_FAILED)
    raise AssertionError("click exits by itself")


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"pillion-coordinator: {line}", err=True)
    sys.exit(code)
