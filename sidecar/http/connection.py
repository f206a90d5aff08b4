"""One HTTP connection: requests to exchanges, answers in the order of the requests.

Requests may be pipelined: so many of them are worked on at a time, and while more wait nothing is
read. What a client can make this process keep is bounded: the head, the body, the answers that it
does not read, and the time that a request takes to arrive.
"""

import asyncio
import select
from collections import deque
from typing import Protocol

from protocol.errors import Code
from protocol.messages import Goodbye, Message, Refused
from sidecar.gateway.connection import UNREAD_BYTES_MAX
from sidecar.gateway.peer import Owner
from sidecar.http.caller import Caller
from sidecar.http.exchange import Exchange, Request
from sidecar.http.problems import Problem, of_code
from sidecar.http.reader import Arrived, RequestReader, Room
from sidecar.http.router import Router, dispatch

PIPELINED_MAX = 16
"""Requests of one connection that are worked on at a time."""
REQUEST_SECONDS = 20.0
"""How long a request may take to arrive, from its first byte."""
IDLE_SECONDS = 75.0
"""How long a connection may be idle between requests."""
LINGER_SECONDS = 2.0
"""How long a client may go on to send what is not read, so that it comes to read the answer."""
NEVER = float("inf")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Host(Protocol):
    """What the connections of one server share."""

    router: Router
    room: Room

    def now(self) -> float:
        """Return the time, in seconds."""

    def due(self, at: float) -> None:
        """Have ``look`` of the connections called at this time."""

    def forget(self, connection: "HttpConnection") -> None:
        """Take note that a connection has ended."""


class HttpConnection(Caller, asyncio.Protocol):
    """A connection on which HTTP is spoken.

    Invariant: ``_queue`` holds the exchanges without a complete answer, in the order of their
    requests; only the first of them has written anything.
    """

    def __init__(self, number: int, owner: Owner, host: Host, transport: asyncio.Transport) -> None:
        super().__init__(number, owner)
        self._host = host
        self._transport = transport
        self._reader = RequestReader(host.router.find, host.room)
        self._arrived: deque[Arrived] = deque()
        """What has arrived and is not worked on yet."""
        self._queue: deque[Exchange] = deque()
        self._out: list[bytes] = []
        self._corked = False
        """Whether what is written is gathered, to leave in one piece."""
        self._told_problem = False
        self._half_closed = False
        self._closing = False
        self._lingers = False
        self._reading = True
        self._peer_reads = True
        self._arriving = False
        """Whether it is being waited for the rest of a request."""
        self.due = NEVER
        """When this connection has waited long enough."""

    def _tell(self, message: Message) -> None:
        self._owner.received(self, message)
        self._owner.turned()

    # In

    def data_received(self, data: bytes) -> None:
        """Work on the requests that the bytes complete."""
        if self._closing:
            return
        arrived = self._reader.feed(data)
        if arrived:
            self._arriving = False
            self.due = NEVER
            self._arrived.extend(arrived)
        self._work()

    def eof_received(self) -> bool:
        """Stay for the answers that a client waits for which only stopped sending."""
        self._half_closed = True
        return bool(self._queue) and not self._closing and not _hung_up(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who work on an answer that nobody will read it."""
        self._closing = True
        self._drop_arrived()
        queue, self._queue = self._queue, deque()
        for exchange in queue:
            exchange.gone()
        self._host.forget(self)
        self._owner.closed(self)

    def pause_writing(self) -> None:
        """Read nothing more from a client that does not read."""
        self._peer_reads = False
        self._set_reading(full=self._full)

    def resume_writing(self) -> None:
        """Go on."""
        self._peer_reads = True
        self._set_reading(full=self._full)

    def deliver(self, messages: list[Message]) -> None:
        """Take what the core tells."""
        self._corked = True
        for message in messages:
            match message:
                case Refused(code, detail):
                    self._end(of_code(code, detail))
                case Goodbye():
                    self._end(of_code(Code.STOPPING))
                case _:
                    self.answer(message)
        self._work()

    def look(self, now: float) -> None:
        """Do what is due by now."""
        if now < self.due:
            return
        self.due = NEVER
        if self._closing or (not self._arriving and self._transport.get_write_buffer_size()):
            self.abort()  # It does not read the end of it.
        elif not self._arriving:
            self.close()
        else:
            detail = f"the request did not arrive within {REQUEST_SECONDS:g} s"
            self._reader.problem = Problem(408, "request_too_slow", detail, "send it in one piece")
            self._work()

    def close(self) -> None:
        """Close once what was written has left."""
        self._flush()
        self._closing = True
        self._transport.close()
        self._give_up_in(REQUEST_SECONDS)

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._transport.abort()

    # Work

    def _work(self) -> None:
        """Work on what has arrived, write what came of it, and see how to go on."""
        self._corked = True
        while self._arrived and len(self._queue) < PIPELINED_MAX and not self._closing:
            arrived = self._arrived.popleft()
            request, route, version, keep_alive, _ = arrived
            exchange = Exchange(self, request, version, keep_alive=keep_alive)
            self._queue.append(exchange)
            dispatch(route, exchange)
            self._reader.done_with(arrived)
        reader = self._reader
        if reader.problem is not None and not self._told_problem and not self._arrived:
            self._told_problem = True
            exchange = Exchange(self, Request("", ""), "1.1", keep_alive=False)
            self._queue.append(exchange)
            reader.problem.answer(exchange)
        elif reader.wants_continue and not self._queue:
            reader.wants_continue = False
            self._out.append(_CONTINUE)
        self._corked = False
        self._flush()
        if not self._closing:
            full = self._full
            self._set_reading(full=full)
            self._set_due(full=full)

    def _end(self, problem: Problem) -> None:
        """Answer everything with a problem, and close behind it."""
        self._drop_arrived()
        self._reader.ended = True
        if self._queue:
            self._queue[-1].close = True
        for exchange in list(self._queue):
            if exchange.started:
                exchange.finish()
            else:
                problem.answer(exchange)
        if not self._queue and not self._closing:
            self.close()

    def _drop_arrived(self) -> None:
        for arrived in self._arrived:
            self._reader.done_with(arrived)
        self._arrived.clear()
        self._reader.close()

    # Out

    def emit(self, exchange: Exchange, data: bytes, *, done: bool) -> None:
        """Send a piece of an answer, when its turn has come."""
        exchange.done = done
        queue = self._queue
        if exchange is not queue[0]:
            exchange.kept.append(data)
            return
        self._out.append(data)
        while done:
            if queue.popleft().close:
                self._close_behind()
                return
            if not queue:
                break
            self._out += queue[0].kept
            queue[0].kept.clear()
            done = queue[0].done
        if not self._corked:
            self._work()

    def _close_behind(self) -> None:
        """Close behind the answer just given, of which the client may not have sent all."""
        self._flush()
        queue, self._queue = self._queue, deque()
        for exchange in queue:
            exchange.gone()
        self._drop_arrived()
        if self._told_problem and not self._half_closed and not self._transport.is_closing():
            self._lingers = self._closing = True
            self._transport.write_eof()
            self._give_up_in(LINGER_SECONDS)
            self._set_reading(full=False)
        else:
            self.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        transport = self._transport
        if not out or transport.is_closing():
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._owner.alarm("connection_does_not_read", {"connection": self.number})
            self.abort()

    # How to go on

    @property
    def _full(self) -> bool:
        """Whether as much is being worked on as may be."""
        return bool(self._arrived) or len(self._queue) >= PIPELINED_MAX

    def _set_reading(self, *, full: bool) -> None:
        reading = self._lingers or (self._peer_reads and not full)
        if reading != self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _set_due(self, *, full: bool) -> None:
        """Set when to give up; bytes that begin no request change nothing."""
        if full:
            self._arriving = False  # The rest is not slow: it is not read.
            self.due = NEVER
        elif self._reader.midway:
            if not self._arriving:
                self._arriving = True
                self._give_up_in(REQUEST_SECONDS)
        elif self._queue:
            self.due = NEVER
        elif self._half_closed:
            self.close()
        elif self.due == NEVER:
            self._give_up_in(IDLE_SECONDS)

    def _give_up_in(self, seconds: float) -> None:
        self.due = self._host.now() + seconds
        self._host.due(self.due)


def _hung_up(transport: asyncio.Transport) -> bool:
    """Tell whether a client that sends nothing more does not read either: it is gone."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
