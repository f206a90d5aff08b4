"""Submitting one task, asking for it, cancelling it."""

import re
import time
from collections.abc import Callable

from protocol import limits
from protocol.errors import Code, InvalidId
from protocol.ids import TaskIds, from_text, keyed_id, to_text, why_unknown
from protocol.messages import Rejection, Reply, Submission, Verdict
from protocol.submission import check, encode_batch
from sidecar.http.exchange import Exchange
from sidecar.http.options import check_names, read_durability, read_headers, read_options
from sidecar.http.problems import Problem, of_code
from sidecar.http.status import document, is_json
from sidecar.http.times import show, wait_ms

FORM = "application/x-www-form-urlencoded"
_PREFER_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?", re.IGNORECASE)
_ids = TaskIds()


def submit(exchange: Exchange) -> None:
    """Submit one task: ``POST /v1/tasks/{handler}``."""
    request = exchange.request
    task = _read_task(exchange)
    spool = read_durability(request.headers)
    prefer = request.headers.get("prefer")
    wait = None if prefer is None else _read_prefer(prefer)
    tasks = encode_batch([task])
    request.body = b""  # An exchange may wait for long; its payload is on its way.
    task = Submission(task.id, task.handler, b"", None, task.options)

    def told(verdict: Verdict) -> None:
        problem = of_verdict(verdict, 0)
        if problem is not None:
            problem.answer(exchange)
        elif wait is None or verdict.code == Code.SPOOLED:
            _accept(exchange, task, verdict, wait)
        else:
            exchange.peer.ask(
                task.id,
                wait_ms=1000 * wait,
                revision=-1,
                done=lambda reply: _waited(exchange, task, verdict, wait, reply),
            )

    exchange.peer.submit(tasks, spool=spool, done=told)


def _read_task(exchange: Exchange) -> Submission:
    request = exchange.request
    options = read_headers(request.headers)
    if request.query:
        of_query = read_options(request.query)
        key = options.get("key")
        if key is not None and of_query.get("key", key) != key:
            detail = "key and Idempotency-Key differ"
            raise Problem(400, Code.INVALID_OPTION, detail, "give one of them")
        options |= of_query
    content_type = request.headers.get("content-type")
    if content_type is not None:
        content_type = _content_type(content_type, request.body)
    return made_task(request.params["handler"], request.body, content_type, options)


def made_task(
    handler: str, payload: bytes, content_type: str | None, options: dict[str, object]
) -> Submission:
    """Return a task with its id.

    Raises:
        Problem: Something in it cannot be taken.
    """
    key = options.get("key")
    keyed = type(key) is str and key != ""
    task_id = keyed_id(handler, str(key)) if keyed else _ids.new()
    checked = check(0, [task_id, handler, payload, content_type, options or None])
    if isinstance(checked, Rejection):
        raise of_code(checked.code, checked.detail)
    return checked


def _content_type(given: str, body: bytes) -> str | None:
    """Return the type of a payload; None is JSON. ``curl -d`` calls everything a form."""
    if given == "application/json":
        return None
    if given.partition(";")[0].strip().lower() == FORM and is_json(body):
        return None
    return given


def _read_prefer(prefer: str) -> int | None:
    """Return the seconds of ``Prefer: wait=N``; what else is preferred is not served."""
    found = _PREFER_WAIT.search(prefer)
    return None if found is None else min(int(found[1]), limits.WAIT_MS_MAX // 1000)


def of_verdict(verdict: Verdict, place: int) -> Problem | None:
    """Return why the task at one place of a batch was not taken; None if it was."""
    if verdict.code is not None and verdict.code != Code.SPOOLED:
        return of_code(verdict.code, verdict.detail, verdict.retry_after_ms)
    for rejection in verdict.rejections:
        if rejection.place == place:
            return of_code(rejection.code, rejection.detail)
    return None


def accepted(task: Submission, verdict: Verdict, *, duplicate: bool) -> bytes:
    """Return the document of a task that was taken."""
    durability = "accepted" if verdict.code is None else "spooled"
    start = f'{{"id": "{to_text(task.id)}", "handler": "{task.handler}", '
    if duplicate:
        return f'{start}"duplicate": true, "durability": "{durability}"}}'.encode()
    now_ms = time.time_ns() // 1_000_000
    run_ms = now_ms
    if task.options is not None:
        run_ms = max(now_ms, task.options.get("at_ms", 0), now_ms + task.options.get("delay_ms", 0))
    state = "ready" if run_ms == now_ms else "scheduled"
    end = f'"state": "{state}", "run_at": "{show(run_ms)}", "durability": "{durability}"}}'
    return (start + end).encode()


def _accept(exchange: Exchange, task: Submission, verdict: Verdict, wait: int | None) -> None:
    headers = {
        "Location": f"/v1/tasks/{to_text(task.id)}",
        "Task-Durability": "accepted" if verdict.code is None else "spooled",
    }
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
    status = 202
    if verdict.duplicates:
        status = 200
        headers["Task-Duplicate"] = "true"
    exchange.tell(status, accepted(task, verdict, duplicate=status == 200), headers=headers)


def _waited(
    exchange: Exchange, task: Submission, verdict: Verdict, wait: int, reply: Reply
) -> None:
    if reply.status is None or not reply.status.state.terminal:
        _accept(exchange, task, verdict, wait)
        return
    headers = {
        "Location": f"/v1/tasks/{to_text(task.id)}",
        "Task-Durability": "accepted",
        "Preference-Applied": f"wait={wait}",
    }
    if verdict.duplicates:
        headers["Task-Duplicate"] = "true"
    exchange.tell(200, document(reply.status), headers=headers)


def show_task(exchange: Exchange) -> None:
    """Tell a task's status, now or when it has ended: ``GET /v1/tasks/{id}[?wait=30]``."""
    query = exchange.request.query
    check_names(query, ("wait",))
    wait = wait_ms("wait", query["wait"]) if "wait" in query else 0
    exchange.peer.ask(read_id(exchange), wait_ms=wait, revision=-1, done=_teller(exchange))


def cancel(exchange: Exchange) -> None:
    """Cancel a task: ``DELETE /v1/tasks/{id}[?reason=]``."""
    query = exchange.request.query
    check_names(query, ("reason",))
    reason = query.get("reason", "")
    if len(reason) > limits.REASON_CHARS_MAX:
        detail = f"reason has {len(reason)} characters"
        hint = f"reason takes at most {limits.REASON_CHARS_MAX}"
        raise Problem(400, Code.INVALID_OPTION, detail, hint)
    exchange.peer.cancel(read_id(exchange), reason, done=_teller(exchange))


def unanswered(exchange: Exchange, reply: Reply) -> Problem:
    """Return why there is no status."""
    code = reply.code or Code.UNKNOWN_TASK
    if code != Code.UNKNOWN_TASK:
        return of_code(code)
    return of_code(code, why_unknown(read_id(exchange), time.time_ns() // 1_000_000))


def _teller(exchange: Exchange) -> Callable[[Reply], None]:
    def tell(reply: Reply) -> None:
        if reply.status is None:
            unanswered(exchange, reply).answer(exchange)
        else:
            status = 202 if reply.status.cancelling else 200
            exchange.tell(status, document(reply.status))

    return tell


def read_id(exchange: Exchange) -> bytes:
    """Return the task that the path names.

    Raises:
        Problem: It is no id.
    """
    try:
        return from_text(exchange.request.params["id"])
    except InvalidId as error:
        hint = "a task's id is in the answer to its submission; a handler takes POST"
        raise Problem(400, Code.INVALID_ID, str(error), hint) from None
