import pytest

from protocol import codec, errors, submission
from protocol.errors import CODES, Code, Fault, InvalidField, LimitExceeded, Malformed


def test_every_code_has_its_facts_and_no_facts_are_without_a_code() -> None:
    assert set(CODES) == {value for name, value in vars(Code).items() if name.isupper()}


@pytest.mark.parametrize("code", CODES)
def test_code_is_short_lower_case_and_says_what_it_means(code: str) -> None:
    facts = CODES[code]
    assert code.replace("_", "").isalpha()
    assert code == code.lower()
    assert facts.meaning.endswith(".")
    assert isinstance(facts.fault, Fault)


@pytest.mark.parametrize("code", CODES)
def test_what_the_sender_did_wrong_is_not_worth_sending_again(code: str) -> None:
    facts = CODES[code]
    assert facts.fault is not Fault.SENDER or not facts.retry or code == Code.TOO_MANY_WAITERS


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Malformed, Code.MALFORMED),
        (InvalidField, Code.MALFORMED),
        (LimitExceeded, Code.LIMIT_EXCEEDED),
        (submission.BatchTooLarge, Code.BATCH_TOO_LARGE),
    ],
)
def test_protocol_error_carries_its_code_and_detail(
    kind: type[errors.ProtocolError], code: str
) -> None:
    error = kind("what was wrong")
    assert (error.code, error.detail, str(error)) == (code, "what was wrong", "what was wrong")


def test_unknown_message_leaves_the_session_alive() -> None:
    error = codec.UnknownMessage(200)
    assert CODES[error.code].session_survives
