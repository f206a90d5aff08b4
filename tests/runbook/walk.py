"""Walk through a section of the runbook: make its situation, and do one step after the other."""

import re
import time
from collections.abc import Sequence

from tests.runbook.page import Step
from tests.runbook.situations import SITUATIONS
from tests.support.processes import System

AWAIT_SECONDS = 30.0


def walk(title: str, steps: Sequence[Step]) -> list[str]:
    """Return what each step answers.

    Raises:
        AssertionError: What a step's answer must tell has not come true in time.
    """
    with System() as system:
        stage = SITUATIONS[title](system)
        answers = []
        for number, step in enumerate(steps):
            action = stage.by_hand.get(step.command)
            if action is not None:
                action()
                answers.append("")
                continue
            deadline = time.monotonic() + AWAIT_SECONDS
            answer = stage.shell.run(step.command)
            while not re.search(stage.awaits.get(number, ""), answer):
                assert time.monotonic() < deadline, f"{step.command} answers\n{answer}"
                answer = stage.shell.run(step.command)
            answers.append(answer)
        return answers
