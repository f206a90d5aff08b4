"""A filter as a function of a task.

A filter is compiled once and then asked of very many tasks: each term becomes one function, the
cheapest are asked first, and patterns are compiled.
"""

import re
from collections.abc import Callable

from coordinator.core.filters.fields import Operator, Value
from coordinator.core.filters.language import Filter, Term
from coordinator.core.filters.times import Moment
from coordinator.core.fingerprints import error_type_of, fingerprint_of
from coordinator.core.task import Task
from protocol.ids import to_text
from protocol.messages import Priority, State

Predicate = Callable[[Task], bool]
_Text = Callable[[Task], str]

_COSTS = {"state": 0, "priority": 1, "attempts": 2, "handler": 3, "since": 4, "until": 4}
_NEGATIVE = (Operator.IS_NOT, Operator.HAS_NOT)
_PRIORITIES = tuple(priority.name.lower() for priority in Priority)


def compile_filter(wanted: Filter, now_ms: int) -> Predicate:
    """Return a function that says whether a task is meant at a time of day."""
    asked = sorted(wanted.terms, key=lambda term: _COSTS.get(term.field, 9))
    tests = [_compile(term, now_ms) for term in asked]
    if len(tests) == 1:
        return tests[0]

    def all_hold(task: Task) -> bool:
        for test in tests:  # noqa: SIM110 (a generator would cost more than most of the tests)
            if not test(task):
                return False
        return True

    return all_hold


def handler_names(wanted: Filter) -> Callable[[str], bool]:
    """Return a function that says whether tasks of a handler may be meant, by its name."""
    tests = [
        (_matcher(term.operator, term.values), term.operator not in _NEGATIVE)
        for term in wanted.terms
        if term.field == "handler"
    ]
    return lambda name: all(bool(matches(name)) == positive for matches, positive in tests)


def state_of(task: Task, now_ms: int) -> State:
    """Return the state as observers see it."""
    state = task.state
    if state is State.LEASED and task.running_since_ms:
        return State.RUNNING
    if state is State.SCHEDULED and task.due_ms <= now_ms:
        return State.READY
    return state


def touched_ms(task: Task) -> int:
    """Return when something last happened to a task: it ended, was tried, or was submitted."""
    if task.finished_ms:
        return task.finished_ms
    began = max(task.running_since_ms, task.granted_ms, task.submitted_ms)
    if task.history:
        latest = task.history[-1]
        return max(began, latest.started_ms + latest.run_us // 1000)
    return began


def error_of(task: Task) -> str:
    """Return why a task ended, or why its latest attempt did not succeed."""
    if task.error or not task.history:
        return task.error
    latest = task.history[-1]
    return f"{latest.error_type}: {latest.message}" if latest.message else latest.error_type


def sidecar_of(task: Task) -> str:
    """Return who holds the lease, or who made the latest attempt."""
    if task.session is not None:
        return task.session.sidecar
    return task.history[-1].sidecar if task.history else ""


def _compile(term: Term, now_ms: int) -> Predicate:
    if term.field in ("since", "until"):
        return _compile_moment(term, now_ms)
    if term.field == "attempts":
        return _compile_number(term)
    if term.field == "state":
        states = {State[str(value).upper()] for value in term.values}
        if term.operator is Operator.IS:
            return lambda task: state_of(task, now_ms) in states
        return lambda task: state_of(task, now_ms) not in states
    text = _TEXTS[term.field]
    matches = _matcher(term.operator, term.values)
    if term.operator in _NEGATIVE:
        return lambda task: not matches(text(task))
    return lambda task: bool(matches(text(task)))


def _compile_moment(term: Term, now_ms: int) -> Predicate:
    moment = term.values[0]
    assert isinstance(moment, Moment)
    limit = moment.wall_ms(now_ms)
    if term.field == "since":
        return lambda task: touched_ms(task) >= limit
    return lambda task: touched_ms(task) < limit


def _compile_number(term: Term) -> Predicate:
    numbers = [value for value in term.values if isinstance(value, int)]
    match term.operator:
        case Operator.IS:
            return lambda task: task.attempts in numbers
        case Operator.IS_NOT:
            return lambda task: task.attempts not in numbers
        case Operator.AT_LEAST:
            return lambda task: task.attempts >= min(numbers)
        case Operator.OVER:
            return lambda task: task.attempts > min(numbers)
        case Operator.AT_MOST:
            return lambda task: task.attempts <= max(numbers)
        case _:
            return lambda task: task.attempts < max(numbers)


def _matcher(operator: Operator, values: tuple[Value, ...]) -> Callable[[str], object]:
    """Return a function that says whether a text is, or contains, one of some patterns."""
    patterns = [str(value) for value in values]
    if operator in (Operator.IS, Operator.IS_NOT) and not any("*" in text for text in patterns):
        return frozenset(patterns).__contains__
    parts = [".*".join(re.escape(part) for part in text.split("*")) for text in patterns]
    expression = "|".join(f"(?:{part})" for part in parts)
    if operator in (Operator.IS, Operator.IS_NOT):
        return re.compile(expression, re.DOTALL).fullmatch
    return re.compile(expression, re.DOTALL | re.IGNORECASE).search


_TEXTS: dict[str, _Text] = {
    "id": lambda task: to_text(task.id),
    "handler": lambda task: task.handler.name,
    "priority": lambda task: _PRIORITIES[task.priority],
    "collection": lambda task: task.collection or "",
    "sidecar": sidecar_of,
    "error": error_of,
    "error_type": error_type_of,
    "fingerprint": fingerprint_of,
}
