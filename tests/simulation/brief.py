"""Say in few characters what a message holds: for people who read a trace."""

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from protocol.limits import ID_BYTES


def brief(value: Any) -> str:  # noqa: PLR0911 (one per kind)
    """Return a short text: tasks by the number that ends their id, tokens by epoch and count."""
    if isinstance(value, bytes):
        return f"#{int.from_bytes(value[-3:], 'big')}" if len(value) == ID_BYTES else _text(value)
    if isinstance(value, Enum):
        return value.name
    if type(value) is int and value >> 32:
        return f"{value >> 32}:{value & 0xFFFFFFFF}" if value >> 40 == 0 else str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{brief(k)}: {brief(v)}" for k, v in value.items()) + "}"
    if is_dataclass(value) and not isinstance(value, type):
        parts = [brief(getattr(value, field.name)) for field in fields(value)]
        return f"{type(value).__name__.upper()} {' '.join(parts)}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(brief(item) for item in value)}]"
    return str(value)


def _text(value: bytes) -> str:
    if value.isascii() and len(value) < 24:
        return value.decode()
    return f"<{len(value)} B>"
