"""Many tasks in one request: a line of JSON for each, and a line of the answer for each.

A line that is wrong has its problem in its place, and harms none beside it. So that a large batch
holds nobody up, some lines are read in each turn of the loop, and are submitted together.
"""

import asyncio
import base64
import binascii
import json
from typing import Any, NamedTuple

from protocol import limits
from protocol.errors import Code
from protocol.messages import Submission, Verdict
from protocol.submission import encode_batch
from sidecar.http.exchange import JSON, NDJSON, Exchange
from sidecar.http.options import (
    TRACE_HEADERS,
    check_names,
    read_durability,
    read_headers,
    read_options,
)
from sidecar.http.problems import Problem, of_code
from sidecar.http.status import refuse_constant
from sidecar.http.tasks import accepted, made_task, of_verdict
from sidecar.http.times import invalid

BODY_BYTES_MAX = limits.FRAME_BYTES_MAX
LINES_MAX = limits.BATCH_TASKS_MAX
LINES_PER_TURN = 200
OTHER_MEMBERS = ("handler", "payload", "payload_base64", "content_type", *TRACE_HEADERS, "meta")
"""What a line may have beside the options."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class _Place(NamedTuple):
    """Where the verdict on a line is to be found."""

    line: int
    task: Submission
    place: int


def submit(exchange: Exchange) -> None:
    """Submit many tasks: ``POST /v1/tasks``."""
    request = exchange.request
    check_names(request.query, ())
    lines = [line for line in request.body.split(b"\n") if line.strip()]
    request.body = b""
    if not lines:
        hint = 'send lines such as {"handler": "email.send", "payload": {"to": "a@b.c"}}'
        raise Problem(400, Code.MALFORMED, "the body has no line", hint)
    if len(lines) > LINES_MAX:
        detail = f"the body has {len(lines)} lines; the limit is {LINES_MAX}"
        raise of_code(Code.BATCH_TOO_LARGE, detail)
    _Work(exchange, lines).turn()


class _Work:
    """A batch that is being read, submitted and answered."""

    def __init__(self, exchange: Exchange, lines: list[bytes]) -> None:
        self._exchange = exchange
        self._lines = lines
        self._answers: list[bytes] = [b""] * len(lines)
        self._whole: Problem | None = None
        """Why everything so far was refused that was submitted."""
        self._any_taken = False
        self._read = 0
        self._open = 0
        self._spool = read_durability(exchange.request.headers)
        self._trace = read_headers(
            {k: v for k, v in exchange.request.headers.items() if k in TRACE_HEADERS}
        )

    def turn(self) -> None:
        """Read some lines, submit them, and come back for the rest."""
        if self._exchange.done:
            return
        places: list[_Place] = []
        for line in range(self._read, min(self._read + LINES_PER_TURN, len(self._lines))):
            try:
                places.append(_Place(line, _read_line(self._lines[line], self._trace), len(places)))
            except Problem as problem:
                self._refuse(line, problem)
            self._lines[line] = b""
        self._read += LINES_PER_TURN
        if places:
            self._open += 1
            self._exchange.peer.submit(
                encode_batch([p.task for p in places]),
                spool=self._spool,
                done=lambda verdict: self._told(places, verdict),
            )
        if self._read < len(self._lines):
            asyncio.get_running_loop().call_soon(self.turn)
        elif not self._open:
            self._answer()

    def _told(self, places: list[_Place], verdict: Verdict) -> None:
        self._open -= 1
        rejected = {rejection.place for rejection in verdict.rejections}
        duplicates = set(verdict.duplicates)
        refused = verdict.code not in (None, Code.SPOOLED)
        for line, task, place in places:
            if refused or place in rejected:
                problem = of_verdict(verdict, place)
                assert problem is not None
                self._refuse(line, problem)
                continue
            self._answers[line] = accepted(task, verdict, duplicate=place in duplicates)
        if refused:
            self._whole = of_verdict(verdict, 0)
        else:
            self._any_taken = True
        if not self._open and self._read >= len(self._lines):
            self._answer()

    def _refuse(self, line: int, problem: Problem) -> None:
        self._answers[line] = json.dumps(problem.members() | {"line": line + 1}).encode()

    def _answer(self) -> None:
        if self._whole is not None and not self._any_taken:
            self._whole.answer(self._exchange)
        else:
            self._exchange.respond(200, b"\n".join(self._answers) + b"\n", NDJSON)


def _read_line(line: bytes, trace: dict[str, Any]) -> Submission:
    try:
        given = json.loads(line.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        detail = f"the line is not JSON: {str(error)[:100]}"
        raise Problem(400, Code.MALFORMED, detail, "send one JSON object on each line") from None
    if type(given) is not dict:
        hint = "send one JSON object on each line, and no list around them"
        raise Problem(400, Code.MALFORMED, "the line is no JSON object", hint)
    handler = given.get("handler")
    if type(handler) is not str:
        hint = 'say which handler it is for, as in "handler": "email.send"'
        raise Problem(400, Code.INVALID_HANDLER, "the line names no handler", hint)
    options = read_options(given, also=OTHER_MEMBERS)
    options |= trace
    options |= {name: given[name] for name in (*TRACE_HEADERS, "meta") if name in given}
    content_type = given.get("content_type")
    if content_type == JSON:
        content_type = None
    return made_task(handler, _payload(given, content_type), content_type, options)


def _payload(given: dict[str, Any], content_type: Any) -> bytes:
    """Return the payload's bytes: JSON, or what the content type says, as text or base64."""
    if "payload_base64" in given:
        encoded = given["payload_base64"]
        if "payload" in given:
            detail = "payload and payload_base64 exclude each other"
            raise Problem(400, Code.INVALID_PAYLOAD, detail, "give one of them")
        try:
            return base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise invalid("payload_base64", encoded, "standard base64") from None
    payload = given.get("payload")
    if "payload" not in given:
        return b""
    try:
        if content_type is not None:
            if type(payload) is not str:
                expected = "a text when a content_type is given; bytes go in payload_base64"
                raise invalid("payload", payload, expected)
            return payload.encode()
        return _encode(payload).encode()
    except (ValueError, RecursionError) as error:
        detail = f"the payload cannot be written: {str(error)[:100]}"
        raise Problem(400, Code.INVALID_PAYLOAD, detail, "send well-formed JSON") from None
