"""Completion in shells: the script, and which names fit where.

A parameter that takes names says so by one of the functions here, as its ``shell_complete``.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from coordinator.cli_options import PLACE, read_settings
from protocol.command_line import SHELL, print_completion

if TYPE_CHECKING:
    from coordinator.commands.api import Api

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _named(what: str) -> Complete:
    """Return what completes one kind of name that ``commands.names`` asks for."""

    def complete(ctx: click.Context, _: click.Parameter, word: str) -> list[CompletionItem]:
        from coordinator.commands import names  # noqa: PLC0415

        return _items(_ask(ctx, getattr(names, what)), word)

    return complete


def _ask(ctx: click.Context, question: "Callable[[Api], Sequence[str]]") -> list[str]:
    from coordinator.commands import names  # noqa: PLC0415

    flags = {name: ctx.params.get(name) for name in PLACE}
    try:
        values = read_settings(ctx.params.get("config_file"), flags)
    except Exception:
        return []
    return names.ask(values, question)


def _items(names: Sequence[str], word: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(word)]


handler_names = _named("handlers")
sidecar_names = _named("sidecars")
gate_targets = _named("targets")
gated_targets = _named("gated")
operation_numbers = _named("operations")


def policy_changes(ctx: click.Context, _: click.Parameter, word: str) -> list[CompletionItem]:
    """Complete FIELD=NUMBER with what is so now."""
    from coordinator.commands import names  # noqa: PLC0415

    return _items(_ask(ctx, names.policy_fields(ctx.params.get("handler") or "")), word)


def policy_fields(ctx: click.Context, _: click.Parameter, word: str) -> list[CompletionItem]:
    """Complete the name of a field."""
    from coordinator.commands import names  # noqa: PLC0415

    told = _ask(ctx, names.policy_fields(ctx.params.get("handler") or ""))
    return _items([text.partition("=")[0] for text in told], word)


def filter_terms(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Complete the terms of a filter: several words, or the last one within a quoted option."""
    from coordinator.commands import names  # noqa: PLC0415

    before: Sequence[str] = ctx.params.get(param.name or "") or ()
    head = ""
    if isinstance(param, click.Option):
        head, space, word = word.rpartition(" ")
        before, head = head.split(), head + space
    questions = {"handler": names.handlers, "sidecar": names.sidecars}
    found = names.terms(before, word, lambda field: _ask(ctx, questions[field]))
    return [CompletionItem(head + text) for text in found]


@click.command()
@SHELL
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, flags and live names in a shell.

    \b
    bash  eval "$(pillion-coordinator completion bash)"             in ~/.bashrc
    zsh   eval "$(pillion-coordinator completion zsh)"              in ~/.zshrc
    fish  pillion-coordinator completion fish > ~/.config/fish/completions/pillion-coordinator.fish

    Names of handlers, sidecars, gates and operations come from the coordinator that the
    environment or the flags before them name, if it answers within 0.2 s.
    """  # noqa: D301 (click wants the character)
    print_completion(ctx, shell)
