"""What failures of one cause have in common: the message without what differs from task to task.

Quoted parts become ``'…'``; numbers, ids and addresses become ``#``. Two messages with one pattern
and one error type have one fingerprint.
"""

import re
from zlib import crc32

from coordinator.core.task import Task

PATTERN_CHARS_MAX = 200
_LOOKED_AT = 2 * PATTERN_CHARS_MAX
_QUOTED = re.compile(r"""(?<!\w)(?:"[^"]*"|'[^']*'|`[^`]*`)(?!\w)""")
_HEX = re.compile(
    r"\b(?:0x[0-9a-f]+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?=[a-f]*[0-9])[0-9a-f]{8,})\b",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"\d+")


def pattern(message: str) -> str:
    """Return what a message has in common with others of its kind."""
    line = message[:_LOOKED_AT].strip().split("\n", maxsplit=1)[0]
    line = _QUOTED.sub("'…'", line)
    return _DIGITS.sub("#", _HEX.sub("#", line))[:PATTERN_CHARS_MAX]


def fingerprint(error_type: str, pattern_: str) -> str:
    """Return the name of a kind of failure, eight hexadecimal digits."""
    return f"{crc32(pattern_.encode('utf-8', 'replace'), crc32(error_type.encode())):08x}"


def error_type_of(task: Task) -> str:
    """Return the kind of a task's latest failure."""
    return task.history[-1].error_type if task.history else ""


def pattern_of(task: Task) -> str:
    """Return the pattern of a task's latest failure."""
    return pattern((task.history and task.history[-1].message) or task.error)


def fingerprint_of(task: Task) -> str:
    """Return the fingerprint of a task's latest failure; empty if none has failed."""
    if not task.history and not task.error:
        return ""
    return fingerprint(error_type_of(task), pattern_of(task))
