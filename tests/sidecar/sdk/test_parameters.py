import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar import InvalidHandler
from sidecar.sdk.parameters import InvalidPayload, Parameters


def plain(to: str, copies: int = 1, *, draft: bool = False) -> tuple[Any, ...]:
    return to, copies, draft


def by_position(to: str, /, subject: str = "hi") -> tuple[Any, ...]:
    return to, subject


def open_ended(to: str, **more: int) -> tuple[Any, ...]:
    return to, more


def untyped(to, copies=1):  # type: ignore[no-untyped-def]
    return to, copies


def raw(body: bytes) -> tuple[Any, ...]:
    return (body,)


def raw_by_name(*, body: bytes) -> tuple[Any, ...]:
    return (body,)


def nothing() -> tuple[Any, ...]:
    return ()


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, ("a",), {}),
        (plain, ("a", 2), {"draft": True}),
        (plain, (), {"to": "a", "copies": 3}),
        (by_position, ("a",), {}),
        (by_position, ("a", "b"), {}),
        (open_ended, ("a",), {"x": 1, "y": 2}),
        (untyped, ([1],), {"copies": None}),
        (raw, (b"\0",), {}),
        (raw, (), {"body": b"\0"}),
        (raw_by_name, (), {"body": b"\0"}),
        (nothing, (), {}),
    ],
)
def test_arguments_arrive_as_they_were_submitted(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    parameters = Parameters("email.send", function)
    payload = parameters.payload(args, kwargs)
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()

    positional, named = parameters.arguments(data)

    assert function(*positional, **named) == function(*args, **kwargs)


def test_empty_payload_is_no_arguments() -> None:
    assert Parameters("email.send", nothing).arguments(b"") == ([], {})


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "'to' is missing"),
        (("a", 1, True), {}, "2 arguments by position"),
        (("a",), {"to": "b"}, "'to' twice"),
        (("a",), {"cc": "b"}, "'cc' is not known; expected an object with to, [copies], [draft]"),
        ((1,), {}, "'to' is an integer; expected a string"),
        (("a", 1.5), {}, "'copies' is a number; expected an integer"),
        ((None,), {}, "'to' is null"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_where_they_are_submitted(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError) as raised:
        Parameters("email.send", plain).payload(args, kwargs)
    assert words in str(raised.value)
    assert "email.send" in str(raised.value)


def test_raw_handler_takes_bytes_only() -> None:
    with pytest.raises(TypeError, match="one argument of bytes"):
        Parameters("email.send", raw).payload(("text",), {})


def test_misfit_never_shows_the_value() -> None:
    with pytest.raises(InvalidPayload) as raised:
        Parameters("email.send", plain).arguments(b'{"to": ["secret"]}')
    assert "secret" not in str(raised.value)


def test_function_with_nameless_arguments_is_refused() -> None:
    def many(*to: str) -> None: ...

    with pytest.raises(InvalidHandler, match=r"email\.send: \*to"):
        Parameters("email.send", many)


def test_parameter_that_json_cannot_carry_is_refused_by_name() -> None:
    def send(to: str, sizes: set[int]) -> None: ...

    with pytest.raises(InvalidHandler, match="parameter sizes"):
        Parameters("email.send", send)


def test_annotations_that_only_type_checkers_know_are_not_checked() -> None:
    def send(to: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert Parameters("email.send", send).arguments(b'{"to": 1}') == ([], {"to": 1})
