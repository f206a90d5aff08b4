"""Every task that was accepted has ended, as it should, and as its handler says."""

from collections import defaultdict
from collections.abc import Sequence

from examples.demo.evidence import Attempt
from examples.demo.plan import Case
from protocol.limits import HISTORY_MAX

TOLD = {
    "success": {"success"},
    "retry": {"retry", "stopped"},
    "defer": {"defer", "stopped"},
    "fatal": {"fatal"},
}
"""What a handler may have written down, by what the coordinator keeps of an attempt.

Of a ``lost`` one nobody knows the end: the handler may have written anything.
"""


def lost(cases: Sequence[Case]) -> list[str]:
    """Return the accepted tasks that have not ended."""
    return [
        f"{case.handler} {case.id}: {case.trouble or 'it has not ended'}"
        for case in cases
        if case.id and case.status is None
    ]


def not_accepted(cases: Sequence[Case]) -> list[str]:
    """Return the tasks that were not accepted."""
    return [
        f"{case.handler}: {case.trouble or 'it was never submitted'}"
        for case in cases
        if not case.id
    ]


def other_end(cases: Sequence[Case]) -> list[str]:
    """Return the tasks that have ended in another way than they should."""
    wrong = []
    for case in cases:
        if case.status is None:
            continue
        state, why = case.status.state, case.status.error
        if state != case.ends or not why.startswith(case.why):
            wrong.append(f"{case.handler} {case.id}: {state} {why!r}, not {case.ends} {case.why!r}")
    return wrong


def other_history(cases: Sequence[Case], attempts: Sequence[Attempt]) -> list[str]:
    """Return where the coordinator's history differs from what the handlers wrote down."""
    written: dict[str, dict[int, str]] = defaultdict(dict)
    for attempt in attempts:
        written[attempt.task][attempt.delivery] = attempt.outcome
    wrong = []
    for case in cases:
        if case.status is None or len(case.status.history) >= HISTORY_MAX:
            continue  # A long history has lost its middle.
        kept: dict[int, str] = {}
        for record in case.status.history:
            kept[record.number] = record.outcome
            told = written[case.id].get(record.number, "nothing")
            if record.outcome != "lost" and told not in TOLD.get(record.outcome, ()):
                wrong.append(
                    f"{case.handler} {case.id}, delivery {record.number}: the coordinator keeps "
                    f"{record.outcome}, its handler wrote {told}"
                )
        wrong += [
            f"{case.handler} {case.id}, delivery {number}: its handler wrote {told}, "
            "the coordinator keeps nothing"
            for number, told in written[case.id].items()
            if number not in kept
        ]
    return wrong


def redelivered(case: Case) -> int:
    """Return how often a task was leased again because a lease ended without an outcome."""
    if case.status is None or len(case.status.history) >= HISTORY_MAX:
        return 0
    settled = sum(record.outcome != "lost" for record in case.status.history)
    # The last lease of a task that expired while it waited is none.
    return max(0, case.status.deliveries - settled)
