"""The outcome table itself, against the contract written out once more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import fields, limits
from protocol.messages import Failure, OutcomeKind, Result
from sidecar.invoke.answers import (
    FATES,
    TABLE,
    Ending,
    Fate,
    Told,
    ending,
    fate_of,
    retry_after_ms,
    tail,
)

NOON_MS = 1_700_000_000_000
FATAL = {400, 402, *range(406, 408), 410, *range(411, 421), 422, 424, *range(426, 429)}
FATAL |= {*range(430, 500), 501, 505, *range(300, 400)}
CONTRACT = {
    Fate.LATER: {202},
    Fate.SUCCESS: {200, 201, *range(203, 300)},
    Fate.DEFER: {409, 423, 425, 429, 503},
    Fate.MISROUTED: {401, 403, 404, 405, 421},
    Fate.FATAL: FATAL,
    Fate.RETRY: {408, 500, 502, 504, *range(506, 600)},
}


def failure(end: Ending) -> Failure:
    assert isinstance(end.value, Failure)
    return end.value


def test_every_status_has_the_fate_of_the_contract() -> None:
    assert sorted(s for statuses in CONTRACT.values() for s in statuses) == [*range(200, 600)]
    for fate, statuses in CONTRACT.items():
        assert {s for s in statuses if fate_of(str(s), {}) is not fate} == set()


@pytest.mark.parametrize(
    ("fate", "codes"),
    [
        (Fate.SUCCESS, [0]),
        (Fate.DEFER, [75]),
        (Fate.FATAL, [64, 65, 78]),
        (Fate.RETRY, [1, 2, 63, 66, 74, 76, 77, 79, 126, 127, 255]),
    ],
)
def test_every_exit_code_has_the_fate_of_the_contract(fate: Fate, codes: list[int]) -> None:
    assert {fate_of(f"exit-{code}", {}) for code in codes} == {fate}


def test_no_sign_stands_twice() -> None:
    assert len(FATES) == sum(len(signs) for _, signs in TABLE)


@pytest.mark.parametrize(
    ("overrides", "sign", "fate"),
    [
        ({"404": Fate.FATAL}, "404", Fate.FATAL),
        ({"4xx": Fate.RETRY}, "404", Fate.RETRY),
        ({"4xx": Fate.RETRY, "404": Fate.SUCCESS}, "404", Fate.SUCCESS),
        ({"exit-3": Fate.FATAL}, "exit-3", Fate.FATAL),
        ({"exit": Fate.DEFER}, "exit-3", Fate.DEFER),
        ({"404": Fate.FATAL}, "403", Fate.MISROUTED),
    ],
)
def test_overrides_win_the_nearer_one_first(
    overrides: dict[str, Fate], sign: str, fate: Fate
) -> None:
    assert fate_of(sign, overrides) is fate


@pytest.mark.parametrize(
    ("told", "result"),
    [
        (Told(), None),
        (Told(b"", "text/plain"), None),
        (Told(b"1", "application/json; charset=utf-8"), Result(None, b"1")),
        (Told(b"x", "text/plain"), Result("text/plain", b"x")),
        (Told(b"x"), Result("application/octet-stream", b"x")),
        (Told(b"x", "text/" + "p" * 200), Result("application/octet-stream", b"x")),
    ],
)
def test_body_of_a_success_is_its_result(told: Told, result: Result | None) -> None:
    assert ending("200", told) == Ending(Fate.SUCCESS, OutcomeKind.SUCCESS, result)


def test_result_that_cannot_be_kept_is_fatal() -> None:
    end = ending("200", Told(bytes(limits.RESULT_BYTES_MAX + 1)))

    assert end.kind is OutcomeKind.FATAL
    assert failure(end).error_type == "too-large"


@pytest.mark.parametrize("word", ["success", "retry", "defer", "FATAL "])
def test_answer_that_names_its_outcome_beats_the_status(word: str) -> None:
    assert ending("500", Told(outcome=word)).fate.value == word.strip().lower()


@pytest.mark.parametrize("word", ["sucess", "lost", "later", "misrouted"])
def test_answer_that_names_no_outcome_is_unreadable(word: str) -> None:
    end = ending("200", Told(outcome=word))

    assert (end.kind, failure(end).error_type) == (OutcomeKind.RETRY, "bad-answer")
    assert word in failure(end).message


@pytest.mark.parametrize(
    ("sign", "error_type"),
    [
        ("503", "http-503"),
        ("exit-3", "exit-3"),
        ("signal", "crash"),
        ("closed", "crash"),
        ("timeout", "timeout"),
        ("404", "misrouted"),
        ("unreadable", "bad-answer"),
    ],
)
def test_failure_has_a_short_class(sign: str, error_type: str) -> None:
    assert failure(ending(sign)).error_type == error_type


def test_problem_is_read_into_the_failure() -> None:
    problem = {"type": "https://x/no-credit", "title": "No credit", "detail": "0 EUR", "x": 1}
    told = Told(json.dumps(problem).encode(), "application/problem+json; charset=utf-8")

    assert failure(ending("422", told)) == Failure(
        "https://x/no-credit", "the service answered 422: No credit", "0 EUR"
    )


@pytest.mark.parametrize(
    ("told", "error_type", "detail"),
    [
        (Told(b'{"type": "about:blank"}', "application/problem+json"), "http-500", ""),
        (Told(b'{"type": "x"}', "application/json", error_type="y"), "y", ""),
        (Told(b"[1]", "application/json"), "http-500", "[1]"),
        (Told(b"{", "application/json"), "http-500", "{"),
        (Told(b"\xff oh", "text/plain"), "http-500", "\ufffd oh"),
    ],
)
def test_text_of_an_error_is_kept(told: Told, error_type: str, detail: str) -> None:
    said = failure(ending("500", told))

    assert (said.error_type, said.detail) == (error_type, detail)


@pytest.mark.parametrize(
    ("seconds", "milliseconds", "wait_ms"),
    [
        ("", "", None),
        ("30", "", 30_000),
        ("30", "250", 250),
        ("30", "soon", 30_000),
        ("0", "", 0),
        ("-1", "", None),
        ("1.5", "", None),
        ("Tue, 14 Nov 2023 22:13:30 GMT", "", 10_000),
        ("Tue, 14 Nov 2023 22:13:10 GMT", "", 0),
        ("Tue, 99 Nov 2023", "", None),
        ("999999999999", "", limits.DELAY_MS_MAX),
        ("9" * 5_000, "9" * 5_000, None),
        ("\u0663", "", None),
    ],
)
def test_wait_asked_for_is_read(seconds: str, milliseconds: str, wait_ms: int | None) -> None:
    assert retry_after_ms(seconds, milliseconds, NOON_MS) == wait_ms


def test_tail_keeps_the_end() -> None:
    text = tail(b"a" * 10_000 + b"\xffend")

    assert len(text) == limits.ERROR_DETAIL_CHARS_MAX
    assert text.startswith("…")
    assert text.endswith("\ufffdend")


JSON_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PROBLEMS = st.dictionaries(
    st.sampled_from(["type", "title", "detail", "message", "error_type"]), JSON_VALUES
)


@given(
    sign=st.sampled_from(sorted(FATES)),
    body=st.binary(max_size=200) | PROBLEMS.map(lambda x: json.dumps(x).encode()),
    content_type=st.sampled_from(["application/json", "application/problem+json", "x", ""]),
    outcome=st.sampled_from(["", "", "fatal", "success", "?"]),
    error_type=st.text(max_size=300),
    retry_after_ms=st.none() | st.integers(0, 2**70),
)
def test_whatever_is_told_becomes_an_outcome_that_can_travel(sign: str, **told: Any) -> None:
    end = ending(sign, Told(**told))

    if isinstance(end.value, Failure):
        fields.failure("value", list(end.value))
        assert end.value.message
    elif end.value is not None:
        fields.result("value", list(end.value))
