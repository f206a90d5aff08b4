from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, limits, submission
from protocol import messages as m
from protocol.errors import Code, Malformed, ProtocolError
from protocol.options import OPTIONS, Form
from tests.protocol import strategies
from tests.protocol.examples import CARRIED
from tests.support.builders import a_submission, task_id

options = st.fixed_dictionaries(
    {},
    optional={
        key: st.integers(*expected)
        for key, expected in OPTIONS.items()
        if not isinstance(expected, Form) and key != "at_ms"
    }
    | {
        "collection": strategies.names,
        "key": st.text("xyz äß/", min_size=1, max_size=255),
        "traceparent": st.just(CARRIED["traceparent"]),
        "tracestate": st.text("xyz=,", min_size=1, max_size=512),
        "baggage": st.text("xyz=,", min_size=1, max_size=1024),
        "meta": strategies.meta,
    },
)
submissions = st.builds(
    m.Submission,
    st.integers(0, 2**62 - 1).map(task_id),
    strategies.names,
    strategies.binaries,
    strategies.maybe_label,
    st.none() | options,
)


@given(st.lists(submissions, min_size=1, max_size=5))
def test_batch_gives_back_the_tasks_it_was_made_of(tasks: list[m.Submission]) -> None:
    raw = submission.decode_batch(submission.encode_batch(tasks))
    assert [submission.check(place, item) for place, item in enumerate(raw)] == tasks


def test_absent_fields_are_left_out_of_the_bytes() -> None:
    plain = a_submission()
    typed = a_submission(content_type="text/plain")
    untyped = a_submission(options={"priority": 0})
    raw = submission.decode_batch(submission.encode_batch([plain, typed, untyped]))
    assert [len(item) for item in raw] == [3, 4, 5]
    assert raw[2][3] is None


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_a_protocol_error(data: bytes) -> None:
    try:
        raw = submission.decode_batch(data)
    except ProtocolError:
        return
    for place, item in enumerate(raw):
        assert isinstance(submission.check(place, item), m.Rejection)


@pytest.mark.parametrize("value", [None, 1, {}, [], "tasks"])
def test_what_is_no_list_of_tasks_is_refused_whole(value: object) -> None:
    with pytest.raises(Malformed, match="a list of at least one task"):
        submission.decode_batch(codec.pack(value))


def test_batch_of_too_many_tasks_is_refused_whole() -> None:
    assert len(submission.decode_batch(codec.pack([0] * limits.BATCH_TASKS_MAX))) == 10_000
    with pytest.raises(ProtocolError, match="10001 tasks; the limit is 10000") as caught:
        submission.decode_batch(codec.pack([0] * (limits.BATCH_TASKS_MAX + 1)))
    assert caught.value.code == Code.BATCH_TOO_LARGE


NAME = "a name of [a-z0-9._-]{1,64}"
OLD_ID = task_id()[:6] + b"\x40" + task_id()[7:]
REJECTIONS: dict[str, tuple[Any, str, str]] = {
    "no list": (5, Code.MALFORMED, "a task is a list: id, handler, payload[, content_type"),
    "too short": ([task_id(), "a"], Code.MALFORMED, "a task is a list"),
    "too long": ([task_id(), "a", b"", None, None, None], Code.MALFORMED, "a task is a list"),
    "id of another length": (a_submission(id=b"1"), Code.INVALID_ID, "not a UUIDv7 of 16 bytes"),
    "id as text": (a_submission(id="x" * 16), Code.INVALID_ID, "not a UUIDv7 of 16 bytes"),
    "id of another version": (a_submission(id=OLD_ID), Code.INVALID_ID, "not a UUIDv7"),
    "handler": (
        a_submission(handler="Email Send"),
        Code.INVALID_HANDLER,
        f"handler is 'Email Send'; expected {NAME}",
    ),
    "handler as bytes": (a_submission(handler=b"a"), Code.INVALID_HANDLER, "bytes of length 1"),
    "long handler": (a_submission(handler="a" * 10_000), Code.INVALID_HANDLER, "'aaaaaa"),
    "payload as text": (
        a_submission(payload="{}"),
        Code.INVALID_PAYLOAD,
        "the payload is str; expected bytes",
    ),
    "payload too large": (
        a_submission(payload=bytes(limits.PAYLOAD_BYTES_MAX + 1)),
        Code.PAYLOAD_TOO_LARGE,
        "the payload has 1048577 bytes; the limit is 1048576. Store it elsewhere and submit",
    ),
    "content type": (
        a_submission(content_type="x" * 129),
        Code.INVALID_OPTION,
        "expected text of at most 128 characters",
    ),
    "content type as bytes": (
        a_submission(content_type=b"text/plain"),
        Code.INVALID_OPTION,
        "content_type is bytes of length 10",
    ),
    "options as list": (
        a_submission(options=[]),
        Code.INVALID_OPTION,
        "options is list of length 0; expected a map",
    ),
    "unknown option": (
        a_submission(options={"priorty": 1}),
        Code.UNKNOWN_OPTION,
        "no option is called 'priorty'; did you mean 'priority'?",
    ),
    "option unlike any": (
        a_submission(options={"xyz": 1}),
        Code.UNKNOWN_OPTION,
        "no option is called 'xyz'; known: delay_ms, at_ms, priority",
    ),
    "option named in bytes": (
        a_submission(options={b"priority": 1}),
        Code.UNKNOWN_OPTION,
        "no option is called bytes of length 8; known: delay_ms",
    ),
    "option of a long name": (
        a_submission(options={"x" * 10_000: 1}),
        Code.UNKNOWN_OPTION,
        "no option is called 'xxxx",
    ),
    "collection": (
        a_submission(options={"collection": ""}),
        Code.INVALID_OPTION,
        f"collection is ''; expected {NAME}",
    ),
    "priority out of range": (
        a_submission(options={"priority": 4}),
        Code.INVALID_OPTION,
        "priority is 4; expected an integer from 0 to 3",
    ),
    "priority as a boolean": (
        a_submission(options={"priority": True}),
        Code.INVALID_OPTION,
        "priority is True; expected an integer from 0 to 3",
    ),
    "delay in the past": (
        a_submission(options={"delay_ms": -1}),
        Code.DUE_OUT_OF_RANGE,
        "delay_ms is -1; expected an integer from 0 to 315619200000",
    ),
    "delay beyond ten years": (
        a_submission(options={"delay_ms": limits.DELAY_MS_MAX + 1}),
        Code.DUE_OUT_OF_RANGE,
        "delay_ms is 315619200001",
    ),
    "delay as text": (
        a_submission(options={"delay_ms": "5s"}),
        Code.INVALID_OPTION,
        "delay_ms is '5s'; expected an integer",
    ),
    "time before 1970": (a_submission(options={"at_ms": -1}), Code.DUE_OUT_OF_RANGE, "at_ms is -1"),
    "delay and time": (
        a_submission(options={"delay_ms": 0, "at_ms": 0}),
        Code.INVALID_OPTION,
        "delay_ms and at_ms exclude each other; give one",
    ),
}


@pytest.mark.parametrize("case", REJECTIONS)
def test_task_that_cannot_be_taken_is_rejected_with_its_reason(case: str) -> None:
    task, code, detail = REJECTIONS[case]
    raw = list(task) if isinstance(task, tuple) else task
    rejection = submission.check(7, codec.unpack(codec.pack(raw)))
    assert isinstance(rejection, m.Rejection)
    assert (rejection.place, rejection.code) == (7, code)
    assert detail in rejection.detail
    assert len(rejection.detail) < 300


def test_bad_task_harms_none_beside_it() -> None:
    batch = msgpack.packb([list(a_submission(1)), 5, list(a_submission(3))])
    checked = [submission.check(i, raw) for i, raw in enumerate(submission.decode_batch(batch))]
    assert [type(item).__name__ for item in checked] == ["Submission", "Rejection", "Submission"]


def test_smallest_task_is_taken() -> None:
    raw = [task_id(), "a", b""]
    assert submission.check(0, raw) == m.Submission(task_id(), "a", b"", None, None)
