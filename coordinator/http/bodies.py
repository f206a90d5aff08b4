"""What a request brings in its body: a JSON object that a frozen dataclass describes."""

import dataclasses
import json
import typing
from typing import Any

from coordinator.http.problems import Problem

_SAID: dict[Any, str] = {
    str: "a text",
    int: "an integer",
    dict[str, int]: "an object of integers",
}


def read_body(kind: Any, content_type: str, data: bytes) -> Any:
    """Return the dataclass that a body means.

    Only ``application/json`` is taken: a page in a browser cannot send that to another host
    without asking first.

    Raises:
        Problem: It means none.
    """
    if content_type.split(";", maxsplit=1)[0].strip().lower() != "application/json":
        raise Problem("invalid_body", "Content-Type must be application/json")
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Problem("invalid_body", f"it is no JSON: {error}") from None
    if type(given) is not dict:
        raise Problem("invalid_body", "a JSON object is expected")
    hints = typing.get_type_hints(kind)
    for name in given:
        if name not in hints:
            raise Problem("invalid_body", f"{name!r} is no field; it takes: {', '.join(hints)}")
    for field in dataclasses.fields(kind):
        if field.name in given:
            _check(field.name, given[field.name], hints[field.name])
        elif field.default is dataclasses.MISSING:
            raise Problem("invalid_body", f"{field.name} is missing")
    return kind(**given)


def _check(name: str, value: Any, hint: Any) -> None:
    fits = type(value) is typing.get_origin(hint) or type(value) is hint
    if fits and type(value) is dict:
        fits = all(type(item) is int for item in value.values())
    if not fits:
        raise Problem("invalid_body", f"{name} must be {_SAID[hint]}")
