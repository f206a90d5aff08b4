"""An HTTP connection without a socket: bytes in, bytes out, and the messages it tells the core."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from protocol.errors import ProtocolError
from protocol.messages import (
    Accepted,
    Answer,
    Cancel,
    Inspect,
    Message,
    Query,
    Reply,
    Status,
    Submit,
    Verdict,
)
from protocol.submission import decode_batch
from sidecar.gateway.peer import Peer
from sidecar.http.api import routes
from sidecar.http.exchange import Route
from sidecar.http.server import HttpServer


class Transport(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.reading = True
        self.closed = False
        self.aborted = False
        self.sent_eof = False
        self.unread_bytes = 0
        self._socket, self.client = socket.socketpair()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        assert not self.closed and not self.sent_eof, "nothing may be written any more"
        self.written += bytes(data)
        self.writes += 1

    def write_eof(self) -> None:
        self.sent_eof = True

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def release(self) -> None:
        self._socket.close()
        self.client.close()


class Desk:
    """Who owns the connection: keeps what it tells."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.alarms: list[str] = []
        self.ended = False

    def received(self, peer: Peer, message: Message) -> None:
        self.told.append(message)

    def broke(self, peer: Peer, error: ProtocolError) -> None:
        raise AssertionError("an HTTP connection answers what is wrong")

    def turned(self) -> None:
        pass

    def closed(self, peer: Peer) -> None:
        self.ended = True

    def alarm(self, name: str, facts: dict[str, int | str]) -> None:
        self.alarms.append(name)


@dataclass
class Response:
    """One answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection and both its ends, on a loop that runs for as long as something is called.

    Args:
        more: Routes beside the usual.
    """

    def __init__(self, more: Iterable[Route] = ()) -> None:
        self._runner = asyncio.Runner()
        self.transport = Transport()
        self.desk = Desk()
        self.server = HttpServer([*routes(), *more])
        self.call(self._connect)

    def _connect(self) -> None:
        self.connection = self.server.take(1, self.desk, self.transport, b"")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.lose()
        self.transport.release()
        self._runner.close()

    def call(self, function: Callable[[], object]) -> None:
        """Call something as the loop would, and run what it has the loop run."""

        async def in_loop() -> None:
            function()
            await asyncio.sleep(0)

        self._runner.run(in_loop())

    def lose(self) -> None:
        """Let the connection end, once."""
        if not self.desk.ended:
            self.call(lambda: self.connection.connection_lost(None))

    def send(self, data: bytes) -> None:
        self.call(lambda: self.connection.data_received(data))

    def deliver(self, *messages: Message) -> None:
        self.call(lambda: self.connection.deliver(list(messages)))

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def last(self, kind: type[Any]) -> Any:
        return next(m for m in reversed(self.desk.told) if isinstance(m, kind))

    def all(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.desk.told if isinstance(m, kind)]

    def batch(self) -> list[Any]:
        """Return the tasks of the last batch, as they travel."""
        return decode_batch(self.last(Submit).batches[0].tasks)

    def verdict(self, number: int = 0, **changes: Any) -> None:
        """Answer a batch, or the last one."""
        number = number or self.last(Submit).batches[0].request
        verdict = Verdict(number, None, "", 0, [])._replace(**changes)
        self.deliver(Accepted([verdict]))

    def reply(self, status: Status | None = None, code: str | None = None) -> None:
        """Answer the last question or cancellation."""
        asked = next(m for m in reversed(self.desk.told) if isinstance(m, Query | Cancel))
        number = (asked.questions if isinstance(asked, Query) else asked.requests)[0].request
        self.deliver(Answer([Reply(number, code, status)]))

    @property
    def inspected(self) -> bool:
        return any(isinstance(m, Inspect) for m in self.desk.told)

    def response(self) -> Response:
        """Take the one answer that there is."""
        [response] = self.responses()
        return response

    def responses(self) -> list[Response]:
        """Take the answers written since the last time; each is whole."""
        data, self.transport.written = self.transport.written, b""
        made = []
        while data:
            response, data = read_response(data)
            made.append(response)
        return made


def read_response(data: bytes) -> tuple[Response, bytes]:
    """Take the first answer off some bytes; return it, and what stands behind it."""
    head, found, rest = data.partition(b"\r\n\r\n")
    assert found, data
    first, *lines = head.decode().split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body, rest = _unchunk(rest)
    else:
        size = int(headers.get("content-length", "0"))
        body, rest = rest[:size], rest[size:]
        assert len(body) == size
    return Response(int(status), headers, body), rest


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body += data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]
        if not length:
            break
    return body, data
