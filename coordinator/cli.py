"""The ``pillion-coordinator`` command: parse, build the settings, call one function.

Exit codes: 0 done; 1 failed, start it again; 2 wrong usage or settings; 3 the store was refused.
After 2 and 3 a restart does not help: a person must mend what the message names.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from coordinator import settings as coordinator_settings
from coordinator.errors import CoordinatorError, Refused
from protocol.settings import SettingsError, Values, describe, options
from protocol.version import SOFTWARE

EXIT_FAILED, EXIT_SETTINGS, EXIT_REFUSED = 1, 2, 3
_Command = Callable[..., None]


def _with_settings(command: _Command) -> _Command:
    """Give a command ``--config`` and a flag for each setting."""
    for option in reversed(options(coordinator_settings.TABLE, coordinator_settings.PREFIX)):
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
def config(config_file: str | None, **flags: object) -> None:
    """Print the settings in effect and where each comes from, as a TOML file."""
    values = _read(config_file, flags)
    coordinator_settings.build(values)
    click.echo("\n".join(describe(coordinator_settings.TABLE, values)))


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
