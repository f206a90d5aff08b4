r"""Filters as text, and back: ``handler=mail.* state=dead error~timeout since=1h``.

    filter   := term { spaces term }           all of its terms must hold
    term     := field operator values
    operator := "=" "!=" "~" "!~" ">=" "<=" ">" "<"
    values   := value { "," value }            one of them must hold; none of them after "!"
    value    := characters without spaces, commas and quotes, or "anything", with \" and \\ in it

``parse`` and ``Filter.text`` fit together: the text of a filter is canonical, two filters that are
written differently and mean the same terms have one text, and parsing it gives the same filter.
"""

import re
from dataclasses import dataclass

from coordinator.core.filters.fields import FIELDS, Operator, Unreadable, Value, near

FILTER_CHARS_MAX = 2_000
TERMS_MAX = 16
VALUES_MAX = 64
_ORDER = {name: place for place, name in enumerate(FIELDS)}
_SIGNS = {operator.value: operator for operator in Operator}
_HEAD = re.compile(r"([A-Za-z_]+)(!=|!~|>=|<=|[=~<>])")
_BARE = re.compile(r'[^\s,"\\]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class FilterError(ValueError):
    """Raised when a text is no filter; names the term, what is wrong with it and what is meant."""

    def __init__(self, term: str, reason: str) -> None:
        self.term = term
        self.reason = reason
        super().__init__(f"{term}: {reason}" if term else reason)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition.

    Invariant: ``values`` are sorted by their text, each once, and are no fewer than one.
    """

    field: str
    operator: Operator
    values: tuple[Value, ...]

    @property
    def text(self) -> str:
        """The canonical text."""
        return self.field + self.operator.value + ",".join(_texts(self.field, self.values))


@dataclass(frozen=True, slots=True)
class Filter:
    """What a task must be to be meant; without terms, every task is.

    Invariant: ``terms`` are in the order of ``FIELDS`` and of their texts, each once.
    """

    terms: tuple[Term, ...] = ()

    @property
    def text(self) -> str:
        """The canonical text."""
        return " ".join([term.text for term in self.terms])

    def only(self, field: str) -> frozenset[Value] | None:
        """Return the values to which ``=`` terms restrict a field, or None if they do not."""
        sets = [
            frozenset(term.values)
            for term in self.terms
            if term.field == field and term.operator is Operator.IS
        ]
        return frozenset.intersection(*sets) if sets else None


def parse(text: str) -> Filter:
    """Return the filter that a text means.

    Raises:
        FilterError: It means none.
    """
    if len(text) > FILTER_CHARS_MAX:
        raise FilterError("", f"a filter has at most {FILTER_CHARS_MAX} characters")
    terms: list[Term] = []
    place = _skip(text, 0)
    while place < len(text):
        term, place = _term(text, place)
        terms.append(term)
        place = _skip(text, place)
    if len(terms) > TERMS_MAX:
        raise FilterError("", f"{len(terms)} terms; a filter has at most {TERMS_MAX}")
    return Filter(tuple(sorted(set(terms), key=lambda term: (_ORDER[term.field], term.text))))


def _term(text: str, start: int) -> tuple[Term, int]:
    head = _HEAD.match(text, start)
    if head is None:
        word = text[start:].split(maxsplit=1)[0]
        raise FilterError(word, "expected FIELD=VALUE, such as state=dead" + _fields(word))
    name, sign = head[1].lower(), head[2]
    field = FIELDS.get(name)
    if field is None:
        raise FilterError(_word(text, start), f"no field is called {head[1]!r}{near(name, FIELDS)}")
    operator = _SIGNS[sign]
    if operator not in field.operators:
        takes = " ".join(allowed.value for allowed in field.operators)
        raise FilterError(_word(text, start), f"{name} takes no {sign}; it takes {takes}")
    raw, end = _values(text, head.end(), start)
    if len(raw) > (1 if field.single else VALUES_MAX):
        most = "one value" if field.single else f"at most {VALUES_MAX} values"
        raise FilterError(text[start:end], f"{name} takes {most}")
    try:
        values = {field.parse(value) for value in raw}
    except Unreadable as error:
        raise FilterError(text[start:end], str(error)) from None
    return Term(name, operator, tuple(sorted(values, key=field.format))), end


def _values(text: str, place: int, start: int) -> tuple[list[str], int]:
    """Return the values behind an operator, and where they end."""
    values: list[str] = []
    while True:
        if quoted := _QUOTED.match(text, place):
            values.append(_ESCAPE.sub(r"\1", quoted[1]))
            place = quoted.end()
        elif bare := _BARE.match(text, place):
            values.append(bare[0])
            place = bare.end()
        elif text[place : place + 1] == '"':
            raise FilterError(text[start:], "a quote is not closed")
        else:
            hint = 'a value is missing; "" is the empty one'
            raise FilterError(_word(text, start), hint)
        if text[place : place + 1] != ",":
            break
        place += 1
    if place < len(text) and not text[place].isspace():
        hint = 'what has spaces, commas, quotes or \\ in it must be quoted: error~"not found"'
        raise FilterError(_word(text, start), hint)
    return values, place


def _texts(field: str, values: tuple[Value, ...]) -> list[str]:
    return [_quoted(FIELDS[field].format(value)) for value in values]


def _quoted(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _word(text: str, start: int) -> str:
    return text[start:].split(maxsplit=1)[0]


def _fields(word: str) -> str:
    return near(re.split(r"[^a-z_]", word.lower(), maxsplit=1)[0], FIELDS)
