"""What the command lines of both programs have alike: flags for settings, completion, how they end.

A shell that both sides share, like ``protocol.log``; the only importer of click in this package.
Every error ends as a message and an exit code, never as a traceback. A reader that has seen enough
is no error. What cannot be written is one, and says so.
"""

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from protocol.complaints import asks_json, complaint
from protocol.settings import Setting, SettingsError, options

Command = Callable[..., None]
_INTERRUPTED = 130
_UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)


def with_settings(command: Command, table: Sequence[Setting], prefix: str) -> Command:
    """Give a command ``--config`` and a flag for each setting.

    Args:
        command: The command.
        table: The settings.
        prefix: That of their environment variables.
    """
    for option in reversed(options(table, prefix)):
        flag = click.option(
            option.flag, option.name, default=None, help=option.help, **option.manner
        )
        command = flag(command)
    variable = prefix + "CONFIG"
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        envvar=variable,
        help=f"TOML file with settings by name.  [env: {variable}]",
    )(command)


def text_of(config_file: str | None) -> str | None:
    """Return what is in the file of ``--config``; None if there is none.

    Raises:
        SettingsError: It cannot be read.
    """
    if not config_file:
        return None
    try:
        return Path(config_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"--config {config_file}: cannot be read: {error}"]) from None


SHELL = click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))


def print_completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete the words of a program."""
    made = get_completion_class(shell)
    assert made is not None
    root = ctx.find_root()
    program = root.info_name or ""
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    click.echo(made(root.command, {}, program, variable).source())


class Commands(click.Group):
    """A group whose commands may find that nobody reads what they write."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _write_no_more()  # Whoever read has seen enough.
        return None


def run(cli: Commands, program: str, exits: Mapping[type[Exception], int]) -> NoReturn:
    """Run the command and exit.

    Args:
        cli: All commands.
        program: The name of them together.
        exits: The errors that they raise, and with what each ends.
    """
    _open_closed()
    as_json = asks_json(sys.argv[1:])
    try:
        code = _main(cli, program)
    except click.ClickException as error:
        if as_json:
            text = error.format_message()
            said = complaint(program, text, error.exit_code, code="usage", as_json=True)
            click.echo(said, err=True, nl=False)
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except tuple(exits) as error:
        code = next(exits[kind] for kind in exits if isinstance(error, kind))
        click.echo(complaint(program, str(error), code, as_json=as_json), err=True, nl=False)
    sys.exit(code if isinstance(code, int) else 0)


def _main(cli: Commands, program: str) -> object:
    try:
        return cli.main(prog_name=program, standalone_mode=False)
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _write_no_more()
        raise click.ClickException(f"stdout cannot be written: {error.strerror}") from None


def _write_no_more() -> None:
    """Let what is still to be written go nowhere: Python would complain once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_closed() -> None:
    """Open what was closed of stdin, stdout and stderr, before a store gets its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
