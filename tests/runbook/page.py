"""The page with the runbook: its sections, the commands in them and what each answers.

A block of the page is a ``console`` block; a line that begins with ``$ `` is a command, and what
follows down to the next one is all that it writes, to stdout and to stderr.
"""

import re
from typing import NamedTuple

from tests.support.process import ROOT

PAGE = ROOT / "docs" / "operations.md"
_CHAPTER = re.compile(r"^## Runbook\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^### (.+?)\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?Z?( UTC)?")
_NUMBER = re.compile(r"\b\d[\d.,]*(e[+-]\d+)?( ?(us|ms|s|m|h|d|B|[KMGT]iB)\b)?(\d+s)?")
_NOTHING = re.compile(r"(?<=\s)-(?=\s|$)")


class Step(NamedTuple):
    """One command and what it answers."""

    command: str
    answer: str


def sections(text: str) -> dict[str, list[Step]]:
    """Return the steps of each section of the runbook, by its title."""
    chapter = _CHAPTER.search(text)
    assert chapter is not None, f"{PAGE} has no runbook"
    return {
        title: [step for block in _BLOCK.findall(body) for step in _steps(block)]
        for title, body in _SECTION.findall(chapter[1])
    }


def _steps(block: str) -> list[Step]:
    steps = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, answer = part.partition("\n")
        while command.endswith("\\"):
            more, _, answer = answer.partition("\n")
            command = f"{command}\n{more}"
        steps.append(Step(command, answer))
    return steps


def replaced(text: str, answers: dict[str, list[str]]) -> str:
    """Return the page with other answers: of each section, one for each of its steps."""

    def section(found: re.Match[str]) -> str:
        new = iter(answers[found[1]])

        def block(inner: re.Match[str]) -> str:
            said = "".join(f"$ {step.command}\n{next(new)}" for step in _steps(inner[1]))
            return f"```console\n{said}```"

        return f"### {found[1]}\n{_BLOCK.sub(block, found[2])}"

    def chapter(found: re.Match[str]) -> str:
        return f"## Runbook\n{_SECTION.sub(section, found[1])}"

    return _CHAPTER.sub(chapter, text)


def shape(answer: str) -> list[str]:
    """Return an answer without what differs from run to run: ids, times, numbers, the widths."""
    text = _ID.sub("ID", answer)
    text = _DATE.sub("DATE", text)
    text = _NUMBER.sub("N", text)
    text = _NOTHING.sub("N", text)
    return [" ".join(line.split()) for line in text.splitlines()]
