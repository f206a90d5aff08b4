"""What ``submit``, ``status``, ``cancel`` and ``wait`` do: ask through the SDK, and print.

Data goes to stdout, talk to stderr. A long wait says what it waits for.
"""

import base64
import json
import socket as sockets
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from protocol.complaints import asks_json, complaint
from protocol.messages import Priority
from protocol.units import InvalidUnit, format_duration_ms, parse_duration_ms
from sidecar.sdk.address import socket_path
from sidecar.sdk.blocking import Client
from sidecar.sdk.errors import (
    Busy,
    PillionError,
    Refused,
    Rejected,
    TaskFailed,
    TaskNotFound,
    Unavailable,
)
from sidecar.sdk.status import TaskStatus

OK, NEGATIVE, USAGE, NOT_FOUND, UNREACHABLE, BUSY, TIMED_OUT = 0, 1, 2, 3, 5, 75, 124
ANSWER_TIMEOUT = "10s"
"""How long a command waits for an answer that should come at once."""
JSON_TYPE = "application/json"
_PROCESSES = "processes"
"""The fact that tells of the processes that a sidecar runs."""
_EXITS: tuple[tuple[type[Exception], int], ...] = (
    (Rejected, USAGE),
    (ValueError, USAGE),
    (Busy, BUSY),
    (Unavailable, UNREACHABLE),
    (Refused, UNREACHABLE),
    (TaskNotFound, NOT_FOUND),
    (TaskFailed, NEGATIVE),
    (TimeoutError, TIMED_OUT),
    (PillionError, NEGATIVE),
)

_WORDS = {
    NEGATIVE: "negative",
    USAGE: "usage",
    NOT_FOUND: "unknown_task",
    UNREACHABLE: "unreachable",
    BUSY: "busy",
    TIMED_OUT: "timed_out",
}
"""What each exit code is called where JSON is asked for."""


def submit(  # noqa: PLR0913 (one for each option of the command)
    *,
    handler: str,
    payload: str,
    delay: str | None,
    at: str | None,
    priority: str | None,
    collection: str | None,
    expires: str | None,
    attempts: int | None,
    task_id: str | None,
    key: str | None,
    wait: bool,
    timeout: str | None,
    accepted: bool,
    socket: str | None,
    output: str,
) -> int:
    """Submit a task; return the exit code."""

    def work(client: Client) -> int:
        task = client.submit(
            handler,
            _payload(payload),
            id=task_id,
            delay=delay,
            at=None if at is None else _instant(at),
            priority=priority or Priority.NORMAL.name.lower(),
            collection=collection,
            expires=expires,
            attempts=attempts,
            key=key,
            content_type=JSON_TYPE,
        )
        facts = {"id": task.id, "spooled": task.spooled, "duplicate": task.duplicate}
        print(json.dumps(facts) if output == "json" else task.id, flush=True)
        if task.duplicate:
            sys.stderr.write("it was there already\n")
        if task.spooled:
            sys.stderr.write("spooled: the sidecar keeps it until the coordinator accepts it\n")
        return _wait(client, task.id, timeout, output) if wait else OK

    return _run(work, socket, accepted_only=accepted)


def status(task_id: str | None, socket: str | None, output: str) -> int:
    """Show a task or the sidecar; return the exit code."""

    def work(client: Client) -> int:
        if task_id is None:
            facts = client.inspect()
            rows = _with_processes(facts)
            if output != "json":
                processes = enumerate(rows.pop(_PROCESSES, ()), 1)
                rows |= {f"process {number}": _process(own) for number, own in processes}
            _print(rows, output)
            return OK if facts.get("link") == "open" else NEGATIVE
        _show(client.status(task_id), output)
        return OK

    return _run(work, socket)


def cancel(task_id: str, reason: str, socket: str | None, output: str) -> int:
    """Cancel a task and show it; return the exit code: 0 if it is or will be cancelled."""

    def work(client: Client) -> int:
        found = client.cancel(task_id, reason)
        _show(found, output)
        return OK if found.cancelling or found.state == "cancelled" else NEGATIVE

    return _run(work, socket)


def _show(task: TaskStatus, output: str) -> None:
    if output == "json":
        print(json.dumps(asdict(task), default=_plain))
    else:
        _print(_rows(task), output)


def wait(task_id: str, timeout: str | None, socket: str | None, output: str) -> int:
    """Wait for a task; return the exit code."""
    return _run(lambda client: _wait(client, task_id, timeout, output), socket)


def _wait(client: Client, task_id: str, timeout: str | None, output: str) -> int:
    seconds = None if timeout is None else parse_duration_ms(timeout) / 1000
    if sys.stderr.isatty():
        sys.stderr.write(f"waiting for {task_id} to end\n")
    result = client.wait(task_id, timeout=seconds)
    if output == "json":
        print(json.dumps({"id": task_id, "state": "succeeded", "result": result}, default=_plain))
    elif isinstance(result, bytes):
        sys.stdout.buffer.write(result)
    elif result is not None:
        print(result if isinstance(result, str) else json.dumps(result))
    return OK


def _run(work: Callable[[Client], int], socket: str | None, *, accepted_only: bool = False) -> int:
    """Do something with a client, and turn what goes wrong into a message and an exit code."""
    try:
        _find_sidecar(socket_path(socket, None))
        with Client(socket, timeout=ANSWER_TIMEOUT, accepted_only=accepted_only) as client:
            return work(client)
    except tuple(kind for kind, _ in _EXITS) as error:
        code = next(code for kind, code in _EXITS if isinstance(error, kind))
        return _fail(str(error) or "the wait was over before the task", code, _WORDS.get(code, ""))
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(str(error), NEGATIVE, "")


def _fail(text: str, exit_code: int, code: str) -> int:
    as_json = asks_json(sys.argv[1:])
    sys.stderr.write(complaint("pillion-sidecar", text, exit_code, code=code, as_json=as_json))
    return exit_code


def _find_sidecar(path: str) -> None:
    """Fail at once where the client would try until its timeout: a person is waiting.

    Raises:
        Unavailable: Nothing serves the socket.
    """
    with sockets.socket(sockets.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            raise Unavailable(
                f"no sidecar serves {path}: {error.strerror or error}. Start it with "
                "pillion-sidecar run, or name its socket with --socket",
                sent=False,
            ) from None


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return text.encode()


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidUnit(
            f"--at {text!r}: expected a time with its offset, such as 2027-01-31T08:00+01:00"
        ) from None


def _rows(task: TaskStatus) -> dict[str, Any]:
    """Return what a person wants to read of a task."""
    now_ms = time.time_ns() // 1_000_000
    rows: dict[str, Any] = {
        "id": task.id,
        "handler": task.handler,
        "state": f"{task.state}, cancelling" if task.cancelling else task.state,
        "submitted": _moment(task.submitted_ms),
        "due": _moment(task.due_ms),
        "priority": task.priority,
        "attempts": f"{task.attempts} of {task.attempts_max}",
    }
    if task.state == "ready":
        waits = format_duration_ms(max(0, now_ms - task.due_ms) // 1000 * 1000)
        served = f"{task.sidecars} serve it" if task.sidecars else "no sidecar serves its handler"
        rows["waits"] = f"{waits}; {served}"
    optional = {
        "collection": task.collection,
        "sidecar": task.sidecar,
        "progress": "" if task.progress is None else f"{100 * task.progress:.1f} %",
        "note": task.note,
        "checkpoint": task.checkpoint and f"{len(task.checkpoint)} bytes",
        "expires": task.expires_ms and _moment(task.expires_ms),
        "finished": task.finished_ms and _moment(task.finished_ms),
        "error": task.error,
        "result": task.result if task.result is None else json.dumps(task.result, default=_plain),
    }
    rows |= {name: value for name, value in optional.items() if value}
    for attempt in task.history:
        reason = f": {attempt.error_type} {attempt.message}".rstrip() if attempt.error_type else ""
        rows[f"delivery {attempt.number}"] = (
            f"{attempt.outcome} after {attempt.run_us / 1000:.1f} ms on {attempt.sidecar}{reason}"
        )
    return rows


def _with_processes(facts: dict[str, int | str]) -> dict[str, Any]:
    """Return what a sidecar tells, and what it tells of the processes that it runs, if it does."""
    rows: dict[str, Any] = dict(facts)
    if _PROCESSES in rows:
        rows[_PROCESSES] = json.loads(rows[_PROCESSES])
    return rows


def _process(own: dict[str, Any]) -> str:
    said = [own["state"]]
    if "pid" in own:
        age = format_duration_ms(own["age_ms"] // 1000 * 1000)
        said += [f"pid {own['pid']}", f"{age} old", f"{own['tasks']} tasks"]
    if "next_start_in_ms" in own:
        said.append(f"next start in {format_duration_ms(own['next_start_in_ms'])}")
    said.append(f"{own['restarts']} restarts")
    return ", ".join(said) + (f"; last end: {own['last_end']}" if own["last_end"] else "")


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _print(rows: dict[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(rows))
        return
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
