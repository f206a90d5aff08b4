"""Which JSON values fit the annotation of a handler's parameter.

Knows what JSON can carry, and refuses the rest when the handler is declared: a parameter that
says ``Order`` and gets a ``dict`` would be a lie that shows itself in production.
"""

import types
from collections import abc
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Union,
    get_args,
    get_origin,
    is_typeddict,
)

_LISTS = (list, abc.Sequence, abc.Iterable, abc.Collection)
_MAPS = (dict, abc.Mapping, abc.MutableMapping)


class Expected(NamedTuple):
    """What a parameter takes: in words, and as a test of a value that JSON gave."""

    words: str
    accepts: Callable[[Any], bool]


class Unsupported(TypeError):
    """Raised when JSON cannot carry what an annotation asks for."""


def _anything(value: Any) -> bool:
    return True


_SIMPLE: dict[Any, Expected] = {
    Any: Expected("any value", _anything),
    object: Expected("any value", _anything),
    None: Expected("null", lambda v: v is None),
    types.NoneType: Expected("null", lambda v: v is None),
    bool: Expected("true or false", lambda v: type(v) is bool),
    int: Expected("an integer", lambda v: type(v) is int),
    float: Expected("a number", lambda v: type(v) in (int, float)),
    str: Expected("a string", lambda v: type(v) is str),
}


def expected(annotation: Any) -> Expected:  # noqa: PLR0911 (one per form)
    """Return what fits an annotation.

    Raises:
        Unsupported: Nothing that JSON can carry does.
    """
    if isinstance(annotation, abc.Hashable) and annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if isinstance(annotation, NewType):
        return expected(annotation.__supertype__)
    if is_typeddict(annotation):
        return Expected("an object", lambda v: type(v) is dict)
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return expected(arguments[0])
    if origin is Literal:
        words = " or ".join(repr(a) for a in arguments)
        return Expected(words, lambda v: any(type(v) is type(a) and v == a for a in arguments))
    if origin in (Union, types.UnionType):
        return _union([expected(a) for a in arguments])
    if origin in _LISTS:
        return _list(expected(arguments[0] if arguments else Any))
    if origin in _MAPS and (not arguments or arguments[0] in (str, Any)):
        return _map(expected(arguments[1] if arguments else Any))
    raise Unsupported(
        f"{_name(annotation)} cannot come from JSON; take str, int, float, bool, None, list, "
        "dict with string keys, TypedDict, Literal or a union of these and make it inside"
    )


def _union(members: list[Expected]) -> Expected:
    tests = [m.accepts for m in members]
    return Expected(
        " or ".join(m.words for m in members), lambda v: any(accepts(v) for accepts in tests)
    )


def _list(item: Expected) -> Expected:
    if item.accepts is _anything:
        return Expected("a list", lambda v: type(v) is list)
    accepts = item.accepts
    return Expected(
        f"a list, each item {item.words}", lambda v: type(v) is list and all(map(accepts, v))
    )


def _map(item: Expected) -> Expected:
    if item.accepts is _anything:
        return Expected("an object", lambda v: type(v) is dict)
    accepts = item.accepts
    return Expected(
        f"an object, each value {item.words}",
        lambda v: type(v) is dict and all(map(accepts, v.values())),
    )


def _name(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)
