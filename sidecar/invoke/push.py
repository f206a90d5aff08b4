"""Invoking a handler by a POST to the service; the answer's status is the outcome.

An open connection is the sign of life. Telling an attempt to stop means closing it, and a DELETE
for servers that do not notice; the slot stays taken until the service says that it has stopped, or
the grace is over.
"""

import asyncio
import time

from protocol import limits
from protocol.ids import to_text
from protocol.messages import Lease
from sidecar.invoke import reports
from sidecar.invoke.answers import JSON, Ending, Fate, Told, retry_after_ms
from sidecar.invoke.app import App
from sidecar.invoke.connection import Connection, Headers, Whole
from sidecar.invoke.handlers import Handler
from sidecar.invoke.host import Attempt, Host, House
from sidecar.invoke.particulars import Envelope, as_headers, particulars
from sidecar.invoke.window import Backoff, Window

NDJSON = "application/x-ndjson"
MISROUTED_MS_MIN, MISROUTED_MS_MAX = 1_000, 30_000
ERROR_BYTES_MAX = 64 * 1024
"""Read of an answer that is no success; more is cut off, and the answer counts."""
_OK = 200
_STOPPED = frozenset({200, 204})
"""Answers to a DELETE by which a service says that the attempt has stopped."""


class PushHost(Host):
    """One handler at ``app.sock``."""

    def __init__(self, number: int, handler: Handler, house: House, app: App) -> None:
        super().__init__(number, handler, house)
        self.app = app
        self.window = Window(handler.slots)
        self._backoff = Backoff(MISROUTED_MS_MIN, MISROUTED_MS_MAX)
        self._pausing: asyncio.TimerHandle | None = None
        self._envelope = Envelope(f"/pillion/{house.service}") if handler.cloudevents else None
        self._request = (
            f"POST /tasks/{handler.name} HTTP/1.1\r\nHost: {app.address.authority}\r\n"
            "User-Agent: pillion\r\n"
        )

    def room(self) -> int:
        """Return how many attempts may begin now."""
        if not self.app.there or self._pausing is not None:
            return 0
        return self.window.size - len(self.running)

    def begin(self, attempt: Attempt) -> None:
        """Send the task."""
        call = attempt.work = Delivery(self, attempt, self.window.round)
        call.send()

    def request(self, attempt: Attempt) -> bytes:
        """Return the head of an attempt's request."""
        task = attempt.task
        now_ms = time.time_ns() // 1_000_000
        pairs = particulars(self.handler.name, task, now_ms, self._envelope)
        head = f"{self._request}{as_headers(pairs)}Content-Length: {len(task.payload)}\r\n\r\n"
        return head.encode("ascii")

    def stop(self, attempt: Attempt, grace_ms: int) -> None:
        """Close the connection, say so by a DELETE, and wait for the grace."""
        attempt.work.stop(grace_ms)

    def leave(self) -> None:
        """Close the connections of attempts."""
        if self._pausing is not None:
            self._pausing.cancel()
        for attempt in self.running:
            attempt.work.drop()

    # --- What answers mean for the next --------------------------------------------------------

    def learned(self, attempt: Attempt, end: Ending) -> None:
        """Make the window wider or narrower, or ask for no more for a while."""
        attempt.work.drop()  # It may have been completed by a request while its own goes on.
        if end.fate is Fate.SUCCESS:
            self._backoff.reset()
            self.window.succeeded()
        elif end.fate is Fate.DEFER and not attempt.reason:
            self.window.refused(attempt.work.round)
        elif end.fate is Fate.MISROUTED:
            self._pause()

    def _pause(self) -> None:
        if self._pausing is None:
            wait_ms = self._backoff.take()
            self.window.close()
            facts: dict[str, int | str] = {"handler": self.handler.name, "again_ms": wait_ms}
            self.house.note("handler_misrouted", facts)
            self._pausing = asyncio.get_running_loop().call_later(wait_ms / 1000, self._resume)

    def _resume(self) -> None:
        self._pausing = None
        self.changed()

    def facts(self) -> str:
        """Return what people may want to know of it."""
        text = f"{super().facts()}, window {self.window.size}"
        return text if self._pausing is None else f"{text}, misrouted: waits before the next"


class Delivery:
    """The call of one attempt."""

    __slots__ = ("_asked_again", "_attempt", "_connection", "_host", "_lines", "_timer", "round")

    body_bytes_max = limits.RESULT_BYTES_MAX

    def __init__(self, host: PushHost, attempt: Attempt, round_: int) -> None:
        self._host = host
        self._attempt = attempt
        self.round = round_
        """The window's round in which it began."""
        self._connection: Connection | None = None
        self._lines: reports.Lines | None = None
        self._asked_again = False
        self._timer: asyncio.TimerHandle | None = None

    def send(self, *, fresh: bool = False) -> None:
        """Send the request."""
        attempt = self._attempt
        self._host.app.call(self, self._host.request(attempt), attempt.task.payload, fresh=fresh)

    # --- From the connection -------------------------------------------------------------------

    def connected(self, connection: Connection) -> bool:
        """Take note of the connection."""
        if self._attempt.ended or self._attempt.reason:
            return False
        self._connection = connection
        return True

    def head(self, status: int, headers: Headers) -> bool:
        """Take status and headers: lines of a stream are read as they come."""
        self._attempt.heard = time.monotonic()
        if status == _OK and _text(headers, b"content-type").startswith(NDJSON):
            self._lines = reports.Lines()
            return True
        return False

    def piece(self, data: bytes) -> None:
        """Take lines of a stream."""
        assert self._lines is not None
        try:
            for line in self._lines.feed(data):
                if self._line(line):
                    break
        except reports.BadReport as error:
            self._give_up("unreadable", Told(why=str(error)))

    def _line(self, line: bytes) -> bool:
        """Take one line; return whether it was the last that counts."""
        members = reports.read(line)
        attempt = self._attempt
        attempt.host.progress(attempt, reports.update(Lease(*attempt.task[:2]), members))
        told = reports.last_word(members)
        if told is None:
            return False
        self._give_up("200", told)
        return True

    def _give_up(self, sign: str, told: Told) -> None:
        """Settle before the answer has ended; the connection is of no further use."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._settle(sign, told)

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """Settle by the answer."""
        self._connection = None
        if self._lines is None:
            self._settle(_sign(status), _told(headers, body))
            return
        try:
            if not any(self._line(line) for line in self._lines.end()):
                self._settle("no-outcome", Told())
        except reports.BadReport as error:
            self._settle("unreadable", Told(why=str(error)))

    def too_long(self, status: int, headers: Headers, body: bytes) -> None:
        """Settle: a result that is too long cannot be kept, the text of an error can be cut."""
        self._connection = None
        told = _told(headers, body[:ERROR_BYTES_MAX])
        success = self._attempt.host.fate_of(_sign(status), told) is Fate.SUCCESS
        self._settle("too-large" if success else _sign(status), Told() if success else told)

    def failed(self, sign: str, why: str) -> None:
        """Settle: no whole answer came."""
        self._connection = None
        self._settle(sign, Told(why=why))

    def unread(self) -> bool:
        """Send it once more, where the service closed a connection before it read the request."""
        if self._asked_again or self._attempt.ended or self._attempt.reason:
            return False
        self._asked_again = True
        self._connection = None
        self.send(fresh=True)
        return True

    # --- Stopping ------------------------------------------------------------------------------

    def stop(self, grace_ms: int) -> None:
        """Close the connection, and settle when the service says so or the grace is over."""
        self._drop_connection()
        first = self._timer is None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(grace_ms / 1000, self._over)
        if first and self._host.app.there:
            self._host.app.call(Stop(self), self._stop_request())

    def _stop_request(self) -> bytes:
        task = self._attempt.task
        path = f"/tasks/{self._host.handler.name}/{to_text(task.id)}"
        return (
            f"DELETE {path} HTTP/1.1\r\nHost: {self._host.app.address.authority}\r\n"
            f"Task-Token: {task.token}\r\nTask-Cancel-Reason: {self._attempt.reason}\r\n\r\n"
        ).encode("ascii", "replace")

    def stopped(self) -> None:
        """Settle: the service says that the attempt does not go on."""
        self._over()

    def _over(self) -> None:
        self._settle(self._attempt.reason, Told())

    def drop(self) -> None:
        """Let go of the connection, and settle nothing."""
        self._drop_connection()
        if self._timer is not None:
            self._timer.cancel()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _settle(self, sign: str, told: Told) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._attempt.settle(sign, told)


class Stop(Whole):
    """The call that tells a service to stop an attempt; whether it understands is its business."""

    body_bytes_max = 4096

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """Take the service's word that the attempt has stopped."""
        if status in _STOPPED:
            self._delivery.stopped()

    def too_long(self, status: int, headers: Headers, body: bytes) -> None:
        """Take the service's word that the attempt has stopped."""
        self.answered(status, headers, body)

    def failed(self, sign: str, why: str) -> None:
        """Leave it at that."""


def _sign(status: int) -> str:
    return str(status) if _OK <= status < 600 else "unreadable"


def _text(headers: Headers, name: bytes) -> str:
    value = headers.get(name)
    return "" if value is None else value.decode("latin-1").strip()


def _told(headers: Headers, body: bytes) -> Told:
    if len(headers) <= 1 and not body:
        return Told()  # Only a length: nothing is said.
    wait_ms = None
    if b"retry-after" in headers or b"task-retry-after-ms" in headers:
        now_ms = time.time_ns() // 1_000_000
        wait_ms = retry_after_ms(
            _text(headers, b"retry-after"), _text(headers, b"task-retry-after-ms"), now_ms
        )
    return Told(
        body,
        _text(headers, b"content-type") or (JSON if body else ""),
        _text(headers, b"task-outcome"),
        _text(headers, b"task-error-type"),
        wait_ms,
    )
