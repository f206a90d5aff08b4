"""The ``pillion-coordinator`` command: parse, build the settings, call one function.

Exit codes of ``serve``: 0 done; 1 failed, start it again; 2 wrong usage or settings; 3 the store
was refused. After 2 and 3 a restart does not help: a person must mend what the message names. Those
of commands that ask a coordinator are told in ``commands.running``, of ``check`` in its help.
"""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from coordinator import cli_changing, cli_live, cli_operating, cli_sidecars
from coordinator import settings as coordinator_settings
from coordinator.cli_completion import filter_terms
from coordinator.cli_options import (
    ask_api,
    asks,
    duration_ms,
    has_columns,
    has_everything,
    has_place,
    has_store,
    mebibytes,
    read_settings,
    reports,
    run_command,
    settings_of,
    split_columns,
    with_settings,
)
from coordinator.errors import CoordinatorError, Refused
from protocol import command_line
from protocol.settings import SettingsError, describe
from protocol.version import SOFTWARE

EXIT_FAILED, EXIT_SETTINGS, EXIT_REFUSED = 1, 2, 3


@click.group(cls=command_line.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(SOFTWARE, prog_name="pillion-coordinator")
def cli() -> None:
    """Pillion's coordinator: keeps tasks durably, decides when and where each may run.

    Flags win over the environment, the environment over the file, the file over the defaults.
    """


@cli.command()
@with_settings
def serve(config_file: str | None, **flags: object) -> None:
    """Serve sidecars until SIGTERM or SIGINT."""
    values = read_settings(config_file, flags)
    settings = coordinator_settings.build(values)
    from coordinator import runtime  # noqa: PLC0415 (help and config need no ZeroMQ and LMDB)

    sys.exit(runtime.serve(settings))


@cli.command()
@with_settings
@click.option(
    *("-o", "--output", "form"),
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="A file for --config, or an object for programs.",
)
def config(config_file: str | None, form: str, **flags: object) -> None:
    """Print the settings in effect and where each comes from."""
    values = read_settings(config_file, flags)
    coordinator_settings.build(values)
    if form == "json":
        import json  # noqa: PLC0415 (nothing else here needs it)

        click.echo(json.dumps({name: values[name]._asdict() for name in values}, indent=2))
    else:
        click.echo("\n".join(describe(coordinator_settings.TABLE, values)))


# What follows asks a running coordinator; each loads its own module only.


@cli.command()
@asks
def status(form: str, **flags: Any) -> None:
    """One screen: is it well, why not, rates, backlog, oldest task, sidecars, disk."""
    from coordinator.commands.status import status as show  # noqa: PLC0415

    ask_api(flags, lambda api: show(api, form))


@cli.command()
@asks
@has_columns
def handlers(form: str, columns: str, **flags: Any) -> None:
    """List handlers: backlog, oldest task, rates, percentiles, who serves them."""
    from coordinator.commands import lists  # noqa: PLC0415

    ask_api(flags, lambda api: lists.handlers(api, form, split_columns(columns)))


@cli.command()
@asks
@has_columns
@click.option("--limit", default=100, show_default=True, help="How many; 0 means all.")
@click.argument("terms", metavar="[FILTER]...", nargs=-1, shell_complete=filter_terms)
def tasks(form: str, columns: str, limit: int, terms: tuple[str, ...], **flags: Any) -> None:
    """List the tasks that a filter means.

    \b
    pillion-coordinator tasks state=dead 'handler=mail.*' error~timeout since=1h

    \b
    Fields: id handler state priority collection sidecar error error_type
            attempts since until
    Operators: = != ~ !~ >= <= > <     Several values: state=dead,expired
    """  # noqa: D301 (click wants the character)
    from coordinator.commands import lists  # noqa: PLC0415

    wanted = " ".join(terms)
    chosen = split_columns(columns)
    ask_api(flags, lambda api: lists.tasks(api, wanted, max(0, limit), form, chosen))


@cli.command()
@asks
@click.argument("task_id", metavar="ID")
def trace(form: str, task_id: str, **flags: Any) -> None:
    """Show what has happened to one task, in order, and what it waits for."""
    from coordinator.commands.trace import trace as show  # noqa: PLC0415

    ask_api(flags, lambda api: show(api, task_id, form))


@cli.command()
@has_place
@click.option("--oldest", metavar="DURATION", help="Critical if a ready task has waited longer.")
@click.option("--dead", type=click.IntRange(0), help="Critical with more dead tasks.")
@click.option("--backlog", type=click.IntRange(0), help="Critical with more ready tasks.")
@click.option("--sidecars", type=click.IntRange(0), help="Critical with fewer ready sidecars.")
@click.option("--store", is_flag=True, help="Look for damage in the whole store instead.")
@reports
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

        sys.exit(scrub.scrub(read_settings(flags.pop("config_file"), flags), form))
    from coordinator.commands import check as checking  # noqa: PLC0415

    limits = checking.Thresholds(duration_ms("--oldest", oldest), **counts)
    codes: list[int] = []
    code = run_command(flags, lambda api: codes.append(checking.check(api, limits, form)))
    sys.exit(codes[0] if codes else code or checking.UNKNOWN)


# What follows saves stores and puts them back.


@cli.command()
@has_place
@reports
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

    values = read_settings(flags.pop("config_file"), flags)
    sys.exit(
        backing_up.backup(
            values, file, rate_mib=mebibytes("--rate", rate), replace=replace, form=form
        )
    )


@cli.command()
@has_store
@reports
@click.option("--replace", is_flag=True, help="Replace the store there; its file is kept beside.")
@click.argument("file", type=click.Path(path_type=Path))
def restore(file: Path, replace: bool, form: str, **flags: Any) -> None:
    """Put the backup FILE into the data folder, verified; the coordinator must be stopped.

    Its epoch jumps, so that tokens only grow; tasks that ended since the backup run again.
    """
    from coordinator.commands import restore as restoring  # noqa: PLC0415

    sys.exit(restoring.restore(settings_of(flags), file, replace=replace, form=form))


@cli.command()
@has_store
@reports
def compact(form: str, **flags: Any) -> None:
    """Make the store's file as small as what it holds; the coordinator must be stopped."""
    from coordinator.commands import restore as restoring  # noqa: PLC0415

    sys.exit(restoring.compact(settings_of(flags), form))


@cli.command("export")
@has_store
@click.option("--backup", type=click.Path(path_type=Path), help="Read this backup instead.")
@click.option("--all", "ended", is_flag=True, help="Also tasks that have ended.")
@click.argument("file", type=click.Path(path_type=Path), default="-")
def export_tasks(file: Path, backup: Path | None, ended: bool, **flags: Any) -> None:
    """Write the tasks that have not ended to FILE (or stdout) as lines of JSON.

    The coordinator must be stopped; of one that serves, make a backup and export that.
    """
    from coordinator.commands import export  # noqa: PLC0415

    sys.exit(export.export(settings_of(flags), file, backup, ended=ended))


@cli.command("import")
@has_store
@reports
@click.argument("file", type=click.Path(path_type=Path))
def import_tasks(file: Path, form: str, **flags: Any) -> None:
    """Submit the tasks in FILE (or - for stdin), as export wrote them; ids are kept.

    The coordinator must be stopped. Tasks that are there already are skipped, so that an import can
    be repeated; attempts begin anew. Exits 1 if a line was refused, 75 if the store is full.
    """
    from coordinator.commands import importing  # noqa: PLC0415

    sys.exit(importing.run(settings_of(flags), file, form))


@cli.command()
@has_everything
@reports
def doctor(form: str, **flags: Any) -> None:
    """Look at folder, disk, limits, clock, sockets and versions, each with a fix.

    Exits 1 if something is bad.
    """
    from coordinator.commands import doctor as looking  # noqa: PLC0415

    sys.exit(looking.doctor(read_settings(flags.pop("config_file"), flags), form))


for _command in (
    *cli_live.COMMANDS,
    *cli_operating.COMMANDS,
    *cli_changing.COMMANDS,
    *cli_sidecars.COMMANDS,
):
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command and exit."""
    command_line.run(
        cli,
        "pillion-coordinator",
        {SettingsError: EXIT_SETTINGS, Refused: EXIT_REFUSED, CoordinatorError: EXIT_FAILED},
    )
