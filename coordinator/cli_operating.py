"""Commands by which operators change something, beside the ones that show it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from coordinator.cli_completion import (
    gate_targets,
    gated_targets,
    handler_names,
    policy_changes,
    policy_fields,
)
from coordinator.cli_options import (
    ask_api,
    ask_to_change,
    asks,
    has_columns,
    has_owner,
    split_columns,
)

if TYPE_CHECKING:
    from coordinator.commands.api import Api
    from coordinator.commands.operating import Wish


@click.command()
@asks
@has_columns
def gates(form: str, columns: str, **flags: Any) -> None:
    """List gates: what each holds, who has set it, why, until when."""
    from coordinator.commands import operating  # noqa: PLC0415

    ask_api(flags, lambda api: operating.gates(api, form, split_columns(columns)))


_TARGET = click.argument(
    "target", metavar="[HANDLER|HANDLER/COLLECTION]", default="", shell_complete=gate_targets
)
_GATED = click.argument(
    "target", metavar="[HANDLER|HANDLER/COLLECTION]", default="", shell_complete=gated_targets
)
_ALL = click.option("--all", "everything", is_flag=True, help="Everything, instead.")
_UNTIL = click.option(
    "--until",
    metavar="WHEN",
    help="End it by itself: after a duration (2h), or at a time in UTC.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Change nothing, say what would happen.")


@click.command()
@has_owner
@_TARGET
@_ALL
@_UNTIL
@_DRY_RUN
def pause(until: str | None, **rest: Any) -> None:
    """Hold tasks: they wait until the gate is lifted. What is leased runs on.

    \b
    pillion-coordinator pause mail.send --reason 'provider is down' --until 2h
    pillion-coordinator pause mail.send/campaign-7
    """  # noqa: D301 (click wants the character)
    _set_gate("pause", until, rest)


@click.command()
@has_owner
@_TARGET
@_ALL
@_UNTIL
@_DRY_RUN
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(until: str | None, **rest: Any) -> None:
    """End tasks that are ready, and those that become so, until the gate is lifted.

    They are told as dropped, with the reason. What is leased runs on.
    """
    _set_gate("drop", until, rest)


@click.command()
@has_owner
@_GATED
@_ALL
@_DRY_RUN
def resume(**rest: Any) -> None:
    """Lift a gate, whether it pauses or drops."""
    from coordinator.commands import operating  # noqa: PLC0415

    ask_to_change(rest, _gate_path(rest), operating.lift_gate)


def _set_gate(kind: str, until: str | None, rest: dict[str, Any]) -> NoReturn:
    from coordinator.commands import operating  # noqa: PLC0415

    def change(api: "Api", wish: "Wish") -> None:
        operating.set_gate(api, wish, kind, operating.until_ms(until))

    ask_to_change(rest, _gate_path(rest), change)


def _gate_path(rest: dict[str, Any]) -> Callable[[], str]:
    from coordinator.commands import operating  # noqa: PLC0415

    target, everything = rest.pop("target"), rest.pop("everything")
    return lambda: operating.path_of(target, everything)


@click.group()
def policy() -> None:
    """Show and change how a handler's attempts are bounded and spaced."""


@policy.command("show")
@asks
@click.argument("handler", shell_complete=handler_names)
def policy_show(handler: str, form: str, **flags: Any) -> None:
    """Show what counts, what the owner declares, and who has changed it."""
    from coordinator.commands import operating  # noqa: PLC0415

    ask_api(flags, lambda api: operating.policy(api, handler, form))


@policy.command("set")
@has_owner
@click.argument("handler", shell_complete=handler_names)
@click.argument(
    *("changes",),
    metavar="FIELD=NUMBER...",
    nargs=-1,
    required=True,
    shell_complete=policy_changes,
)
@_DRY_RUN
def policy_set(handler: str, changes: tuple[str, ...], **rest: Any) -> None:
    """Change fields of the policy; this wins over what the owner declares, until it is reverted.

    \b
    pillion-coordinator policy set mail.send concurrency=5 --reason 'spare the provider'
    pillion-coordinator policy set mail.send timeout_ms=30s --dry-run

    \b
    Fields: attempts_max backoff_ms_min backoff_ms_max timeout_ms concurrency
            crashes_max deferrals_max start_within_ms
    """  # noqa: D301 (click wants the character)
    from coordinator.commands import operating  # noqa: PLC0415

    ask_to_change(
        rest,
        lambda: operating.policy_path(handler),
        lambda api, wish: operating.set_policy(api, changes, wish),
    )


@policy.command("revert")
@has_owner
@click.argument("handler", shell_complete=handler_names)
@click.argument("fields", metavar="[FIELD]...", nargs=-1, shell_complete=policy_fields)
@_DRY_RUN
def policy_revert(handler: str, fields: tuple[str, ...], **rest: Any) -> None:
    """Let what the owner declares count again: for some fields, or for all."""
    from coordinator.commands import operating  # noqa: PLC0415

    ask_to_change(
        rest,
        lambda: operating.policy_path(handler),
        lambda api, wish: operating.revert_policy(api, fields, wish),
    )


@click.command()
@asks
@has_columns
@click.option("--limit", default=100, show_default=True, help="How many; 0 means all.")
def audit(form: str, columns: str, limit: int, **flags: Any) -> None:
    """List what operators have done, the latest first."""
    from coordinator.commands import operating  # noqa: PLC0415

    ask_api(flags, lambda api: operating.audit(api, max(0, limit), form, split_columns(columns)))


COMMANDS: tuple[click.Command, ...] = (gates, pause, drop, resume, policy, audit)
