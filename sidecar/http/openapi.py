"""The OpenAPI document: what the routes say of themselves, and the schemas they refer to."""

import json
from collections.abc import Iterable
from typing import Any

from protocol import limits
from protocol.messages import OutcomeKind, Priority, State
from protocol.version import SOFTWARE
from sidecar.http.exchange import Route

OPENAPI = "3.1.0"
HANDLER = "^[a-z0-9._-]{1,64}$"
ID = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
DURATION = "^[0-9]{1,9}(ms|s|m|h|d)$"

_INSTANT = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


SCHEMAS: dict[str, Any] = {
    "Problem": _object(
        "type title status detail code hint",
        type={"type": "string", "description": "urn:pillion:problem: and the code"},
        title=_TEXT,
        status={"type": "integer", "minimum": 400, "maximum": 599},
        detail={"type": "string", "description": "What was wrong."},
        code={"type": "string", "description": "What programs may act on."},
        hint={"type": "string", "description": "What to do."},
        retry_after_ms=_COUNT,
        line={"type": "integer", "minimum": 1, "description": "In a batch: which line it was."},
    ),
    "Accepted": _object(
        "id handler durability",
        id={"type": "string", "format": "uuid"},
        handler=_TEXT,
        state={"enum": ["ready", "scheduled"]},
        run_at=_INSTANT,
        durability={
            "enum": ["accepted", "spooled"],
            "description": "accepted: on the coordinator's disk. spooled: on the sidecar's, "
            "because the coordinator is out of reach.",
        },
        duplicate={"const": True, "description": "The task was there already."},
    ),
    "Attempt": _object(
        "delivery started_at run_ms outcome sidecar",
        delivery=_COUNT,
        started_at=_INSTANT,
        run_ms={"type": "number", "minimum": 0},
        outcome={"enum": [kind.name.lower() for kind in OutcomeKind]},
        sidecar=_TEXT,
        error_type=_TEXT,
        message=_TEXT,
        detail=_TEXT,
    ),
    "Status": _object(
        "id handler state revision priority submitted_at run_at attempts attempts_max deliveries"
        " sidecars history",
        id={"type": "string", "format": "uuid"},
        handler=_TEXT,
        state={"enum": [state.name.lower() for state in State]},
        revision={"type": "integer", "description": "Another one with every change."},
        priority={"enum": [priority.name.lower() for priority in Priority]},
        collection=_TEXT,
        submitted_at=_INSTANT,
        run_at=_INSTANT,
        expires_at=_INSTANT,
        finished_at=_INSTANT,
        attempts={**_COUNT, "description": "Charged ones."},
        attempts_max=_COUNT,
        deliveries={**_COUNT, "description": "Attempts, charged or not."},
        sidecar={"type": "string", "description": "Which has the task at present."},
        sidecars={**_COUNT, "description": "How many serve the handler: 0 tells why it waits."},
        progress={"type": "number", "minimum": 0, "maximum": 1},
        note=_TEXT,
        checkpoint={"type": "string", "description": "In base64url."},
        cancelling={"const": True, "description": "Cancelled, and its attempt still stops."},
        error={"type": "string", "description": "Why it ended without success."},
        result={"description": "JSON as it is, other text as a string, bytes in base64."},
        result_type=_TEXT,
        result_encoding={"const": "base64"},
        history={"type": "array", "items": {"$ref": "#/components/schemas/Attempt"}},
    ),
    "NewTask": _object(
        "handler",
        handler={"type": "string", "pattern": HANDLER},
        payload={"description": "Any JSON; a text when there is a content_type."},
        payload_base64={"type": "string", "contentEncoding": "base64"},
        content_type={"type": "string", "maxLength": limits.CONTENT_TYPE_CHARS_MAX},
        delay={"type": "string", "pattern": DURATION},
        at={"anyOf": [_INSTANT, _COUNT]},
        priority={"enum": [priority.name.lower() for priority in Priority]},
        collection={"type": "string", "pattern": HANDLER},
        timeout={"type": "string", "pattern": DURATION},
        attempts={"type": "integer", "minimum": 1, "maximum": limits.ATTEMPTS_MAX},
        backoff={"type": "string", "description": "A duration, or exp(SHORTEST,LONGEST)."},
        expires={"type": "string", "pattern": DURATION},
        key={"type": "string", "minLength": 1, "maxLength": limits.KEY_CHARS_MAX},
        traceparent=_TEXT,
        tracestate=_TEXT,
        baggage=_TEXT,
        meta={
            "type": "object",
            "maxProperties": limits.META_ENTRIES_MAX,
            "propertyNames": {"pattern": "^[a-z0-9._-]{1,64}$"},
            "additionalProperties": {
                "type": "string",
                "maxLength": limits.META_TEXT_CHARS_MAX,
            },
        },
    ),
}


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a body."""
    return {"content": {kind: {"schema": schema}}}


def parameter(
    place: str, name: str, schema: dict[str, Any], description: str = "", example: object = None
) -> dict[str, Any]:
    """Return one parameter."""
    made: dict[str, Any] = {"name": name, "in": place, "schema": schema}
    if place == "path":
        made["required"] = True
    if description:
        made["description"] = description
    if example is not None:
        made["example"] = example
    return made


def problems(*statuses: int) -> dict[str, Any]:
    """Return the responses that are problems; every route has those of bad requests."""
    body = content("application/problem+json", ref("Problem"))
    made = {}
    for status in sorted({400, 408, 413, 415, 417, 431, 503, *statuses}):
        made[str(status)] = {"description": _PROBLEMS[status], **body}
        if status in (429, 503):
            seconds = {"schema": {"type": "integer"}, "description": "Seconds."}
            made[str(status)]["headers"] = {"Retry-After": seconds}
    return made


_PROBLEMS = {
    400: "The request is wrong; the hint says how.",
    403: "The handler is of another service.",
    404: "There is no such task, or not any more.",
    410: "The lease is gone: the task has ended, or is another attempt's.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "Content-Encoding is not served.",
    417: "Only 100-continue can be expected.",
    422: "The key belongs to another task.",
    429: "Too much waits for an answer; come again after Retry-After.",
    431: "The headers are too large.",
    503: "The coordinator, its store or this sidecar cannot take it now.",
}


def document(routes: Iterable[Route]) -> bytes:
    """Return the document of some routes."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = route.operation
    return json.dumps(
        {
            "openapi": OPENAPI,
            "info": {
                "title": "Pillion sidecar",
                "version": SOFTWARE,
                "description": "Submit tasks, follow them, cancel them; on the sidecar's socket.",
            },
            "servers": [{"url": "http://localhost"}],
            "paths": paths,
            "components": {"schemas": SCHEMAS},
        }
    ).encode()
