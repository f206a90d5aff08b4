"""Bytes to requests: what the parser finds, bounded, and put together.

No I/O here. After the first error nothing more is read: where one request ends and the next begins
is not known any more.
"""

from collections.abc import Callable
from typing import NamedTuple

from protocol.errors import Code
from protocol.limits import PAYLOAD_BYTES_MAX
from sidecar.http.exchange import Request, Route
from sidecar.http.parser import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)
from sidecar.http.problems import Problem
from sidecar.http.router import read_target

HEAD_BYTES_MAX = 16 * 1024
"""Request line and headers, with trailers."""
_NAMES = {
    spelt.encode(): name
    for name in (
        *("accept", "accept-encoding", "baggage", "connection", "content-length", "content-type"),
        *("host", "idempotency-key", "prefer", "traceparent", "tracestate", "user-agent"),
    )
    for spelt in (name, name.title())
}
"""Names that nearly every request has, as they stand on the wire; others are made out each time."""
_FRAMING_FACTOR = 8
_FRAMING_BYTES = 512 * 1024
"""What the chunks of a body may take beside their content, before they are taken for an attack."""


class Room:
    """Room for the bodies that arrive, shared by all connections."""

    def __init__(self, size: int) -> None:
        self.left = size


class Arrived(NamedTuple):
    """A request that has arrived whole."""

    request: Request
    route: Route | Problem
    """Where it goes, or why it cannot be served although it was read to its end."""
    version: str
    keep_alive: bool
    body_bytes: int
    """The room that it has; ``Request.body`` is whoever serves it to drop."""


class RequestReader:
    """Reads the requests of one connection.

    Args:
        find: Returns the route for a method and path, and the open parts of the path; raises the
            ``Problem`` that there is none.
        room: Where the bytes of bodies are counted until ``done_with``.
    """

    def __init__(
        self, find: Callable[[str, str], tuple[Route, dict[str, str]]], room: Room
    ) -> None:
        self.problem: Problem | None = None
        """Why nothing more is read."""
        self.ended = False
        """Whether the last request has arrived: the client closes, or wants another protocol."""
        self.midway = False
        """Whether a request has begun and not ended."""
        self.wants_continue = False
        """Whether a client waits to be told to send its body."""
        self._find = find
        self._room = room
        self._parser = HttpRequestParser(self)
        self._made: list[Arrived] = []
        self._unseen_bytes = 0
        """What the request at hand has brought by earlier calls."""
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: bytes | bytearray = b""
        self._head_bytes = 0
        self._in_head = True
        self._limit = PAYLOAD_BYTES_MAX

    def feed(self, data: bytes) -> list[Arrived]:
        """Take received bytes; return the requests that they complete."""
        if self.problem is not None or self.ended:
            return []
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.ended = True  # Its request was made as any other; the rest is not HTTP.
        except HttpParserCallbackError:
            assert self.problem is not None
        except HttpParserError as error:
            if not self.ended:  # Behind the last request nothing needs to be right.
                hint = "see the HTTP library in use; this socket speaks HTTP/1.1"
                self.problem = Problem(400, Code.MALFORMED, f"no HTTP request: {error}", hint)
        made, self._made = self._made, []
        if self.midway:
            self._unseen_bytes = 0 if made else self._unseen_bytes + len(data)
            self._check_unseen()
        return made

    def _check_unseen(self) -> None:
        """Bound what the parser keeps without telling: half a header, a trailer, an extension."""
        most = HEAD_BYTES_MAX
        if not self._in_head:
            most = _FRAMING_BYTES + _FRAMING_FACTOR * self._limit
        if self._unseen_bytes > most and self.problem is None:
            self.problem = _head_too_large() if self._in_head else self._body_too_large()

    def done_with(self, arrived: Arrived) -> None:
        """Give back the room of a request that is being served."""
        self._room.left += arrived.body_bytes

    def close(self) -> None:
        """Give back the room of a request that did not arrive whole."""
        self._room.left += len(self._body)
        self._body = b""
        self.ended = True
        self.midway = False

    # What the parser finds

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._clear()
        self.midway = True
        self._unseen_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._fail(_head_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which is dropped."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES_MAX:
            self._fail(_head_too_large())
        if not self._in_head:
            return
        key = _NAMES.get(name) or name.lower().decode("latin-1")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        headers = self._headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """Look where the request goes, and whether its body may come."""
        self._in_head = False
        method = self._parser.get_method().decode("latin-1")
        self._request = request = Request(method, "", {}, self._headers)
        try:
            request.path, request.query = read_target(self._target)
            route, request.params = self._find(method, request.path)
            self._limit = route.body_bytes_max
            _check_encoding(self._headers)
            self._route: Route | Problem = route
        except Problem as problem:
            self._route = problem
        headers = self._headers
        length = headers.get("content-length")
        if length is not None and int(length) > self._limit:
            self._fail(self._body_too_large())
        if "expect" in headers:
            if headers["expect"].lower() != "100-continue":
                hint = "leave out Expect, or say 100-continue"
                self._fail(Problem(417, "unknown_expectation", "Expect cannot be met", hint))
            self.wants_continue = True

    def on_body(self, chunk: bytes) -> None:
        """Take a part of the body."""
        self.wants_continue = False
        size = len(chunk)
        if len(self._body) + size > self._limit:
            self._fail(self._body_too_large())
        if self._room.left < size:
            hint = "wait as long as Retry-After says, then send it again"
            detail = "too much is being sent to this sidecar"
            self._fail(Problem(503, Code.BUSY, detail, hint, 1_000))
        self._room.left -= size
        if not self._body:
            self._body = chunk
        elif type(self._body) is bytearray:
            self._body += chunk
        else:
            self._body = bytearray(self._body + chunk)

    def on_message_complete(self) -> None:
        """End a request."""
        self.midway = self.wants_continue = False
        parser = self._parser
        keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        self.ended = not keep_alive
        self._request.body = body = bytes(self._body)
        self._body = b""
        version = parser.get_http_version()
        self._made.append(Arrived(self._request, self._route, version, keep_alive, len(body)))

    def _fail(self, problem: Problem) -> None:
        self.problem = problem
        raise problem

    def _body_too_large(self) -> Problem:
        return Problem(
            413,
            Code.PAYLOAD_TOO_LARGE,
            f"the body has more than {self._limit} bytes",
            "keep the data elsewhere and submit its address, or submit fewer tasks at once",
        )


def _check_encoding(headers: dict[str, str]) -> None:
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        hint = "send the body as it is: the handler is told its type and not its encoding"
        raise Problem(415, "unknown_encoding", "Content-Encoding is not served", hint)


def _head_too_large() -> Problem:
    return Problem(
        431,
        "headers_too_large",
        f"request line and headers have more than {HEAD_BYTES_MAX} bytes",
        "send fewer or shorter headers",
    )
