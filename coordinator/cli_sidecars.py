"""Commands for sidecars: which there are, draining them and lifting that."""

from typing import Any

import click
from click.core import ParameterSource

from coordinator.cli_completion import sidecar_names
from coordinator.cli_options import (
    ask_api,
    ask_to_change,
    asks,
    duration_ms,
    has_columns,
    has_owner,
    split_columns,
)


@click.group(invoke_without_command=True)
@asks
@has_columns
@click.pass_context
def sidecars(context: click.Context, /, **flags: Any) -> None:
    """List sidecars: whether they are heard or drained, what they hold and would take.

    \b
    pillion-coordinator sidecars
    pillion-coordinator sidecars drain host-1 --reason 'a new kernel' --wait 5m
    """  # noqa: D301 (click wants the character)
    if context.invoked_subcommand is None:
        _list(**flags)
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given:
            raise click.UsageError(
                f"{parameter.opts[-1]} stands behind {context.invoked_subcommand}"
            )


def _list(*, form: str, columns: str, **flags: Any) -> None:
    from coordinator.commands import lists  # noqa: PLC0415

    ask_api(flags, lambda api: lists.sidecars(api, form, split_columns(columns)))


@sidecars.command("list")
@asks
@has_columns
def sidecars_list(**flags: Any) -> None:
    """List them."""
    _list(**flags)


_NAME = click.argument("name", shell_complete=sidecar_names)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Change nothing, say what would happen.")


@sidecars.command("drain")
@has_owner
@_NAME
@_DRY_RUN
@click.option(
    "--wait",
    metavar="DURATION",
    help="Wait until it holds no leases; exit 124 if it still does after so long.",
)
def sidecars_drain(name: str, wait: str | None, **rest: Any) -> None:
    """Grant nothing to the sidecars of a name, from now on and until that is lifted.

    What has not begun is given back and goes elsewhere, uncharged; what runs may end. It counts for
    all sidecars of that name, also after a restart of theirs or of the coordinator, and for those
    that come later.
    """
    from coordinator.commands import draining  # noqa: PLC0415

    wait_ms = duration_ms("--wait", wait)
    ask_to_change(
        rest,
        lambda: draining.path_of(name),
        lambda api, wish: draining.drain(api, wish, wait_ms),
    )


@sidecars.command("undrain")
@has_owner
@_NAME
@_DRY_RUN
def sidecars_undrain(name: str, **rest: Any) -> None:
    """Let the sidecars of a name get tasks again."""
    from coordinator.commands import draining  # noqa: PLC0415

    ask_to_change(rest, lambda: draining.path_of(name), draining.undrain)


COMMANDS: tuple[click.Command, ...] = (sidecars,)
