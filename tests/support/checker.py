"""Judge a history: what was promised of tasks, apart from the workload that ran.

**When an attempt is authorised.** From when its handler began until the first of:

- the handler's end, which it writes before its outcome can be told to anyone;
- the instant before its process was sent SIGKILL: the process does nothing after it, and the
  sidecar learns of its death from its closed socket, so a next attempt may begin right then.

Nothing else ends it. A sidecar or a coordinator that was killed or stood still leaves the handlers
running; the rules of sessions must have stopped them before the next attempt begins. Handlers that
do not look whether they are told to stop must be shorter than the margins of these rules, which are
a tenth of the session timeout, and 250 ms at least, on either side.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.support.history import Attempt, History, TaskHistory

FOREVER = 2**63


def authorised_until_ns(attempt: Attempt, history: History) -> int:
    """Return the end of an attempt's authority, or ``FOREVER``."""
    ended_ns = FOREVER if attempt.ended_ns is None else attempt.ended_ns
    return min(ended_ns, history.killed_ns.get(attempt.process, FOREVER))


Check = Callable[[TaskHistory, History], Iterator[str]]


def violations(history: History) -> list[str]:
    """Return everything in a history that must not be, in words; an empty list is a success."""
    return [
        f"task {task.id}: {found}"
        for task in history.tasks.values()
        for check in CHECKS
        for found in check(task, history)
    ]


def ends(task: TaskHistory, _: History) -> Iterator[str]:
    """An accepted task reaches one terminal state, and stays in it."""
    if task.accepted and not task.seen:
        yield "accepted, but never seen in a terminal state"
    states = {seen.state for seen in task.seen}
    if len(states) > 1:
        yield f"seen in several terminal states: {', '.join(sorted(states))}"


def runs_alone(task: TaskHistory, history: History) -> Iterator[str]:
    """No attempt begins while another is authorised."""
    for i, attempt in enumerate(task.attempts):
        until_ns = authorised_until_ns(attempt, history)
        for later in task.attempts[i + 1 :]:
            if later.began_ns < until_ns:
                both_ns = min(until_ns, authorised_until_ns(later, history)) - later.began_ns
                both_ms = f"{both_ns / 1e6:.1f} ms"
                yield (
                    f"twice at once: token {later.token} began in {later.process} while token "
                    f"{attempt.token} was authorised in {attempt.process}, for {both_ms}"
                )


def tokens_grow(task: TaskHistory, _: History) -> Iterator[str]:
    """Each attempt has a higher token than those before, and no token runs twice."""
    tokens = [attempt.token for attempt in task.attempts]
    for token in sorted({token for token in tokens if tokens.count(token) > 1}):
        yield f"token {token} ran {tokens.count(token)} times"
    for earlier, later in pairwise(task.attempts):
        if later.token < earlier.token:
            yield f"token {later.token} began after token {earlier.token}"


def was_submitted(task: TaskHistory, _: History) -> Iterator[str]:
    """Only what was submitted and not rejected runs, with the payload that was submitted."""
    if not task.attempts:
        return
    if task.called_ns is None or task.called_ns > task.attempts[0].began_ns:
        yield "ran, but had not been submitted"
        return
    refused = [v for v in task.verdicts if v not in ("accepted", "unknown")]
    if refused:
        yield f"ran, but had been refused: {refused[0]}"
    for attempt in task.attempts:
        if attempt.crc != task.crc:
            yield f"token {attempt.token} got another payload than was submitted"


def success_is_final(task: TaskHistory, _: History) -> Iterator[str]:
    """Nothing runs once a task has ended, and the attempt that succeeded is the last."""
    if not task.seen:
        return
    first = task.seen[0]
    for attempt in task.attempts:
        if attempt.began_ns > first.at_ns:
            yield f"token {attempt.token} began after the task was seen {first.state}"
    taken = [a for a in task.attempts if a.how == "success" and a.result == first.result]
    if first.state == "succeeded" and taken:
        last = max(attempt.token for attempt in task.attempts)
        if taken[-1].token != last:
            yield f"the result of token {taken[-1].token} was taken, but token {last} was granted"


def attempts_are_bounded(task: TaskHistory, _: History) -> Iterator[str]:
    """No more attempts are charged, and none has a higher number, than the policy allows."""
    for attempt in task.attempts:
        if not 1 <= attempt.attempt <= attempt.attempts_max:
            yield f"token {attempt.token} is attempt {attempt.attempt} of {attempt.attempts_max}"
    for seen in task.seen:
        if seen.attempts > seen.attempts_max:
            yield f"{seen.attempts} attempts were charged; the policy allows {seen.attempts_max}"


def results_are_the_handlers(task: TaskHistory, _: History) -> Iterator[str]:
    """A task succeeds only by an attempt that did, and its result is what that returned."""
    for seen in task.seen:
        if seen.state != "succeeded":
            continue
        results = [a.result for a in task.attempts if a.how == "success"]
        if not results:
            yield "seen as succeeded, but no attempt succeeded"
        elif seen.result not in results:
            yield f"the result {seen.result!r} is of no attempt"


CHECKS: tuple[Check, ...] = (
    ends,
    runs_alone,
    tokens_grow,
    was_submitted,
    success_is_final,
    attempts_are_bounded,
    results_are_the_handlers,
)
