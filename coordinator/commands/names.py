"""What can be typed next: names that a running coordinator knows, for completion in a shell.

A person waits for it with a finger on a key, so it ends within a fifth of a second, and whatever
goes wrong there is simply nothing.
"""

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple

from coordinator.commands.api import Api, segment
from coordinator.commands.running import place_of
from coordinator.core.filters.fields import FIELDS, PRIORITIES, STATES
from coordinator.settings import build
from protocol.settings import Values

SECONDS = 0.2
_OPERATORS = ("!=", "!~", ">=", "<=", "=", "~", ">", "<")
_MOMENTS = ("10m", "1h", "1d", "7d")


class _TooLate(Exception):
    """Raised when the time is over."""


def ask(values: Values, question: Callable[[Api], Sequence[str]]) -> list[str]:
    """Return what a coordinator answers; nothing if it does not, or not in time."""

    def over(number: int, frame: FrameType | None) -> None:
        raise _TooLate

    before = signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        return list(question(Api(place_of(build(values), values))))
    except Exception:
        return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def handlers(api: Api) -> list[str]:
    """Return the names of handlers."""
    return [row["name"] for row in api.get("/v1/handlers")["handlers"]]


def sidecars(api: Api) -> list[str]:
    """Return the names of sidecars."""
    return [row["name"] for row in api.get("/v1/sidecars")["sidecars"]]


def gated(api: Api) -> list[str]:
    """Return what gates are set on, as commands name it."""
    return [row["scope"] for row in api.get("/v1/gates")["gates"] if row["scope"] != "everything"]


def targets(api: Api) -> list[str]:
    """Return what a gate can be set on: handlers, and collections that had one."""
    return sorted({*handlers(api), *gated(api)})


def operations(api: Api) -> list[str]:
    """Return the numbers of changes of many tasks, the latest first."""
    return [str(row["number"]) for row in api.get("/v1/operations")["operations"]]


def policy_fields(handler: str) -> Callable[[Api], list[str]]:
    """Return what asks for the fields of a policy as they are now."""

    def ask_for(api: Api) -> list[str]:
        policy = api.get(f"/v1/handlers/{segment(handler)}")["policy"]
        return [f"{name}={value}" for name, value in policy.items()]

    return ask_for


class Term(NamedTuple):
    """The part of a term that is being typed."""

    field: str
    """Empty while this itself is typed."""
    prefix: str
    """What stands before the value in the same word; a completion repeats it."""
    value: str


def term_of(before: Sequence[str], word: str) -> Term:
    """Return what a word is a part of; bash makes words of their own of ``=`` and what follows."""
    if before and before[-1] == "=" and len(before) > 1:
        return _valued(before[-2].rstrip("!"), "", word)
    if before and before[-1].rstrip("!") in FIELDS and not word:
        return Term(before[-1].rstrip("!"), "", "")
    for operator in _OPERATORS:
        field, found, value = word.partition(operator)
        if found and field in FIELDS:
            return _valued(field, field + operator, value)
    return Term("", "", word)


def _valued(field: str, prefix: str, value: str) -> Term:
    done, comma, last = value.rpartition(",")
    return Term(field, prefix + done + comma, last)


def terms(before: Sequence[str], word: str, ask_for: Callable[[str], Sequence[str]]) -> list[str]:
    """Return how a word of a filter may go on.

    Args:
        before: The words before it.
        word: What there is of it.
        ask_for: Returns the ``handler`` or ``sidecar`` names that there are.
    """
    term = term_of(before, word)
    if term.field:
        found = _values(term.field, ask_for)
        return [term.prefix + value for value in found if value.startswith(term.value)]
    fields = [name for name in FIELDS if name.startswith(word)]
    if len(fields) != 1:
        return [f"{name}=" for name in fields]
    # With a single completion a shell would go on behind it, where a value is still to come.
    (name,) = fields
    return [f"{name}={value}" for value in _values(name, ask_for)] or [f"{name}=", f"{name}~"]


def _values(field: str, ask_for: Callable[[str], Sequence[str]]) -> list[str]:
    known: Mapping[str, Iterable[str]] = {
        "state": STATES,
        "priority": PRIORITIES,
        "since": _MOMENTS,
        "until": _MOMENTS,
    }
    if field in known:
        return list(known[field])
    return list(ask_for(field)) if field in ("handler", "sidecar") else []
