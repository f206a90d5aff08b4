"""One request and its answer, as the functions behind the routes see them.

An answer goes out when those of all earlier requests of its connection have: what is given before
that is kept. Answers may come at any time, also long after the function has returned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from protocol.limits import PAYLOAD_BYTES_MAX
from protocol.messages import Reply, Verdict

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"

_FIRST_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_NO_BODY = frozenset({204, 304})


def _line(value: str) -> str:
    """Return a header's value with nothing in it that would end its line."""
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


@dataclass(slots=True)
class Request:
    """A request that has arrived whole.

    Names of headers are in lower case; a header that was given twice has its values joined by a
    comma. ``params`` are the parts of the path that the route leaves open.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)


class HttpPeer(Protocol):
    """The connection of an exchange: an app that submits, asks and cancels."""

    number: int

    def submit(self, tasks: bytes, *, spool: bool, done: Callable[[Verdict], None]) -> None:
        """Submit an encoded batch."""

    def ask(
        self, task_id: bytes, *, wait_ms: int, revision: int, done: Callable[[Reply], None]
    ) -> None:
        """Ask for the status of a task."""

    def cancel(self, task_id: bytes, reason: str, *, done: Callable[[Reply], None]) -> None:
        """Cancel a task."""

    def inspect(self, done: Callable[[dict[str, int | str]], None]) -> None:
        """Ask the sidecar about itself."""

    def emit(self, exchange: "Exchange", data: bytes, *, done: bool) -> None:
        """Send a piece of an answer; ``done`` with the last one."""


class Exchange:
    """A request, and the way to answer it.

    Either ``respond`` or ``tell`` is called once, or ``start``, any number of ``write``, and
    ``finish``. What is called after the client has gone, or after the end, does nothing.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_on_gone",
        "close",
        "done",
        "kept",
        "peer",
        "request",
        "started",
    )

    def __init__(self, peer: HttpPeer, request: Request, version: str, *, keep_alive: bool) -> None:
        self.peer = peer
        self.request = request
        self.close = not keep_alive
        """Whether the connection is closed behind the answer."""
        self.done = False
        """Whether the answer is complete, or nobody is there to take it."""
        self.started = False
        """Whether a part of the answer was given."""
        self.kept: list[bytes] = []
        """What waits for earlier answers."""
        self._chunked = version == "1.1"
        self._body = request.method != "HEAD"
        self._on_gone: Callable[[], None] | None = None

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called if the client goes before the answer is complete."""
        self._on_gone = callback

    def gone(self) -> None:
        """Take note that the client has gone."""
        self.done = True
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()

    def respond(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Give the whole answer."""
        if self.done:
            return
        if status in _NO_BODY:
            head = self._head(status, headers) + "\r\n"
            body = b""
        else:
            head = (
                f"{self._head(status, headers)}Content-Type: {_line(content_type)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
        data = head.encode("latin-1", "replace")
        self.peer.emit(self, data + body if self._body else data, done=True)

    def tell(
        self,
        status: int,
        document: bytes,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Give a JSON document as the answer, with a line end for people at a shell."""
        self.respond(status, document + b"\n", content_type, headers)

    def start(
        self, status: int, content_type: str = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        """Begin an answer of which the length is not known."""
        if self.done:
            return
        self.started = True
        if not self._chunked:
            self.close = True
        framing = "Transfer-Encoding: chunked\r\n" if self._chunked else ""
        head = f"{self._head(status, headers)}Content-Type: {_line(content_type)}\r\n{framing}\r\n"
        self.peer.emit(self, head.encode("latin-1", "replace"), done=not self._body)

    def write(self, chunk: bytes) -> None:
        """Go on with an answer that was started."""
        if chunk and not self.done:
            if self._chunked:
                chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
            self.peer.emit(self, chunk, done=False)

    def finish(self) -> None:
        """End an answer that was started."""
        if not self.done:
            self.peer.emit(self, b"0\r\n\r\n" if self._chunked else b"", done=True)

    def _head(self, status: int, headers: Mapping[str, str] | None) -> str:
        text = _FIRST_LINES[status]
        if headers:
            for name, value in headers.items():
                text += f"{name}: {_line(value)}\r\n"
        if self.close:
            text += "Connection: close\r\n"
        elif not self._chunked:
            text += "Connection: keep-alive\r\n"
        return text


class Route(NamedTuple):
    """What is done for one method on one path.

    ``path`` is literal but for whole parts such as ``{id}``, which go to ``Request.params``.
    """

    method: str
    path: str
    function: Callable[[Exchange], None]
    operation: dict[str, Any]
    """The OpenAPI operation object that describes it."""
    body_bytes_max: int = PAYLOAD_BYTES_MAX
