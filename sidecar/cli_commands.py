"""The commands of ``pillion-sidecar``: parse, call one function, map errors to exit codes.

Exit codes: 0 done; 1 the answer is negative (a task failed under --wait) or the sidecar failed;
2 wrong usage or settings; 3 no such task; 5 the sidecar or the coordinator is out of reach;
75 at a limit, try again; 124 the wait was over first; 130 interrupted.
"""

import os
import sys
from typing import Any, NoReturn

import click

from protocol import command_line
from protocol.command_line import Command
from protocol.settings import SettingsError, Values, describe
from protocol.version import SOFTWARE
from sidecar import settings as sidecar_settings
from sidecar.cli_completion import completion, handler_names
from sidecar.errors import SidecarError

_FAILED, _USAGE = 1, 2


def _output(command: Command) -> Command:
    """Give a command ``-o`` and what is short for it."""
    command = click.option("--json", "output", flag_value="json", help="The same as -o json.")(
        command
    )
    return click.option(
        *("-o", "--output"),
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(command)


_socket = click.option(
    "--socket",
    envvar="PILLION_SIDECAR_SOCKET",
    metavar="PATH",
    help="The sidecar's socket.  [env: PILLION_SIDECAR_SOCKET]",
)


def _with_settings(command: Command) -> Command:
    """Give a command ``--config`` and a flag for each setting."""
    return command_line.with_settings(command, sidecar_settings.TABLE, sidecar_settings.PREFIX)


def _read_settings(config_file: str | None, flags: dict[str, object]) -> Values:
    """Return the values that flags, environment and file set."""
    text = command_line.text_of(config_file)
    return sidecar_settings.read(
        flags=flags, environ=os.environ, file_text=text, file_name=config_file or ""
    )


@click.group(cls=command_line.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(SOFTWARE, prog_name="pillion-sidecar")
def cli() -> None:
    """Pillion's sidecar: carries a service's tasks to the coordinator and back.

    Flags win over the environment, the environment over the file, the file over the defaults.
    """


@cli.command(context_settings={"allow_interspersed_args": False})
@_with_settings
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
def run(config_file: str | None, command: tuple[str, ...], **flags: object) -> None:
    """Serve one service until SIGTERM or SIGINT.

    With COMMAND, run the service's processes as well: start them, restart those that end, replace
    them when they are due, and end them with the sidecar. They find it by PILLION_SIDECAR_SOCKET.
    """
    settings = sidecar_settings.build(_read_settings(config_file, flags), command)
    from sidecar import runtime  # noqa: PLC0415 (the other commands need no ZeroMQ)

    sys.exit(runtime.run(settings))


@cli.command()
@click.argument("handler", shell_complete=handler_names)
@click.argument("payload", default="")
@click.option("--delay", metavar="DURATION", help="Not to begin before, such as 10m.")
@click.option("--at", metavar="TIME", help="Not to begin before, such as 2027-01-31T08:00+01:00.")
@click.option(
    "--priority",
    type=click.Choice(["critical", "high", "normal", "low"]),
    help="Who is served first.  [default: normal]",
)
@click.option("--collection", metavar="NAME", help="Label by which tasks can be held as one.")
@click.option("--expires", metavar="DURATION", help="Not to begin later than this after it is due.")
@click.option("--attempts", type=int, help="Attempts at most.")
@click.option("--id", "task_id", metavar="UUID", help="Makes submitting it again harmless.")
@click.option("--key", metavar="TEXT", help="No second task of HANDLER is made with this key.")
@click.option("--wait", is_flag=True, help="Wait until it has ended; the exit code tells how.")
@click.option("--timeout", metavar="DURATION", help="With --wait: at most so long.")
@click.option("--accepted", is_flag=True, help="Take no answer but the coordinator's.")
@_socket
@_output
def submit(**given: Any) -> None:
    """Submit a task of HANDLER and print its id.

    PAYLOAD is text that travels as it is, usually JSON; @FILE reads a file, - standard input.
    """
    from sidecar.commands import tasks  # noqa: PLC0415

    sys.exit(tasks.submit(**given))


@cli.command()
@click.argument("task_id", metavar="[ID]", required=False)
@_socket
@_output
def status(task_id: str | None, socket: str | None, output: str) -> None:
    """Show the task ID; without ID, show the sidecar itself."""
    from sidecar.commands import tasks  # noqa: PLC0415

    sys.exit(tasks.status(task_id, socket, output))


@cli.command()
@click.argument("task_id", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the task.")
@_socket
@_output
def cancel(task_id: str, reason: str, socket: str | None, output: str) -> None:
    """Cancel the task ID: it ends without another attempt.

    One that waits ends at once. A running attempt is told to stop; the task is cancelled when it
    has, unless it succeeds.
    """
    from sidecar.commands import tasks  # noqa: PLC0415

    sys.exit(tasks.cancel(task_id, reason, socket, output))


@cli.command()
@click.argument("task_id", metavar="ID")
@click.option("--timeout", metavar="DURATION", help="Wait at most so long.")
@_socket
@_output
def wait(task_id: str, timeout: str | None, socket: str | None, output: str) -> None:
    """Wait until the task ID has ended, and print its result."""
    from sidecar.commands import tasks  # noqa: PLC0415

    sys.exit(tasks.wait(task_id, timeout, socket, output))


@cli.command()
@click.option("--live", is_flag=True, help="Look only whether the process answers, for probes.")
@_socket
def check(socket: str | None, live: bool) -> None:
    """Print one line for a monitoring system.

    Exits 0 if all is well, 1 with a warning, 2 if it is critical or no sidecar answers, 3 if
    nothing can be said. Made for probes that run often: it starts in a few hundredths of a second.
    """
    from sidecar.commands import check as checking  # noqa: PLC0415

    sys.exit(checking.check(socket, live=live))


@cli.command()
@_with_settings
@_output
def doctor(config_file: str | None, output: str, **flags: object) -> None:
    """Look at socket, spool, coordinator, limits, clock and processes, each with a fix.

    Takes the settings that run takes. Exits 1 if something is bad.
    """
    from sidecar.commands import doctor as looking  # noqa: PLC0415

    values = _read_settings(config_file, flags)
    sys.exit(looking.doctor(sidecar_settings.build(values), output))


@cli.command()
@_with_settings
@click.option(
    *("-o", "--output", "output"),
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="A file for --config, or an object for programs.",
)
def config(config_file: str | None, output: str, **flags: object) -> None:
    """Print the settings in effect and where each comes from."""
    values = _read_settings(config_file, flags)
    if values.text_or_none("service") is not None:
        sidecar_settings.build(values)
    if output == "json":
        import json  # noqa: PLC0415 (nothing else here needs it)

        click.echo(json.dumps({name: values[name]._asdict() for name in values}, indent=2))
    else:
        click.echo("\n".join(describe(sidecar_settings.TABLE, values)))


cli.add_command(completion)


def main() -> NoReturn:
    """Run the command and exit."""
    command_line.run(cli, "pillion-sidecar", {SettingsError: _USAGE, SidecarError: _FAILED})
