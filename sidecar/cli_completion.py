"""Completion in shells: the script, and the handlers that the running sidecar knows."""

import click
from click.shell_completion import CompletionItem

from protocol.command_line import SHELL, print_completion

_SECONDS = 0.2


def handler_names(ctx: click.Context, _: click.Parameter, word: str) -> list[CompletionItem]:
    """Complete a handler of the sidecar's service; nothing if the sidecar does not tell."""
    import json  # noqa: PLC0415

    from sidecar.commands import check  # noqa: PLC0415

    path = ctx.params.get("socket") or check.find_socket()
    try:
        body = check.get(path, "/v1/sidecar", _SECONDS)[1]
        names = json.loads(body)["handler_names"].split(",")
    except (OSError, ValueError, KeyError):
        return []
    return [CompletionItem(name) for name in names if name and name.startswith(word)]


@click.command()
@SHELL
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, flags and handlers in a shell.

    \b
    bash  eval "$(pillion-sidecar completion bash)"         in ~/.bashrc
    zsh   eval "$(pillion-sidecar completion zsh)"          in ~/.zshrc
    fish  pillion-sidecar completion fish > ~/.config/fish/completions/pillion-sidecar.fish

    Handlers come from the sidecar that --socket or PILLION_SIDECAR_SOCKET names, if it answers
    within 0.2 s.
    """  # noqa: D301 (click wants the character)
    print_completion(ctx, shell)
