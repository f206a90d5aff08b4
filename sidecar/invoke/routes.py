"""The requests of services that pull, and of those that complete a task later."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from protocol import limits
from protocol.errors import Code, InvalidId
from protocol.ids import from_text, to_text
from protocol.messages import Refused
from sidecar.http.exchange import JSON, Exchange, Request, Route
from sidecar.http.openapi import ID, content, parameter, problems
from sidecar.http.options import check_names
from sidecar.http.problems import Problem, of_code
from sidecar.http.status import is_json
from sidecar.invoke import reports
from sidecar.invoke.answers import Told, retry_after_ms
from sidecar.invoke.host import Attempt
from sidecar.invoke.hosts import Hosts
from sidecar.invoke.particulars import particulars
from sidecar.invoke.pull import PullHost

WAIT_SECONDS, WAIT_SECONDS_MAX = 30, 60
HANDLERS_MAX = 64
"""Handlers that one request may ask for."""
FORM = "application/x-www-form-urlencoded"
_TOKEN_DIGITS_MAX = 19


class Waiting:
    """A request for the next task, until it is answered."""

    def __init__(self, exchange: Exchange, hosts: list[PullHost], seconds: int) -> None:
        self._exchange = exchange
        self._hosts = hosts
        self._timer = asyncio.get_running_loop().call_later(seconds, self._over)
        exchange.on_gone(self._leave)
        for host in hosts:
            host.wait(self)

    def _leave(self) -> None:
        self._timer.cancel()
        for host in self._hosts:
            host.unwait(self)

    def _over(self) -> None:
        self._leave()
        self._exchange.respond(204)

    def take(self, attempt: Attempt) -> None:
        """Answer with the task."""
        self._leave()
        now_ms = time.time_ns() // 1_000_000
        headers = dict(particulars(attempt.host.handler.name, attempt.task, now_ms))
        content_type = headers.pop("Content-Type")
        self._exchange.respond(200, attempt.task.payload, content_type, headers)

    def refused(self, refused: Refused) -> None:
        """Answer with a problem; while the sidecar stops, that there is no task."""
        self._leave()
        if refused.code == Code.STOPPING:
            self._exchange.respond(204)
        else:
            of_code(refused.code, refused.detail, refused.retry_after_ms).answer(self._exchange)


class Completing:
    """The functions behind the routes."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def next(self, exchange: Exchange) -> None:
        """Answer with the next task of some handlers: ``GET /v1/next``."""
        query = exchange.request.query
        check_names(query, ("handler", "wait"))
        seconds = _seconds(query.get("wait", str(WAIT_SECONDS)))
        names = [name for name in query.get("handler", "").split(",") if name]
        if not 1 <= len(names) <= HANDLERS_MAX:
            detail = f"{len(names)} handlers are named"
            hint = "name them: /v1/next?handler=email.send,email.read&wait=30"
            raise Problem(400, Code.INVALID_HANDLER, detail, hint)
        if self._hosts.stopping:
            raise of_code(Code.STOPPING)
        try:
            hosts = [self._hosts.pulled(name) for name in dict.fromkeys(names)]
        except ValueError as error:
            raise Problem(
                400, Code.INVALID_HANDLER, str(error), "ask for handlers of this service that pull"
            ) from None
        Waiting(exchange, hosts, seconds)

    def settle(self, sign: str) -> Callable[[Exchange], None]:
        """Return the function that takes one word of outcome."""

        def function(exchange: Exchange) -> None:
            request = exchange.request
            attempt = self._attempt(request)
            fate = attempt.settle(sign, _told(request))
            body = {"id": to_text(attempt.task.id), "outcome": fate.value}
            exchange.tell(200, json.dumps(body).encode())

        return function

    def heartbeat(self, exchange: Exchange) -> None:
        """Take a sign of life, and say whether to go on."""
        request = exchange.request
        attempt = self._attempt(request)
        update = None
        if request.body.strip():
            try:
                update = reports.update(attempt.lease, reports.read(request.body))
            except reports.BadReport as error:
                hint = 'send {"progress": 0.4, "note": "...", "checkpoint": ...}, or nothing'
                raise Problem(400, Code.MALFORMED, str(error), hint) from None
        attempt.host.progress(attempt, update)
        passed_ms = int(1000 * (time.monotonic() - attempt.begun))
        body: dict[str, Any] = {
            "cancel": bool(attempt.reason),
            "timeout_ms": max(0, attempt.task.timeout_ms - passed_ms),
        }
        if attempt.reason:
            body["reason"] = attempt.reason
        exchange.tell(200, json.dumps(body).encode())

    def _attempt(self, request: Request) -> Attempt:
        text = request.headers.get("task-token", "")
        if not text.isascii() or not text.isdecimal() or len(text) > _TOKEN_DIGITS_MAX:
            detail = "Task-Token is missing, or is no number"
            raise Problem(
                400, Code.MALFORMED, detail, "send the Task-Token that came with the task"
            )
        try:
            task_id = from_text(request.params["id"])
        except InvalidId as error:
            hint = "the id is the Task-Id that came with the task"
            raise Problem(400, Code.INVALID_ID, str(error), hint) from None
        attempt = self._hosts.attempts.find(task_id, int(text))
        if attempt is None or attempt.reason == "lease-lost":
            raise of_code(Code.STALE_TOKEN)
        return attempt


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise Problem(400, Code.INVALID_OPTION, "wait is no number of seconds", "such as wait=30")
    return max(1, min(int(text), WAIT_SECONDS_MAX))


def _told(request: Request) -> Told:
    headers = request.headers
    content_type = headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() == FORM and is_json(request.body):
        content_type = JSON  # curl -d calls everything a form.
    return Told(
        request.body,
        content_type,
        headers.get("task-outcome", ""),
        headers.get("task-error-type", ""),
        retry_after_ms(
            headers.get("retry-after", ""),
            headers.get("task-retry-after-ms", ""),
            time.time_ns() // 1_000_000,
        ),
    )


# --- What the OpenAPI document says of them ----------------------------------------------------

_OBJECT = content(JSON, {"type": "object"})
_ID = parameter("path", "id", {"type": "string", "pattern": ID}, "The task's id.")
_TOKEN = {
    **parameter("header", "Task-Token", {"type": "string", "pattern": "^[0-9]{1,19}$"}),
    "required": True,
    "description": "As it came with the task.",
}
_NEXT: dict[str, Any] = {
    "summary": "Take the next task of some handlers",
    "description": "The body is its payload; the headers are those of a pushed task.",
    "operationId": "nextTask",
    "parameters": [
        {
            **parameter("query", "handler", {"type": "string"}, "Handlers, with commas between."),
            "required": True,
        },
        parameter(
            "query",
            "wait",
            {"type": "integer", "minimum": 0, "maximum": 999_999},
            f"Seconds to wait, from 1 to {WAIT_SECONDS_MAX}.",
            WAIT_SECONDS,
        ),
    ],
    "responses": {
        "200": {"description": "A task.", **content("*/*", {})},
        "204": {"description": "There was none in this time."},
        **problems(403),
    },
}


def _operation(summary: str, operation_id: str, body: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": operation_id,
        "parameters": [_ID, _TOKEN],
        "requestBody": {"description": body, **content("*/*", {})},
        "responses": {"200": {"description": "It is taken.", **_OBJECT}, **problems(410)},
    }


def routes(hosts: Hosts) -> list[Route]:
    """Return the routes."""
    at = Completing(hosts)
    path = "/v1/tasks/{id}/"
    why = "Why: a problem (RFC 9457), JSON with message and detail, or text."
    report = "Nothing, or JSON with progress, note, checkpoint."
    return [
        Route("GET", "/v1/next", at.next, _NEXT),
        Route(
            "POST",
            path + "complete",
            at.settle("complete"),
            _operation("Complete a task", "completeTask", "The result."),
        ),
        Route(
            "POST",
            path + "fail",
            at.settle("fail"),
            _operation("Say that an attempt failed", "failTask", why),
        ),
        Route(
            "POST",
            path + "defer",
            at.settle("defer"),
            _operation("Give a task back: not now", "deferTask", why),
        ),
        Route(
            "POST",
            path + "heartbeat",
            at.heartbeat,
            _operation("Say that an attempt goes on", "beatTask", report),
            limits.CHECKPOINT_BYTES_MAX * 16,
        ),
    ]
