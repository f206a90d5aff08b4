"""No attempt ran beside another of its task, with an old token, or too early."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from examples.demo.evidence import Attempt
from examples.demo.plan import Case
from sidecar import NewTask


def twice_at_once(attempts: Sequence[Attempt]) -> list[str]:
    """Return the attempts that began before an earlier one of their task had ended."""
    return [
        f"{later.handler} {later.task}: began in {later.process} with token {later.token} while "
        f"token {earlier.token} ran in {earlier.process}"
        for earlier, later in _successive(attempts)
        if earlier.ended_ns is None or later.began_ns < earlier.ended_ns
    ]


def without_end(attempts: Sequence[Attempt]) -> list[str]:
    """Return the attempts that neither ended nor were killed."""
    return [
        f"{attempt.handler} {attempt.task}: token {attempt.token} in {attempt.process}"
        for attempt in attempts
        if attempt.ended_ns is None
    ]


def old_token(attempts: Sequence[Attempt]) -> list[str]:
    """Return the attempts whose token does not exceed that of an earlier one of their task."""
    return [
        f"{later.handler} {later.task}: token {later.token} after {earlier.token}"
        for earlier, later in _successive(attempts)
        if later.token <= earlier.token
    ]


def too_early(cases: Sequence[Case], attempts: Sequence[Attempt]) -> list[str]:
    """Return the attempts that began before their task's delay was over."""
    due_ms = {case.id: case.submitted_ms + _delay_ms(case.task) for case in cases if case.id}
    return [
        f"{attempt.handler} {attempt.task}: {due_ms[attempt.task] - attempt.began_wall_ms} ms early"
        for attempt in attempts
        if attempt.began_wall_ms < due_ms.get(attempt.task, 0)
    ]


def _successive(attempts: Sequence[Attempt]) -> list[tuple[Attempt, Attempt]]:
    """Return each attempt with the next of the same task, by the time at which they began."""
    by_task: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda attempt: attempt.began_ns):
        by_task[attempt.task].append(attempt)
    return [pair for of_task in by_task.values() for pair in pairwise(of_task)]


def _delay_ms(task: NewTask) -> int:
    return int(float(task.delay) * 1000) if isinstance(task.delay, int | float) else 0
