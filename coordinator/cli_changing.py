"""Commands that change tasks: one or several by id, or all that a filter means."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from coordinator.cli_completion import filter_terms, handler_names, operation_numbers
from coordinator.cli_options import ask_api, asks, has_columns, has_owner, split_columns

if TYPE_CHECKING:
    from coordinator.commands.api import Api


_Command = Callable[..., None]


def _changes_tasks(command: _Command) -> _Command:
    """Give a command what all have that change tasks: which, how carefully, how fast."""
    for option in (
        click.option(
            *("-f", "--filter", "wanted"),
            metavar="FILTER",
            help="All that this means.",
            shell_complete=filter_terms,
        ),
        click.option("--dry-run", is_flag=True, help="Change nothing, count them, show a few."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option(
            "--rate", type=click.IntRange(1, 10_000), help="Tasks a second, at most.  [1000]"
        ),
        click.option("--detach", is_flag=True, help="Do not wait until all are changed."),
        click.argument("ids", metavar="[ID]...", nargs=-1),
    ):
        command = option(command)
    return has_owner(command)


def _change(action: str, rest: dict[str, Any], when: dict[str, int] | None = None) -> NoReturn:
    from coordinator.commands import changing, operating  # noqa: PLC0415

    ids, wanted, rate = rest.pop("ids"), rest.pop("wanted"), rest.pop("rate") or 0
    owner, reason, form = rest.pop("owner"), rest.pop("reason"), rest.pop("form")
    how = {name: rest.pop(name) for name in ("dry_run", "yes", "detach")}

    def ask(api: "Api") -> None:
        by = operating.who(owner, reason)
        wish = changing.Change(action, by, form, rate=rate, when=when or {}, **how)
        changing.change(api, wish, ids, wanted)

    ask_api(rest, ask)


@click.command()
@_changes_tasks
def cancel(**rest: Any) -> None:
    """Cancel tasks: those that wait end at once, attempts that run are told to stop.

    \b
    pillion-coordinator cancel 018f2b4c-5d6e-7abc-8def-0123456789ab
    pillion-coordinator cancel -f 'handler=mail.* collection=spring' --reason 'wrong list'
    """  # noqa: D301 (click wants the character)
    _change("cancel", rest)


@click.command()
@_changes_tasks
@click.option("--at", metavar="TIME", help="When: a time in UTC.")
@click.option("--in", "in_", metavar="DURATION", help="When: so long from now.")
def reschedule(at: str | None, in_: str | None, **rest: Any) -> None:
    """Let tasks that wait become due at another time; now, if none is given."""
    from coordinator.commands import changing, running  # noqa: PLC0415

    try:
        when = changing.when_of(at, in_)
    except running.Usage as error:
        raise click.UsageError(str(error)) from None
    _change("reschedule", rest, when)


@click.group()
def dead() -> None:
    """Dead letters: what has failed for good."""


@dead.command("list")
@asks
@has_columns
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=100,
    show_default=True,
    help="How many groups.",
)
@click.argument("handler", metavar="[HANDLER]", default="", shell_complete=handler_names)
def dead_list(form: str, columns: str, limit: int, handler: str, **flags: Any) -> None:
    """List dead letters in groups of one cause: how many, since when, a sample."""
    from coordinator.commands import changing  # noqa: PLC0415

    ask_api(flags, lambda api: changing.dead(api, handler, limit, form, split_columns(columns)))


@dead.command("requeue")
@_changes_tasks
def dead_requeue(**rest: Any) -> None:
    """Let dead letters begin anew: attempts count from 0 again, the history is kept.

    \b
    pillion-coordinator dead requeue -f 'handler=mail.send fingerprint=1a2b3c4d' --rate 50
    """  # noqa: D301 (click wants the character)
    _change("requeue", rest)


@dead.command("purge")
@_changes_tasks
def dead_purge(**rest: Any) -> None:
    """Remove dead letters; nothing of them is kept."""
    _change("purge", rest)


@click.group()
def operations() -> None:
    """Changes of many tasks: which are under way, how far they are."""


@operations.command("list")
@asks
@has_columns
def operations_list(form: str, columns: str, **flags: Any) -> None:
    """List them, the latest first."""
    from coordinator.commands import changing  # noqa: PLC0415

    ask_api(flags, lambda api: changing.operations(api, form, split_columns(columns)))


@operations.command("show")
@asks
@click.argument("number", shell_complete=operation_numbers)
def operations_show(number: str, form: str, **flags: Any) -> None:
    """Show one of them."""
    from coordinator.commands import changing  # noqa: PLC0415

    ask_api(flags, lambda api: changing.operation(api, number, form))


@operations.command("stop")
@has_owner
@click.argument("number", shell_complete=operation_numbers)
def operations_stop(number: str, owner: str, reason: str, form: str, **flags: Any) -> None:
    """Stop one where it is; what is changed stays changed."""
    from coordinator.commands import changing, operating  # noqa: PLC0415

    ask_api(flags, lambda api: changing.stop(api, number, operating.who(owner, reason), form))


COMMANDS: tuple[click.Command, ...] = (cancel, reschedule, dead, operations)
