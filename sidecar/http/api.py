"""The routes that every sidecar has, and the words of the OpenAPI document about each."""

from typing import Any

from protocol import limits
from protocol.messages import Priority
from sidecar.http import batch, events, health, tasks
from sidecar.http.exchange import EVENTS, JSON, NDJSON, Route
from sidecar.http.openapi import DURATION, HANDLER, ID, content, parameter, problems, ref
from sidecar.http.options import DURABILITIES

_SECONDS = {"type": "integer", "minimum": 0, "maximum": limits.WAIT_MS_MAX // 1000}
_DURATION = {"type": "string", "pattern": DURATION}
_TEXT = {"type": "string"}
_KEY = {"type": "string", "pattern": f"^[!-~]{{1,{limits.KEY_CHARS_MAX}}}$"}

_HANDLER = parameter("path", "handler", {"type": "string", "pattern": HANDLER}, "service.name")
_ID = parameter("path", "id", {"type": "string", "pattern": ID}, "The task's id.")

_QUERY = [
    parameter("query", "delay", _DURATION, "Not to begin before this has passed.", "10m"),
    parameter("query", "at", _TEXT, "Not to begin before: ISO 8601, or ms since 1970."),
    parameter("query", "priority", {"enum": [p.name.lower() for p in Priority]}),
    parameter("query", "collection", {"type": "string", "pattern": HANDLER}, "A label."),
    parameter("query", "timeout", _DURATION, "Longest run of one attempt.", "30s"),
    parameter(
        "query", "attempts", {"type": "integer", "minimum": 1, "maximum": limits.ATTEMPTS_MAX}
    ),
    parameter("query", "backoff", _TEXT, "A duration, or exp(SHORTEST,LONGEST).", "exp(1s,5m)"),
    parameter("query", "expires", _DURATION, "Not to begin later than this after it was due."),
    parameter("query", "key", _KEY, "As Idempotency-Key."),
]
_TRACE = [
    parameter("header", "traceparent", _TEXT, "W3C Trace Context, given to the handler."),
    parameter("header", "tracestate", _TEXT),
    parameter("header", "baggage", _TEXT),
]
_DURABILITY = parameter(
    "header",
    "Task-Durability",
    {"enum": list(DURABILITIES)},
    "accepted: do not answer before the coordinator has it.",
)
_WAIT = parameter("query", "wait", _SECONDS, "Seconds to wait for the task's end.", 30)
_LOCATION = {"Location": {"schema": _TEXT, "description": "Where the task's status is."}}
_TASK_STATUS = content(JSON, ref("Status"))


def _lines(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what stands on each line; OpenAPI 3.1 has no other word for it."""
    return {"type": "array", "items": schema, "minItems": 1, "maxItems": batch.LINES_MAX}


SUBMIT: dict[str, Any] = {
    "summary": "Submit one task; the body is its payload",
    "description": "202 says that the task is on disk: of the coordinator, or of the sidecar "
    "(Task-Durability: spooled) while the coordinator is out of reach.",
    "operationId": "submitTask",
    "parameters": [
        _HANDLER,
        *_QUERY,
        *_TRACE,
        _DURABILITY,
        parameter("header", "Idempotency-Key", _KEY, "The same key is the same task."),
        parameter("header", "Task-Meta-NAME", _TEXT, "Any text, given to the handler as NAME."),
        parameter("header", "Prefer", _TEXT, "wait=SECONDS: answer when it has ended.", "wait=10"),
    ],
    "requestBody": {"content": {JSON: {"schema": {}}, "application/octet-stream": {}}},
    "responses": {
        "202": {
            "description": "The task is durable.",
            "headers": _LOCATION,
            **content(JSON, ref("Accepted")),
        },
        "200": {
            "description": "It was there already (Task-Duplicate), or has ended (Prefer: wait).",
            "headers": _LOCATION,
            **content(JSON, {"anyOf": [ref("Accepted"), ref("Status")]}),
        },
        **problems(422, 429),
    },
}
BATCH: dict[str, Any] = {
    "summary": "Submit many tasks, one on each line",
    "description": "The answer has a line for each line, in order: a task, or a problem.",
    "operationId": "submitBatch",
    "parameters": [*_TRACE, _DURABILITY],
    "requestBody": {"required": True, **content(NDJSON, _lines(ref("NewTask")))},
    "responses": {
        "200": {
            "description": "What came of each line.",
            **content(NDJSON, _lines({"anyOf": [ref("Accepted"), ref("Problem")]})),
        },
        **problems(429),
    },
}
SHOW: dict[str, Any] = {
    "summary": "Tell a task's status, now or when it has ended",
    "operationId": "showTask",
    "parameters": [_ID, _WAIT],
    "responses": {"200": {"description": "The status.", **_TASK_STATUS}, **problems(404, 429)},
}
CANCEL: dict[str, Any] = {
    "summary": "Cancel a task",
    "description": "A task that waits is cancelled at once; one that runs is told to stop.",
    "operationId": "cancelTask",
    "parameters": [
        _ID,
        parameter("query", "reason", {**_TEXT, "maxLength": limits.REASON_CHARS_MAX}),
    ],
    "responses": {
        "200": {"description": "The status: it has ended, so or otherwise.", **_TASK_STATUS},
        "202": {"description": "Its attempt is told to stop.", **_TASK_STATUS},
        **problems(404, 429),
    },
}
FOLLOW: dict[str, Any] = {
    "summary": "Follow a task: an event for each change, until it has ended",
    "operationId": "followTask",
    "parameters": [_ID, parameter("header", "Last-Event-ID", _TEXT, "The last revision seen.")],
    "responses": {
        "200": {"description": "Events whose data is a Status.", **content(EVENTS, _TEXT)},
        "204": {"description": "It has ended, and nothing has changed since Last-Event-ID."},
        **problems(404, 429),
    },
}


def _plain(summary: str, operation_id: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": operation_id,
        "responses": {"200": {"description": "So it is.", **content(JSON, schema)}, **problems()},
    }


def routes() -> list[Route]:
    """Return the routes."""
    object_ = {"type": "object"}
    return [
        Route("POST", "/v1/tasks", batch.submit, BATCH, batch.BODY_BYTES_MAX),
        Route("POST", "/v1/tasks/{handler}", tasks.submit, SUBMIT),
        Route("GET", "/v1/tasks/{id}", tasks.show_task, SHOW),
        Route("DELETE", "/v1/tasks/{id}", tasks.cancel, CANCEL),
        Route("GET", "/v1/tasks/{id}/events", events.follow, FOLLOW),
        Route("GET", "/livez", health.live, _plain("Whether the process answers", "live", object_)),
        Route("GET", "/readyz", health.ready, READY),
        Route(
            *("GET", "/v1/sidecar", health.facts),
            _plain("What the sidecar knows of itself: link, spool, leases", "facts", object_),
        ),
    ]


READY: dict[str, Any] = {
    "summary": "Whether the coordinator is reached at present",
    "description": "Submitting may be possible also when it is not: to the spool.",
    "operationId": "ready",
    "responses": {
        **problems(),
        "200": {"description": "It is.", **content(JSON, {"type": "object"})},
        "503": {"description": "It is not; trouble says why.", **content(JSON, {})},
    },
}
