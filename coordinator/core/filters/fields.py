"""What a filter may ask of a task: the fields, which operators each takes, and what its values are.

To add a field: one row in ``FIELDS``, and what it looks at in ``predicate``.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from coordinator.core.filters.times import Moment, parse_moment
from protocol import ids
from protocol.errors import InvalidId
from protocol.limits import ATTEMPTS_MAX
from protocol.messages import Priority, State

Value = str | int | Moment
PATTERN_CHARS_MAX = 256


class Operator(Enum):
    """How a field and a value are compared."""

    IS = "="
    IS_NOT = "!="
    HAS = "~"
    """Contains, whatever the case of letters."""
    HAS_NOT = "!~"
    AT_LEAST = ">="
    AT_MOST = "<="
    OVER = ">"
    UNDER = "<"


class Unreadable(ValueError):
    """Raised when a text is no value of a field; says what is."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the language."""

    name: str
    help: str
    parse: Callable[[str], Value]
    """Text to value; raises ``Unreadable``."""
    format: Callable[[Value], str] = str
    operators: tuple[Operator, ...] = (Operator.IS, Operator.IS_NOT)
    single: bool = False
    """Whether only one value can be meant."""


def _pattern(text: str) -> str:
    if len(text) > PATTERN_CHARS_MAX:
        raise Unreadable(f"longer than {PATTERN_CHARS_MAX} characters")
    return re.sub(r"\*+", "*", text)


def _one_of(what: str, names: dict[str, Value]) -> Callable[[str], Value]:
    def parse(text: str) -> Value:
        value = names.get(text.lower())
        if value is None:
            raise Unreadable(f"no {what} is called {text!r}{near(text.lower(), names)}")
        return value

    return parse


def _id(text: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F-]{1,35}\*", text):
        return text.lower()
    try:
        return ids.to_text(ids.from_text(text))
    except InvalidId:
        raise Unreadable(
            f"{text!r} is no task id; expected 36 characters such as "
            "018f2b4c-5d6e-7abc-8def-0123456789ab, or how it begins, followed by *"
        ) from None


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise Unreadable(f"{text!r} is no number from 0 to {ATTEMPTS_MAX}")
    return int(text)


def _moment(text: str) -> Moment:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise Unreadable(str(error)) from None


def near(word: str, known: Iterable[str]) -> str:
    """Return the end of an error: the known word that is meant, or all that there are."""
    words = list(known)
    found = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; known: {', '.join(words)}"


STATES: dict[str, Value] = {state.name.lower(): state.name.lower() for state in State}
PRIORITIES: dict[str, Value] = {p.name.lower(): p.name.lower() for p in Priority}
_TEXTS = (Operator.IS, Operator.IS_NOT, Operator.HAS, Operator.HAS_NOT)
_NUMBERS = (
    *(Operator.IS, Operator.IS_NOT, Operator.AT_LEAST, Operator.AT_MOST),
    *(Operator.OVER, Operator.UNDER),
)

FIELDS = {
    field.name: field
    for field in (
        Field("id", "The task's id, or how it begins: id=018f2b4c-*", _id),
        Field(
            "handler", "Its handler; * stands for anything: handler=mail.*", _pattern, str, _TEXTS
        ),
        Field("state", "One or several: state=dead,expired", _one_of("state", STATES)),
        Field("priority", "critical, high, normal or low", _one_of("priority", PRIORITIES)),
        Field("collection", 'Its collection; collection="" has none', _pattern, str, _TEXTS),
        Field("sidecar", "Who holds its lease, or made its latest attempt", _pattern, str, _TEXTS),
        Field("error", "Why it ended, or its latest attempt failed", _pattern, str, _TEXTS),
        Field("error_type", "The kind of that failure: timeout, crash", _pattern, str, _TEXTS),
        Field("fingerprint", "The group of a dead letter, see dead list", _pattern, str),
        Field("attempts", "Charged attempts: attempts>=3", _number, str, _NUMBERS),
        Field(
            *("since", "Submitted, tried or ended no longer ago: since=1h", _moment, str),
            operators=(Operator.IS,),
            single=True,
        ),
        Field(
            *("until", "The same, the other way round: until=2026-01-31T12:00Z", _moment, str),
            operators=(Operator.IS,),
            single=True,
        ),
    )
}
"""The fields in the order in which the canonical form names them."""
