"""Filters as text: what is understood, what is said about what is not, and the canonical form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.filters.fields import FIELDS, Operator, Value
from coordinator.core.filters.language import (
    FILTER_CHARS_MAX,
    TERMS_MAX,
    VALUES_MAX,
    Filter,
    FilterError,
    Term,
    parse,
)
from coordinator.core.filters.times import Moment

WORDS = st.text(max_size=12).map(FIELDS["handler"].parse)
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "id": st.sampled_from(["018f2b4c-*", "018f2b4c-5d6e-7abc-8def-0123456789ab"]),
    "state": st.sampled_from(["dead", "ready", "expired"]),
    "priority": st.sampled_from(["critical", "low"]),
    "attempts": st.integers(0, 999_999),
    "since": st.builds(Moment, st.integers(0, 10**10), st.just(0)),
    "until": st.builds(Moment, st.just(0), st.integers(4 * 10**10, 10**13)),
}


@st.composite
def terms(draw: st.DrawFn) -> Term:
    field = FIELDS[draw(st.sampled_from(list(FIELDS)))]
    count = 1 if field.single else 3
    values = draw(st.sets(VALUES.get(field.name, WORDS), min_size=1, max_size=count))
    operator = draw(st.sampled_from(field.operators))
    return Term(field.name, operator, tuple(sorted(values, key=field.format)))


def text_of(terms: list[Term]) -> str:
    return " ".join(term.text for term in terms)


@given(st.lists(terms(), max_size=6))
def test_canonical_text_means_what_was_meant_and_is_its_own_canonical_text(
    drawn: list[Term],
) -> None:
    parsed = parse(text_of(drawn))

    assert set(parsed.terms) == set(drawn)
    assert parse(parsed.text) == parsed
    assert parse(parsed.text).text == parsed.text


@given(st.lists(terms(), max_size=6).flatmap(lambda drawn: st.permutations(drawn + drawn[:1])))
def test_order_and_repetition_change_nothing(drawn: list[Term]) -> None:
    assert parse(text_of(drawn)) == parse(text_of(sorted(drawn, key=lambda term: term.text)))


@given(st.text())
def test_any_text_is_a_filter_or_an_error_that_names_its_term(text: str) -> None:
    try:
        parse(text)
    except FilterError as error:
        assert error.reason
        assert error.term in text


def test_text_is_read_as_it_is_written() -> None:
    assert parse('  state=DEAD,ready handler=mail.**  error~"no \\"room\\"" ') == Filter(
        (
            Term("handler", Operator.IS, ("mail.*",)),
            Term("state", Operator.IS, ("dead", "ready")),
            Term("error", Operator.HAS, ('no "room"',)),
        )
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("handlr=mail.*", "handlr=mail.*: no field is called 'handlr'; did you mean 'handler'?"),
        ("zzz=1", "zzz=1: no field is called 'zzz'; known: id, handler, state"),
        ("state=ded", "state=ded: no state is called 'ded'; did you mean 'dead'?"),
        ("state~dead", "state~dead: state takes no ~; it takes = !="),
        ("priority=urgent", "no priority is called 'urgent'; known: critical, high, normal, low"),
        ("state=", "state=: a value is missing"),
        ("state=dead,", "state=dead,: a value is missing"),
        ("state", "state: expected FIELD=VALUE, such as state=dead; did you mean 'state'?"),
        ("handler=a.b mail", "mail: expected FIELD=VALUE"),
        ('error~"not found', 'error~"not found: a quote is not closed'),
        ('error~not"found"', "must be quoted"),
        ("since=1x", "since=1x: '1x' is no time; expected a number with ms, s, m, h or d"),
        ("since=60", "since=60: '60' is no time"),
        ("since=1h,2h", "since=1h,2h: since takes one value"),
        ("until=2026-02-30", "'2026-02-30' is no time that there is"),
        ("since=9999999d", "longer ago than a hundred years"),
        ("attempts>many", "'many' is no number"),
        ("id=17", "'17' is no task id; expected 36 characters"),
        ("id=018f2b4c-5d6e-4abc-8def-0123456789ab", "is no task id"),
        ("handler=" + "x" * 257, "longer than 256 characters"),
        (" ".join(f"attempts={n}" for n in range(TERMS_MAX + 1)), f"at most {TERMS_MAX}"),
        ("attempts=" + ",".join(str(n) for n in range(VALUES_MAX + 1)), f"at most {VALUES_MAX}"),
        ("x" * (FILTER_CHARS_MAX + 1), f"at most {FILTER_CHARS_MAX} characters"),
    ],
)
def test_what_is_no_filter_is_told_by_its_term_and_what_is_meant(text: str, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert said in str(caught.value)


def test_several_terms_of_one_field_restrict_it_together() -> None:
    assert parse("state=dead,ready state=ready,expired").only("state") == frozenset(["ready"])
    assert parse("state!=dead").only("state") is None
