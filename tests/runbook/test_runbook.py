"""The runbook of docs/operations.md: its commands do what they do there, in its situations."""

import pytest

from tests.runbook.page import PAGE, Step, sections, shape
from tests.runbook.situations import SITUATIONS
from tests.runbook.walk import walk

SECTIONS = sections(PAGE.read_text())


def test_each_situation_has_its_section_and_the_other_way_round() -> None:
    assert list(SECTIONS) == list(SITUATIONS)


@pytest.mark.parametrize("title", SECTIONS)
def test_commands_answer_as_the_runbook_says(title: str) -> None:
    steps: list[Step] = SECTIONS[title]
    assert steps
    answers = walk(title, steps)
    for step, answer in zip(steps, answers, strict=True):
        assert shape(answer) == shape(step.answer), step.command
