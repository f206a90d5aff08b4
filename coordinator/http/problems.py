"""Errors as answers: ``application/problem+json`` (RFC 9457), with a code and a hint.

To add a code: one row in ``CODES``; the OpenAPI document and the commands follow.
"""

from dataclasses import dataclass

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:pillion:problem:"
"""What stands before the code in ``type``."""

CODES: dict[str, tuple[int, str, str]] = {
    "invalid_filter": (400, "The filter cannot be read", "see the filter language in the docs"),
    "invalid_parameter": (400, "A parameter cannot be read", "see /openapi.json"),
    "unknown_parameter": (400, "There is no such parameter", "see /openapi.json"),
    "invalid_cursor": (400, "The cursor cannot be used", "begin with the first page"),
    "invalid_body": (400, "The body cannot be read", "see /openapi.json"),
    "invalid_policy": (400, "The policy cannot be so", "see the ranges in the docs"),
    "missing_owner": (400, "It is not said who asks", "give owner: your name"),
    "unauthorized": (401, "A token is needed", "send Authorization: Bearer TOKEN"),
    "foreign_host": (
        403,
        "The Host header names another machine",
        "ask 127.0.0.1 or localhost, or set http_token_file",
    ),
    "token_needed": (403, "A token is needed", "use the Unix socket, or set http_token_file"),
    "unknown_task": (404, "There is no such task", "check the id"),
    "unknown_handler": (404, "There is no such handler", "see /v1/handlers"),
    "unknown_gate": (404, "There is no such gate", "see /v1/gates"),
    "unknown_drain": (404, "There is no such drain", "see /v1/sidecars"),
    "unknown_override": (404, "Nothing was changed there", "see /v1/handlers/{name}"),
    "unknown_operation": (404, "There is no such operation", "see /v1/operations"),
    "unknown_path": (404, "There is nothing under this path", "see /openapi.json"),
    "wrong_method": (405, "This path has no such method", "see /openapi.json"),
    "backup_running": (409, "A backup is under way", "wait until it is done"),
    "no_room": (
        507,
        "The store has no room to grow",
        'raise store_map_size or free some space on its disk; see the docs, "disk fills"',
    ),
    "too_many_gates": (409, "There are too many gates", "lift some"),
    "too_many_drains": (409, "There are too many drains", "lift some"),
    "wrong_state": (409, "It is in a state that does not allow this", "look at it again"),
    "same_operation": (409, "This is under way already", "see /v1/operations, or stop it"),
    "conflicting_operation": (
        409,
        "Another operation changes the same tasks",
        "wait until it is done, or stop it",
    ),
    "too_many_operations": (429, "Too many operations are under way", "wait, or stop one"),
    "internal": (500, "The coordinator has failed", "its log says why; please report it"),
    "stopping": (503, "The coordinator stops", "ask again when it is back"),
    "too_many_watchers": (503, "Too many watch the events already", "close some, or poll"),
}
"""Status, title and hint of each code."""


@dataclass(frozen=True, slots=True)
class ProblemBody:
    """An error as an answer."""

    type: str
    title: str
    status: int
    code: str
    """For programs."""
    detail: str
    """What was wrong with this request."""
    hint: str
    """What to do."""


class Problem(Exception):
    """Raised by an endpoint that cannot answer.

    Args:
        code: One of ``CODES``.
        detail: What was wrong with this request.
        hint: What to do, if there is something better than what is usual for the code.
    """

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        status, title, usual = CODES[code]
        self.body = ProblemBody(TYPE + code, title, status, code, detail, hint or usual)


def unknown_handler(name: str) -> Problem:
    """Return the problem of a handler that nobody has named yet."""
    return Problem("unknown_handler", f"no task of {name!r} was submitted, and nobody serves it")
