"""One task's status as a JSON document; what is empty is left out."""

import base64
import json
from typing import Any, NoReturn

from protocol.ids import to_text
from protocol.messages import AttemptRecord, OutcomeKind, Priority, Result, Status
from sidecar.http.exchange import JSON
from sidecar.http.times import show

_OUTCOMES = {int(kind): kind.name.lower() for kind in OutcomeKind}
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


def document(status: Status) -> bytes:
    """Return the document, without line ends in it.

    A result that is JSON stands in it byte for byte: no number loses a digit.
    """
    made: dict[str, Any] = {
        "id": to_text(status.id),
        "handler": status.handler,
        "state": status.state.name.lower(),
        "revision": status.revision,
        "priority": Priority(status.priority).name.lower(),
        "submitted_at": show(status.submitted_ms),
        "run_at": show(status.due_ms),
        "attempts": status.attempts,
        "attempts_max": status.attempts_max,
        "deliveries": status.deliveries,
        "sidecars": status.sidecars,
        "history": [_attempt(record) for record in status.history],
    }
    if status.collection is not None:
        made["collection"] = status.collection
    if status.expires_ms:
        made["expires_at"] = show(status.expires_ms)
    if status.finished_ms:
        made["finished_at"] = show(status.finished_ms)
    if status.sidecar:
        made["sidecar"] = status.sidecar
    if status.progress >= 0:
        made["progress"] = status.progress / 1000
    if status.note:
        made["note"] = status.note
    if status.checkpoint is not None:
        made["checkpoint"] = base64.urlsafe_b64encode(status.checkpoint).decode()
    if status.cancelling:
        made["cancelling"] = True
    if status.error:
        made["error"] = status.error
    return _with_result(made, status.result)


def _with_result(made: dict[str, Any], result: Result | None) -> bytes:
    if result is None:
        return json.dumps(made).encode()
    kind = result.content_type or JSON
    made["result_type"] = kind
    if kind.partition(";")[0].strip() == JSON and is_json(result.body):
        body = result.body.strip().translate(_LINE_ENDS)
        return b'%b, "result": %b}' % (json.dumps(made)[:-1].encode(), body)
    try:
        made["result"] = result.body.decode()
    except UnicodeDecodeError:
        made["result"] = base64.b64encode(result.body).decode()
        made["result_encoding"] = "base64"
    return json.dumps(made).encode()


def is_json(body: bytes) -> bool:
    """Tell whether the bytes are one JSON value in UTF-8."""
    try:
        json.loads(body.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and the infinities, which are not JSON."""
    raise ValueError(f"{constant} is not JSON")


def _attempt(record: AttemptRecord) -> dict[str, Any]:
    made: dict[str, Any] = {
        "delivery": record.number,
        "started_at": show(record.started_ms),
        "run_ms": record.run_us / 1000,
        "outcome": _OUTCOMES.get(record.outcome, str(record.outcome)),
        "sidecar": record.sidecar,
    }
    for name in ("error_type", "message", "detail"):
        if value := getattr(record, name):
            made[name] = value
    return made
