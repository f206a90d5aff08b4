"""The parameters of a handler: arguments to payload where it is submitted, and back where it runs.

A JSON object is the keyword arguments, so that ``send.submit(to="a@b.c")`` and a payload written
by hand meet. A handler with one parameter annotated ``bytes`` takes the payload as it is.
"""

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

from sidecar.sdk.annotations import Expected, Unsupported, expected
from sidecar.sdk.errors import InvalidHandler

_KINDS = inspect.Parameter
_decode = json.JSONDecoder().decode
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}


class InvalidPayload(Exception):
    """Raised when a payload does not fit a handler's parameters; names the field."""


class Parameters:
    """The parameters of one handler's function.

    Args:
        handler: The handler's name, for errors.
        function: The function whose signature counts.

    Raises:
        InvalidHandler: No JSON object can be the arguments of such a function.
    """

    def __init__(self, handler: str, function: Callable[..., Any]) -> None:
        self._handler = handler
        parameters = inspect.signature(function).parameters
        hints = _hints(function)
        self._order: list[str] = []
        """Names that may be given by position, in order."""
        self._by_position: list[str] = []
        """Names that can only be given by position."""
        self._required: set[str] = set()
        self._names: dict[str, None] = {}  # In the order of the signature.
        self._open = False
        """Whether further keyword arguments are taken."""
        self._expected: dict[str, Expected] = {}
        self.raw = _is_raw(parameters, hints)
        """Whether the payload is passed as it is."""
        for name, parameter in parameters.items():
            self._add(name, parameter, hints)

    def _add(self, name: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
        if parameter.kind is _KINDS.VAR_POSITIONAL:
            raise InvalidHandler(
                self._handler, f"*{name} has no name in a JSON object; take a list instead"
            )
        if parameter.kind is _KINDS.VAR_KEYWORD:
            self._open = True
            return
        if parameter.kind is not _KINDS.KEYWORD_ONLY:
            self._order.append(name)
        if parameter.kind is _KINDS.POSITIONAL_ONLY:
            self._by_position.append(name)
        if parameter.default is _KINDS.empty:
            self._required.add(name)
        self._names[name] = None
        if self.raw or name not in hints:
            return
        try:
            self._expected[name] = expected(hints[name])
        except Unsupported as error:
            raise InvalidHandler(self._handler, f"parameter {name}: {error}") from None

    def payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what to submit for a call with these arguments.

        Raises:
            TypeError: The function could not be called with them.
        """
        if len(args) > len(self._order):
            raise TypeError(
                f"{self._handler} takes {len(self._order)} arguments by position, not {len(args)}"
            )
        values = dict(zip(self._order, args, strict=False))
        twice = values.keys() & kwargs.keys()
        if twice:
            raise TypeError(f"{self._handler} got {min(twice)!r} twice")
        values.update(kwargs)
        if self.raw:
            value = values.get(self._order[0] if self._order else next(iter(self._names)))
            if not isinstance(value, bytes):
                raise TypeError(f"{self._handler} takes one argument of bytes")
            return value
        try:
            self._check(values)
        except InvalidPayload as error:
            raise TypeError(f"{self._handler}: {error}") from None
        return values

    def arguments(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and keyword arguments for the function.

        Raises:
            InvalidPayload: The payload does not fit.
        """
        if self.raw:
            return ([payload], {}) if self._order else ([], {next(iter(self._names)): payload})
        try:
            values = _decode(payload.decode()) if payload else {}
        except (ValueError, RecursionError) as error:
            raise InvalidPayload(f"the payload is not JSON: {type(error).__name__}") from None
        if type(values) is not dict:
            raise InvalidPayload(f"the payload is {_shown(values)}; expected {self._shape()}")
        self._check(values)
        return [values.pop(n) for n in self._by_position if n in values], values

    def _check(self, values: dict[str, Any]) -> None:
        if not values.keys() >= self._required:
            missing = next(n for n in self._names if n in self._required and n not in values)
            raise InvalidPayload(f"field {missing!r} is missing; expected {self._shape()}")
        if not self._open and not values.keys() <= self._names.keys():
            unknown = next(n for n in values if n not in self._names)
            raise InvalidPayload(f"field {unknown[:64]!r} is not known; expected {self._shape()}")
        for name, wanted in self._expected.items():
            if name in values and not wanted.accepts(values[name]):
                raise InvalidPayload(
                    f"field {name!r} is {_shown(values[name])}; expected {wanted.words}"
                )

    def _shape(self) -> str:
        if not self._names:
            return "an object with no fields" if not self._open else "an object"
        names = (n if n in self._required else f"[{n}]" for n in self._names)
        return "an object with " + ", ".join(names)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # Names only known to type checkers: nothing to check by.
        return {}


def _is_raw(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> bool:
    if len(parameters) != 1:
        return False
    name, parameter = next(iter(parameters.items()))
    variable = parameter.kind in (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD)
    return not variable and hints.get(name) is bytes


def _shown(value: Any) -> str:
    """Return what a value is, never the value: it may be a secret."""
    if value is None:
        return "null"
    if type(value) in (int, float):
        return "a number" if type(value) is float else "an integer"
    return _NAMES.get(type(value), type(value).__name__)
