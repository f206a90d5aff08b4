"""Frozen dataclasses as JSON, and their JSON Schema: one description serves answers and document.

Only what answers are made of is known: text, numbers, truth, null, lists, maps with text as keys,
and dataclasses of these.
"""

import dataclasses
import types
import typing
from functools import cache
from typing import Any

Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def plain(value: Any) -> Any:
    """Return a value made of what ``json`` knows."""
    if dataclasses.is_dataclass(value):
        kind: Any = type(value)
        return {name: plain(getattr(value, name)) for name in _names(kind)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def schema_of(kind: Any, named: dict[str, Schema]) -> Schema:
    """Return the schema of a type; those of dataclasses are added to ``named``."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if dataclasses.is_dataclass(kind):
        name = typing.cast(type, kind).__name__
        if name not in named:
            named[name] = {}  # It may hold itself.
            named[name] = _object(kind, named)
        return {"$ref": f"#/components/schemas/{name}"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0], named)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], named)}
    assert origin in (types.UnionType, typing.Union), f"no schema for {kind!r}"
    return {"anyOf": [schema_of(argument, named) for argument in arguments]}


def _object(kind: Any, named: dict[str, Schema]) -> Schema:
    hints = typing.get_type_hints(kind)
    names = _names(kind)
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip().split("\n", maxsplit=1)[0],
        "properties": {name: schema_of(hints[name], named) for name in names},
        "required": [
            field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING
        ],
        "additionalProperties": False,
    }
