"""What attempts came to that cannot tell it themselves."""

from collections.abc import Iterable

from protocol.messages import Failure, GrantedTask, Outcome, OutcomeKind
from sidecar.core.lane import Key, Lane, Standing

_CRASH = Failure("crash", "the connection to the service ended while the attempt ran")
_TIMEOUT = Failure("timeout", "the attempt ran longer than its timeout")


def returned(tasks: Iterable[GrantedTask]) -> list[Outcome]:
    """Return the outcomes of tasks that were not handed over."""
    return [Outcome(task[0], task[1], OutcomeKind.RETURNED, 0, None) for task in tasks]


def abandoned(now_ms: int, lane: Lane) -> list[Outcome]:
    """Return the outcomes of attempts whose connection has ended."""
    outcomes = []
    for key, stamp in lane.begun.items():
        if stamp.standing is Standing.LIVE:
            run_us = 1000 * (now_ms - stamp.since_ms)
            outcomes.append(Outcome(*key, OutcomeKind.LOST, run_us, _CRASH))
        elif stamp.standing is not Standing.GONE:
            outcomes.append(unanswered(now_ms, lane, key))
    return outcomes


def unanswered(now_ms: int, lane: Lane, key: Key) -> Outcome:
    """Return the outcome of a revoked attempt that did not say what it came to."""
    stamp = lane.begun[key]
    run_us = 1000 * (now_ms - stamp.since_ms)
    if stamp.standing is Standing.TIMED_OUT:
        return Outcome(*key, OutcomeKind.RETRY, run_us, _TIMEOUT)
    return Outcome(*key, OutcomeKind.RETURNED, run_us, None)
