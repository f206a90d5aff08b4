"""Errors as answers: ``application/problem+json`` (RFC 9457), and which status each code has.

Beside the members of the RFC an error carries ``code``, which programs may act on, and ``hint``,
which tells a person what to do.
"""

import json
from typing import Any

from protocol.errors import CODES, Code
from sidecar.http.exchange import Exchange

PROBLEM = "application/problem+json"
TYPE = "urn:pillion:problem:"
"""What stands before the code in ``type``."""

STATUS: dict[str, int] = {
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.BATCH_TOO_LARGE: 413,
    Code.LIMIT_EXCEEDED: 413,
    Code.DUPLICATE_ID: 422,
    Code.NOT_OWNER: 403,
    Code.UNKNOWN_TASK: 404,
    Code.STALE_TOKEN: 410,
    Code.TOO_MANY_WAITERS: 429,
    Code.BUSY: 429,
    Code.STORE_FULL: 503,
    Code.UNAVAILABLE: 503,
    Code.STOPPING: 503,
}
"""Statuses of the protocol's codes; what is not named is the sender's fault: 400."""

HINTS: dict[str, str] = {
    Code.INVALID_HANDLER: "address a handler as service.name, such as /v1/tasks/email.send",
    Code.TOO_MANY_HANDLERS: "check the name: a typing error in a loop makes many",
    Code.PAYLOAD_TOO_LARGE: "keep the data elsewhere and submit its address",
    Code.BATCH_TOO_LARGE: "submit fewer tasks at once",
    Code.DUPLICATE_ID: "the key belongs to another task; give each task a key of its own",
    Code.DUE_OUT_OF_RANGE: "check the unit: at takes milliseconds since 1970 or an ISO 8601 time",
    Code.UNKNOWN_TASK: "check the id; an ended task is forgotten when its retention is over",
    Code.STALE_TOKEN: "stop: the task is another attempt's now, or has ended",
    Code.BUSY: "wait as long as Retry-After says, then send it again",
    Code.TOO_MANY_WAITERS: "wait as long as Retry-After says, then ask again",
    Code.STORE_FULL: "wait, or have an operator give the coordinator more room",
    Code.UNAVAILABLE: (
        "send it again; a task with an Idempotency-Key is taken once however often it is sent"
    ),
    Code.STOPPING: "the sidecar stops; send it again when it is back",
}
_HINT = "GET /openapi.json says what can be sent"
RETRY_MS_MIN = 1_000
"""``Retry-After`` has whole seconds."""


class Problem(Exception):
    """An error to answer with; raised by what reads a request.

    Args:
        status: Of the answer.
        code: For programs.
        detail: What was wrong with this request.
        hint: What to do.
        retry_after_ms: When it may be better; 0 says nothing.
        allow: The methods that a path has, for 405.
    """

    def __init__(  # noqa: PLR0913 (one for each thing that an answer says)
        self,
        status: int,
        code: str,
        detail: str,
        hint: str,
        retry_after_ms: int = 0,
        *,
        allow: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.retry_after_ms = retry_after_ms
        self.allow = allow

    def members(self) -> dict[str, Any]:
        """Return the members of the problem object."""
        made: dict[str, Any] = {
            "type": TYPE + self.code,
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
        }
        if self.retry_after_ms:
            made["retry_after_ms"] = self.retry_after_ms
        return made

    def answer(self, exchange: Exchange) -> None:
        """Give it as the answer."""
        headers = {}
        if self.retry_after_ms:
            headers["Retry-After"] = str(-(-self.retry_after_ms // 1000))
        if self.allow:
            headers["Allow"] = self.allow
        body = json.dumps(self.members()).encode()
        exchange.tell(self.status, body, PROBLEM, headers)


def of_code(code: str, detail: str = "", retry_after_ms: int = 0) -> Problem:
    """Return the problem that a code of the protocol is."""
    facts = CODES.get(code)
    if facts is not None and facts.retry:
        retry_after_ms = max(retry_after_ms, RETRY_MS_MIN)
    meaning = facts.meaning if facts is not None else "see the code"
    return Problem(
        STATUS.get(code, 400), code, detail or meaning, HINTS.get(code, _HINT), retry_after_ms
    )
