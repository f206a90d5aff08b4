"""What a path is: its method, its parameters and what it answers, beside the function that does.

The server makes its router from these, and ``openapi`` its document, so that the two agree.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.http.access import Access
from coordinator.http.problems import Problem


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query; a flag is set by being there."""

    name: str
    help: str
    kind: type = str
    default: str | int | bool = ""
    low: int = 0
    high: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What came, checked."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    """A value for each parameter of the route."""
    headers: Mapping[str, str]
    """Those that an endpoint looks at: ``Last-Event-ID``."""
    body: Any = None
    """The dataclass that the route asks for."""


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON."""

    body: str
    media_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with another status than 200."""

    status: int
    value: Any


class Cut(Exception):
    """Raised to end a stream in the middle, so that nobody takes it for whole."""


Endpoint = Callable[[Access, Request], Awaitable[Any]]
Stream = Callable[[Access, Request], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path."""

    path: str
    """As OpenAPI writes it: ``/v1/tasks/{id}``."""
    summary: str
    answers: Any
    """The dataclass of the JSON that it answers, or the media type of a text or stream."""
    endpoint: Endpoint | None = None
    stream: Stream | None = None
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[str, ...] = ()
    """Codes that it may answer beside those that every path has."""
    open_to_all: bool = False
    """Whether it needs no token."""
    guarded: bool = False
    """Whether it gives payloads away: over TCP a token is needed then, also on loopback."""
    method: str = "GET"
    body: type | None = None
    """The dataclass of the JSON that it takes."""


def read_query(route: Route, given: Mapping[str, str]) -> dict[str, Any]:
    """Return a value for each parameter of a route.

    Raises:
        Problem: A parameter is not known or cannot be read.
    """
    known = {parameter.name: parameter for parameter in route.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "none"
            raise Problem("unknown_parameter", f"{name!r} is no parameter of it; it takes: {takes}")
    return {
        name: _value(parameter, given[name]) if name in given else parameter.default
        for name, parameter in known.items()
    }


def _value(parameter: Parameter, text: str) -> Any:
    if parameter.kind is bool:
        if text.lower() not in ("", "1", "true", "0", "false"):
            raise Problem("invalid_parameter", f"{parameter.name}={text!r}: expected true or false")
        return text.lower() in ("", "1", "true")
    if parameter.kind is int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not parameter.low <= number <= parameter.high:
            expected = f"expected a number from {parameter.low} to {parameter.high}"
            raise Problem("invalid_parameter", f"{parameter.name}={text!r}: {expected}")
        return number
    return text
