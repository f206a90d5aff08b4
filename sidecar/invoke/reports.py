"""What an attempt tells while it goes on, and with its last word, as JSON objects.

    {"progress": 0.4, "note": "page 3 of 7", "checkpoint": {"page": 3}}
    {"outcome": "success", "result": {"pages": 7}}
    {"outcome": "retry", "error_type": "smtp", "message": "...", "retry_after_ms": 5000}

Pure: no I/O, no clock.
"""

import json
from typing import Any

from protocol import limits
from protocol.messages import Lease, Update
from sidecar.invoke.answers import JSON, Told

LINE_BYTES_MAX = 2 * limits.RESULT_BYTES_MAX
"""A line holds at most a result, and JSON escapes."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class BadReport(ValueError):
    """Raised when a line or body is no report; says why."""


def read(data: bytes) -> dict[str, Any]:
    """Return the members of a report.

    Raises:
        BadReport: It is no JSON object.
    """
    try:
        members = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadReport(f"a line is not JSON: {type(error).__name__}") from None
    if not isinstance(members, dict):
        raise BadReport(f"a line is a {type(members).__name__}; expected an object")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def update(lease: Lease, members: dict[str, Any]) -> Update | None:
    """Return what the members tell of progress; None if nothing.

    Raises:
        BadReport: One of them cannot be taken.
    """
    progress, note, checkpoint = (members.get(x) for x in ("progress", "note", "checkpoint"))
    if progress is None and note is None and checkpoint is None:
        return None
    permille = -1
    if progress is not None:
        if type(progress) not in (int, float) or not 0 <= progress <= 1:
            raise BadReport("progress is a number from 0 to 1")
        permille = round(1000 * progress)
    if note is not None and type(note) is not str:
        raise BadReport("note is text")
    text = (note or "")[: limits.NOTE_CHARS_MAX]
    return Update(*lease, permille, text, _checkpoint(checkpoint))


def _checkpoint(value: Any) -> bytes | None:
    """Return the bytes of a checkpoint: text as UTF-8, anything else as JSON."""
    if value is None:
        return None
    data = (value if isinstance(value, str) else _encode(value)).encode("utf-8", "replace")
    if len(data) > limits.CHECKPOINT_BYTES_MAX:
        raise BadReport(
            f"checkpoint has {len(data)} bytes; the limit is {limits.CHECKPOINT_BYTES_MAX}"
        )
    return data


def last_word(members: dict[str, Any]) -> Told | None:
    """Return the outcome that the members tell; None if they tell none.

    Raises:
        BadReport: One of them cannot be taken.
    """
    outcome = members.get("outcome")
    if outcome is None:
        return None
    if type(outcome) is not str:
        raise BadReport("outcome is one of success, retry, defer, fatal")
    wait_ms = members.get("retry_after_ms")
    if wait_ms is not None and (type(wait_ms) is not int or wait_ms < 0):
        raise BadReport("retry_after_ms is a whole number")
    body = members.get("result") if outcome.strip().lower() == "success" else members
    return Told(
        body=b"" if body is None else _encode(body).encode("utf-8", "replace"),
        content_type=JSON,
        outcome=outcome,
        retry_after_ms=wait_ms,
    )


class Lines:
    """Bytes of a stream to lines; a line that does not end is refused in time."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that the bytes complete, without empty ones.

        Raises:
            BadReport: A line is too long.
        """
        end = data.rfind(b"\n")  # Only in what is new: a line may come byte by byte.
        lines = []
        if end >= 0:
            lines = [x for x in (bytes(self._rest) + data[:end]).split(b"\n") if x.strip()]
            self._rest.clear()
        self._rest += data[end + 1 :]
        if len(self._rest) > LINE_BYTES_MAX or any(len(line) > LINE_BYTES_MAX for line in lines):
            raise BadReport(f"a line is over {LINE_BYTES_MAX} bytes")
        return lines

    def end(self) -> list[bytes]:
        """Return what stands behind the last line's end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest.strip() else []
