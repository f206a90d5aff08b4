"""One connection to the service: a request at a time, its answer parsed and bounded.

What an answer may cost is bounded here: its head and trailers, its body (by who made the call), and
what comes unasked. How long it may take is the business of the attempt's timeout.
"""

import asyncio
import socket
from typing import Protocol, cast

from sidecar.http.parser import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_BYTES_MAX = 64 * 1024
"""Of an answer: status line, headers and trailers, interim answers and the framing of chunks."""
LENGTH, ENCODING = b"content-length", b"transfer-encoding"
WANTED = frozenset(
    {
        *(b"content-type", LENGTH, ENCODING, b"retry-after"),
        *(b"task-outcome", b"task-retry-after-ms", b"task-error-type"),
    }
)
_FIRST_FINAL = 200
Headers = dict[bytes, bytes]


class Call(Protocol):
    """Who waits for an answer; its end is told by exactly one of the last four.

    None of them may raise.
    """

    body_bytes_max: int
    """A longer body is cut off: see ``too_long``."""

    def connected(self, connection: "Connection") -> bool:
        """Take note of the connection; False if the call was given up meanwhile."""

    def head(self, status: int, headers: Headers) -> bool:
        """Take status and headers; return whether the body is wanted piece by piece."""

    def piece(self, data: bytes) -> None:
        """Take a piece of the body."""

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """Take the whole answer; the body is empty if it was wanted piece by piece."""

    def too_long(self, status: int, headers: Headers, body: bytes) -> None:
        """Take what came of an answer of which the body is too long."""

    def failed(self, sign: str, why: str) -> None:
        """Take note that no whole answer came."""

    def unread(self) -> bool:
        """Take note that a connection used before was closed before the request was read.

        Returns:
            Whether the call goes elsewhere; otherwise it fails.
        """


class Whole:
    """What is the same for calls whose answer is read in one piece, and that are made once."""

    def connected(self, connection: "Connection") -> bool:
        """Go on."""
        return True

    def head(self, status: int, headers: Headers) -> bool:
        """Want no pieces."""
        return False

    def piece(self, data: bytes) -> None:
        """Get no pieces."""

    def unread(self) -> bool:
        """Go nowhere else."""
        return False


class Pool(Protocol):
    """Who keeps connections."""

    def free(self, connection: "Connection") -> None:
        """Take back a connection that can be used again."""

    def lost(self, connection: "Connection") -> None:
        """Take note that a connection has ended."""


class Connection(asyncio.Protocol):
    """A connection to the service."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport | None = None
        self.socket: socket.socket | None = None
        """Below the transport, to look whether it has ended."""
        self.free_since = 0.0
        """Since when it waits for a call, or waited for the last one; 0 if it never did."""
        self._call: Call | None = None
        self._parser = HttpResponseParser(self)
        self._keep = False
        self._begin()

    def _begin(self) -> None:
        self._headers: Headers = {}
        self._status = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._head_done = False
        self._piecewise = False
        self._silent = True
        """Whether no byte of an answer has come."""
        self._progressed = False
        """Whether the body or the answer went on in this piece of data."""
        self._complete = False
        self._surplus = False
        """Whether something stands behind the answer."""

    def call(self, call: Call, request: bytes, body: bytes) -> None:
        """Send a request."""
        assert self._call is None
        assert self.transport is not None
        self._call = call
        if len(body) <= HEAD_BYTES_MAX:
            self.transport.write(request + body)
        else:
            self.transport.writelines((request, body))

    def abort(self) -> None:
        """Close at once, and tell nobody."""
        self._call = None
        if self.transport is not None:
            self.transport.abort()

    # --- From the transport --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._call is None:
            self.abort()  # Nothing was asked.
            return
        self._silent = False
        self._progressed = False
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self._complete:
                self._fail("unreadable", f"what the service answered is not HTTP: {error}")
                return
            self._surplus = True
        except HttpParserUpgrade:
            self._fail("unreadable", "the service wants to speak another protocol")
            return
        if self._complete:
            self._settle()
        elif not self._progressed:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._fail("unreadable", f"the headers are over {HEAD_BYTES_MAX} bytes")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the caller what became of the call."""
        self.transport = None
        call, self._call = self._call, None
        self._pool.lost(self)
        if call is None:
            return
        if error is None and self._head_done and not self._bounded():
            self._end(call)
        elif not (self._silent and self.free_since and error is not None and call.unread()):
            call.failed("closed", "")

    def _bounded(self) -> bool:
        return LENGTH in self._headers or ENCODING in self._headers

    # --- From the parser -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note an answer behind the one that was asked for."""
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, if it matters."""
        name = name.lower()
        if name in WANTED and not self._head_done:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Tell the caller, which decides how it wants the body."""
        if self._complete or self._call is None:
            return
        self._status = self._parser.get_status_code()
        if self._status >= _FIRST_FINAL:
            self._head_done = True
            self._piecewise = self._call.head(self._status, self._headers)

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body, or hand it on."""
        if self._complete:
            return
        self._progressed = True
        if self._call is None:
            return
        if self._piecewise:
            self._call.piece(data)
            return
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > self._call.body_bytes_max:
            call, self._call = self._call, None
            self.abort()
            call.too_long(self._status, self._headers, b"".join(self._body))

    def on_message_complete(self) -> None:
        """Note the end of an answer; an interim one counts for nothing."""
        if not self._head_done:
            self._headers.clear()
        elif not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    # --- The end of a call ---------------------------------------------------------------------

    def _settle(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return  # It was given up meanwhile.
        reusable = self._keep and not self._surplus and self.transport is not None
        end = (call, self._status, self._headers, self._body)
        self._begin()
        if reusable and self.transport is not None and not self.transport.is_closing():
            self._pool.free(self)
        else:
            self.close()
        _answer(*end)

    def close(self) -> None:
        """Close: nothing more is expected."""
        if self.transport is not None:
            self.transport.close()

    def _end(self, call: Call) -> None:
        """An answer without a length has ended with its connection."""
        _answer(call, self._status, self._headers, self._body)

    def _fail(self, sign: str, why: str) -> None:
        call, self._call = self._call, None
        self.abort()
        if call is not None:
            call.failed(sign, why)


def _answer(call: Call, status: int, headers: Headers, body: list[bytes]) -> None:
    call.answered(status, headers, body[0] if len(body) == 1 else b"".join(body))
