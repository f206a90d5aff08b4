"""Every field of every message refuses what it must: each example is spoiled in each place."""

import contextlib
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from protocol import codec, fields, limits
from protocol import messages as m
from protocol.errors import InvalidField, Malformed
from tests.protocol.examples import MESSAGES
from tests.support.builders import a_granted_task, a_hello, a_status, an_outcome, task_id

Place = tuple[int | str, ...]


def places(value: Any, here: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Give every value inside a raw message with the way to it."""
    yield here, value
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from places(part, (*here, index))
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*here, key))


def spoiled(raw: Any, place: Place, value: Any) -> bytes:
    """Return the bytes of a raw message with one value replaced."""
    if not place:
        return codec.pack(value)
    copy = deepcopy(raw)
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return codec.pack(copy)


def wrong_values(place: Place, value: Any) -> Iterator[Any]:
    """Give what may not stand in the place of a valid value."""
    in_map = isinstance(place[-1], str)  # Facts and extras hold integers or texts.
    yield 1.5
    yield [[]]
    yield {"x": []}
    if type(value) is int:
        yield from (-1, 2**63, True, b"1")
        yield from () if in_map else ("1",)
    if type(value) is str:
        yield from ("x" * 4_097, b"x", True)
        yield from () if in_map else (1,)
    if type(value) is bytes:
        yield from ("text", 1, True)
    if type(value) is bytes and len(value) == limits.ID_BYTES:
        yield from (value[:-1], value + b"x")
    if type(value) is bool:
        yield from (0, "true")
    if type(value) is list:
        yield from (1, "text", b"bytes")
    if type(value) is dict:
        yield from (1, "text", [], {b"bytes": 1})


@pytest.mark.parametrize("name", [name for name in MESSAGES if name != "inspect"])
def test_every_field_refuses_wrong_types_and_ranges(name: str) -> None:
    raw = codec.unpack(codec.encode(MESSAGES[name]))
    for place, value in list(places(raw))[2:]:
        for wrong in wrong_values(place, value):
            if wrong == -1 and (name, place[-1], len(place)) in MINUS_ONE_ALLOWED:
                continue
            with pytest.raises(InvalidField):
                codec.decode(spoiled(raw, place, wrong))
                pytest.fail(f"{name} took {wrong!r} at {place}")


MINUS_ONE_ALLOWED = {
    ("query", 3, 3),  # The revision that a question knows.
    ("progress", 2, 3),  # How much is done.
    ("answer", 17, 4),  # How much is done, in a status.
}
"""Message, last index, depth of every integer that may be -1."""


def test_nil_stands_only_where_it_means_something() -> None:
    taken = set()
    for name, message in MESSAGES.items():
        raw = codec.unpack(codec.encode(message))
        for place, _ in list(places(raw))[2:]:
            with contextlib.suppress(InvalidField):
                codec.decode(spoiled(raw, place, None))
                taken.add((name.removesuffix("-first"), place[0], place[-1], len(place)))
    assert taken == NIL_ALLOWED


@pytest.mark.parametrize("name", MESSAGES)
def test_every_record_refuses_a_field_more_or_less(name: str) -> None:
    raw = codec.unpack(codec.encode(MESSAGES[name]))
    for place, value in places(raw):
        # A list of scalars is a record; so is one that begins with a scalar.
        if not isinstance(value, list) or not value or isinstance(value[0], list):
            continue
        if name == "accepted" and place[-1:] == (5,):
            continue  # The places of duplicates.
        for wrong in (value[:-1], [*value, 0]):
            if not place and not wrong:
                continue
            with pytest.raises((InvalidField, Malformed)):
                codec.decode(spoiled(raw, place, wrong))
                pytest.fail(f"{name} took {wrong!r} at {place}")


def granted(**changes: Any) -> m.Message:
    return m.Tasks([m.Group("email.send", [a_granted_task(**changes)])])


def failed(**changes: Any) -> m.Message:
    failure = m.Failure("E")._replace(**changes)
    return m.Outcomes(1, [an_outcome(kind=m.OutcomeKind.RETRY, value=failure)])


def succeeded(result: m.Result) -> m.Message:
    return m.Outcomes(1, [an_outcome(value=result)])


def answered(**changes: Any) -> m.Message:
    return m.Answer([m.Reply(1, None, a_status(**changes))])


def declared(name: str = "email.send", policy: dict[str, int] | None = None) -> m.Message:
    return m.Handlers([m.Declaration(name, policy or {})])


NIL_ALLOWED = {
    ("hello", 7, 7, 1),  # The store.
    ("grant", 3, 8, 5),  # Content type of a task.
    ("grant", 3, 10, 5),  # Extras of a task.
    ("tasks", 1, 8, 5),
    ("tasks", 1, 10, 5),
    ("accepted", 1, 1, 3),  # Code of a verdict.
    ("outcomes", 2, 4, 3),  # What an outcome carries.
    ("outcomes", 2, 0, 4),  # Content type of a result.
    ("outcomes", 2, 3, 4),  # Wait that a failure asks for.
    ("answer", 1, 1, 3),  # Code of a reply.
    ("answer", 1, 2, 3),  # Status of a reply.
    ("answer", 1, 4, 4),  # Collection of a status.
    ("answer", 1, 14, 4),  # Result of a status.
    ("answer", 1, 0, 5),  # Content type of that result.
    ("answer", 1, 19, 4),  # Checkpoint of a status.
    ("progress", 1, 4, 3),  # Checkpoint of an update.
}
"""Message, field, last index, depth of every place that takes nil."""


def told(**changes: Any) -> m.Message:
    return m.Progress([m.Update(task_id(), 1)._replace(**changes)])


def cancelled(reason: str) -> m.Message:
    return m.Cancel([m.Cancellation(1, task_id(), reason)])


def carrying(**extras: Any) -> m.Message:
    return granted(extras=extras)


BOUNDS: dict[str, tuple[m.Message, m.Message]] = {
    "name": (declared("a" * 64), declared("a" * 65)),
    "name-not-empty": (declared("a"), declared("")),
    "service": (a_hello(service="a" * 64), a_hello(service="a" * 65)),
    "label": (m.Goodbye("x" * 128), m.Goodbye("x" * 129)),
    "text": (m.Refused("busy", "x" * 4096, 0), m.Refused("busy", "x" * 4097, 0)),
    "integer": (m.Beat(1, 2**63 - 1, 1), m.Beat(1, 2**63, 1)),
    "payload": (granted(payload=bytes(2**20)), granted(payload=bytes(2**20 + 1))),
    "payload-empty": (granted(payload=b""), granted(payload="")),
    "content type": (granted(content_type="x" * 128), granted(content_type="x" * 129)),
    "extras": (
        granted(extras={str(i): i for i in range(64)}),
        granted(extras={"x" * 129: 1}),
    ),
    "token": (granted(token=2**63 - 1), granted(token=2**63)),
    "timeout": (granted(timeout_ms=0), granted(timeout_ms=-1)),
    "result": (
        succeeded(m.Result(None, bytes(262_144))),
        succeeded(m.Result(None, bytes(262_145))),
    ),
    "result type": (succeeded(m.Result("x" * 128, b"")), succeeded(m.Result("x" * 129, b""))),
    "error type": (failed(error_type="x" * 128), failed(error_type="x" * 129)),
    "error message": (failed(message="x" * 1024), failed(message="x" * 1025)),
    "error detail": (failed(detail="x" * 4096), failed(detail="x" * 4097)),
    "policy": (
        declared(policy={str(i): i for i in range(16)}),
        declared(policy={str(i): i for i in range(17)}),
    ),
    "facts": (m.Inspected({str(i): i for i in range(64)}), m.Inspected({"x": "x" * 4097})),
    "fact name": (m.Inspected({"x" * 128: 1}), m.Inspected({"x" * 129: 1})),
    "store": (a_hello(store=bytes(16)), a_hello(store=bytes(15))),
    "state": (answered(state=8), answered(state=9)),
    "collection": (answered(collection="a" * 64), answered(collection="A")),
    "progress": (answered(progress=1000), answered(progress=1001)),
    "permille": (told(permille=1000), told(permille=1001)),
    "permille not told": (told(permille=-1), told(permille=-2)),
    "note": (told(note="x" * 256), told(note="x" * 257)),
    "checkpoint": (told(checkpoint=bytes(4096)), told(checkpoint=bytes(4097))),
    "checkpoint of the last attempt": (
        carrying(checkpoint=bytes(4096)),
        carrying(checkpoint=bytes(4097)),
    ),
    "meta": (
        carrying(meta={str(i): "x" * 256 for i in range(16)}),
        carrying(meta={str(i): "x" for i in range(17)}),
    ),
    "meta name": (carrying(meta={"a" * 64: ""}), carrying(meta={"A": ""})),
    "meta text": (carrying(meta={"a": "x" * 256}), carrying(meta={"a": "x" * 257})),
    "meta text in one line": (carrying(meta={"a": "x"}), carrying(meta={"a": "x\ny: z"})),
    "reason": (cancelled("x" * 256), cancelled("x" * 257)),
    "revision": (
        m.Query([m.Question(1, task_id(), 1, -1)]),
        m.Query([m.Question(1, task_id(), 1, -2)]),
    ),
}


@pytest.mark.parametrize("field", BOUNDS)
def test_field_takes_its_largest_value_and_refuses_the_next(field: str) -> None:
    largest, beyond = BOUNDS[field]
    assert codec.decode(codec.encode(largest)) == largest
    with pytest.raises(InvalidField):
        codec.decode(codec.encode(beyond))


@pytest.mark.parametrize("kind", [-1, 6, True, None])
def test_outcome_kind_is_one_of_six(kind: Any) -> None:
    with pytest.raises(InvalidField, match="id, token, kind, run_us, value"):
        codec.decode(codec.encode(m.Outcomes(1, [an_outcome(kind=kind)])))


def test_success_carries_a_result_and_everything_else_a_failure() -> None:
    failure, result = m.Failure("E"), m.Result(None, b"")
    for kind in m.OutcomeKind:
        right, wrong = (failure, result) if kind else (result, failure)
        message = m.Outcomes(1, [an_outcome(kind=kind, value=right)])
        assert codec.decode(codec.encode(message)) == message
        with pytest.raises(InvalidField, match=r"outcomes\.value"):
            codec.decode(codec.encode(m.Outcomes(1, [an_outcome(kind=kind, value=wrong)])))


def test_wait_that_a_failure_asks_for_is_cut_to_the_longest_delay() -> None:
    message = codec.decode(codec.encode(failed(retry_after_ms=2**62)))
    assert message == failed(retry_after_ms=limits.DELAY_MS_MAX)


@pytest.mark.parametrize("name", ["email.send", "a", "0", ".", "a-b_c.d", "x" * 64])
def test_names_of_the_alphabet_are_names(name: str) -> None:
    assert fields.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "Email", "a b", "a\n", "ä", "a/b", "a\x00", b"a", None, 1]
)
def test_everything_else_is_no_name(name: object) -> None:
    assert not fields.is_name(name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("short", "'short'"),
        ("a\n\x1b[31m", "'a\\n\\x1b[31m'"),
        ("x" * 61, "'" + "x" * 60 + "'..."),
        (b"secret payload", "bytes of length 14"),
        ([[[]]], "list of length 1"),
        ({"a": 1}, "dict of length 1"),
        ((1, 2), "tuple of length 2"),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (-(2**63), "-9223372036854775808"),
        (10**10_000, "a giant integer"),
        (object(), "of type object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_measures_or_shortens_what_it_refuses(value: object, expected: str) -> None:
    assert fields.fail("field", value, "better").detail == f"field is {expected}; expected better"


def test_error_names_the_field_inside_its_record() -> None:
    data = codec.pack([3, [["email.send", -1]]])
    with pytest.raises(InvalidField, match=r"^limits\.total is -1; expected an integer"):
        codec.decode(data)


def test_granted_task_without_a_number_is_refused() -> None:
    task = [*a_granted_task()]
    task[4] = None
    with pytest.raises(InvalidField, match="seven integers"):
        codec.decode(codec.pack([34, [["email.send", [task]]]]))
    assert task[0] == task_id(1)
