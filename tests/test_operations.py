"""Every command of the two programs is in the runbook, as one types it, and says what it is for."""

import re

import click
import pytest

from coordinator.cli import cli as coordinator
from sidecar.cli_commands import cli as sidecar
from tests.support.process import ROOT

TEXT = (ROOT / "docs/operations.md").read_text()


def commands(group: click.Group, words: str) -> list[tuple[str, click.Command]]:
    """Return every command below a group, as it is typed; ``list`` may be left out of some."""
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, f"{words} {name}")
        elif name == "list" and group.invoke_without_command:
            found.append((words, command))
        else:
            found.append((f"{words} {name}", command))
    return found


ALL = [*commands(coordinator, "pillion-coordinator"), *commands(sidecar, "pillion-sidecar")]


@pytest.mark.parametrize(("words", "command"), ALL, ids=[words for words, _ in ALL])
def test_command_is_in_the_runbook_and_has_help(words: str, command: click.Command) -> None:
    short = words.partition(" ")[2]
    assert re.search(rf"\b{words}\b|`{short}[ `]", TEXT), f"docs/operations.md lacks {words}"
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{words} --{option.name}"
