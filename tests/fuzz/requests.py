"""Send mutated HTTP to the sidecar's connections, and see that each request has one answer.

    python -m tests.fuzz.requests [--streams 1000000] [--seed S]
    python -m tests.fuzz.requests --seed S --only B     one batch again

A stream is what one client sends on one connection: some requests, cut anywhere. What the core is
told must be what a coordinator takes, what the client gets must be HTTP, and nothing may be left
behind. Exit codes: 0 nobody was harmed, 1 somebody was.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from protocol import messages as m
from protocol.errors import CODES, ProtocolError
from protocol.limits import PAYLOAD_BYTES_MAX
from protocol.submission import check, decode_batch
from sidecar.gateway.peer import Peer
from sidecar.http.api import routes
from sidecar.http.connection import HttpConnection
from sidecar.http.parser import HttpResponseParser
from sidecar.http.reader import RequestReader, Room
from sidecar.http.server import BODIES_BYTES_MAX, HttpServer
from tests.fuzz.texts import Changes, peak_bytes, told
from tests.fuzz.world import Harmed, check_sent
from tests.support.builders import a_status

STREAMS_PER_BATCH = 500
MEMORY_BYTES_MAX = 128 * 2**20
STREAM_SECONDS_MAX = 2.0
ROUNDS_MAX = 400
ID = b"018f2b4c-5a3e-7c10-8a44-2f1f0a9b3c5d"
TEMPLATES = (
    b'POST /v1/tasks/email.send HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\n{"a": "b.c"}',
    b"POST /v1/tasks/email.send?delay=10m&priority=high&attempts=3&backoff=exp(1s,5m)&key=k"
    b"&collection=c&timeout=5s&expires=1h HTTP/1.1\r\nContent-Length: 2\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n{}",
    b"POST /v1/tasks/email.send?at=2040-01-01T00:00:00%2B01:00 HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2;x=y\r\n2]\r\n0\r\nT: x\r\n\r\n",
    b'POST /v1/tasks/email.send HTTP/1.1\r\nIdempotency-Key: "k 1"\r\nTask-Meta-A: b\r\n'
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n"
    b"baggage: x=y\r\nTask-Durability: accepted\r\nPrefer: wait=3\r\nContent-Length: 0\r\n\r\n",
    b"POST /v1/tasks/email.send HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/tasks HTTP/1.1\r\nContent-Length: 143\r\n\r\n"
    b'{"handler": "a.b", "payload": {"x": [1, 2.5, null, "\\ud83d\\ude00"]}, "delay": "1s"}\n'
    b'{"handler": "a.b", "payload_base64": "/w==", "key": "z"}\n\n',
    b'POST /v1/tasks HTTP/1.1\r\nContent-Length: 93\r\n\r\n{"handler": "a.b", "meta": {"a": "b"}}\n'
    b'{"handler":"c.d","content_type":"text/plain","payload":"x"}',
    b"GET /v1/tasks/" + ID + b"?wait=30 HTTP/1.1\r\nAccept: */*\r\n\r\n",
    b"GET /v1/tasks/" + ID + b"/events HTTP/1.1\r\nLast-Event-ID: 3\r\n\r\n",
    b"DELETE /v1/tasks/" + ID + b"?reason=no%20need HTTP/1.1\r\n\r\n",
    b"HEAD /v1/tasks/" + ID + b" HTTP/1.1\r\n\r\n",
    b"GET /readyz HTTP/1.1\r\n\r\n",
    b"GET /v1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://localhost/livez HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
)
PIECES = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"0", b"-1", b"1e999", b"NaN"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 5\r\n"),
    *(b"Content-Length: -5\r\n", b"Content-Length: 2000000\r\n", b"Content-Length: 0, 0\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: close\r\n", b"Expect: x\r\n"),
    *(b"Content-Encoding: gzip\r\n",),
    *(b"Prefer: wait=99999\r\n", b"Task-Durability: x\r\n", b"Task-Meta-: x\r\n", b"key="),
    *(b"ffffffffffffffff\r\n", b"FFFFFFF\r\n", b"0\r\n\r\n", b'"', b"{", b"]", b"[[[", b"}\n{"),
    *(b"\xff\xfe", b"\xc3", b"\\ud800", b"%00", b"%ff", b"%", b"+", b"&", b"?", b"/", b"//", b".."),
    *(b"HEAD ", b"CONNECT ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b" HTTP/1.0", b" HTTP/2.0"),
    *(b"X: " + b"y" * 300 + b"\r\n", b"PLN\x01", b"&wait=1h", b"delay=9999999d", b"at=-1"),
)
BOMBS = (
    b"x" * 300_000,
    b"X: y\r\n" * 12_000,
    b"1\r\nx\r\n" * 20_000,
    b"[" * 100_000,
    b"9" * 70_000,
    b'{"handler": "a.b"}\n' * 3_000,
    b"GET /v1 HTTP/1.1\r\n\r\n" * 300,
    b"\r\n" * 50_000,
)
CHANGES = Changes(TEMPLATES, PIECES, BOMBS, calm_share=0.15, bomb_share=0.005, filler=b"G")


class Wire:
    """A transport of which the other end is the test."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        """Keep what is written."""
        if self.closing:
            raise Harmed("something was written behind the end")
        self.written.append(data)

    def write_eof(self) -> None:
        """End what is written."""
        self.closing = True

    def is_closing(self) -> bool:
        """Tell whether the sidecar has closed it."""
        return self.closing

    def close(self) -> None:
        """Close it."""
        self.closing = True

    abort = close

    def get_write_buffer_size(self) -> int:
        """Tell that everything was read."""
        return 0

    def set_protocol(self, protocol: object) -> None:
        """Take note of nothing."""

    pause_reading = resume_reading = lambda self: None


class Core:
    """A core that answers anything that it may, after a look at what it is told."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.open: list[m.Message] = []
        self.submitted = 0
        self.ended = False

    def received(self, peer: Peer, message: m.Message) -> None:
        """Check a message as a coordinator would."""
        check_sent(message)
        if isinstance(message, m.Attach):
            return
        if isinstance(message, m.Submit):
            for batch in message.batches:
                for place, task in enumerate(decode_batch(batch.tasks)):
                    found = check(place, task)
                    if isinstance(found, m.Rejection):
                        raise Harmed(f"a task was submitted that is none: {found}")
                    self.submitted += 1
        self.open.append(message)

    def answer(self, *, last: bool) -> list[m.Message]:
        """Return answers to some of what is open, in any order; to all in the ``last`` round."""
        self._rng.shuffle(self.open)
        count = len(self.open) if last else self._rng.randint(0, len(self.open))
        answered, self.open = self.open[:count], self.open[count:]
        return [self._answer(message, last=last) for message in answered]

    def _answer(self, message: m.Message, *, last: bool) -> m.Message:
        rng = self._rng
        match message:
            case m.Submit([batch]):
                code = rng.choice([None, None, "spooled", "busy", "unavailable"])
                rejections = [m.Rejection(0, "duplicate_id", "x")] if rng.random() < 0.2 else []
                places = [0] if rng.random() < 0.2 and not rejections else []
                return m.Accepted([m.Verdict(batch.request, code, "", 5, rejections, places)])
            case m.Query([asked]) | m.Cancel([asked]):
                if rng.random() < 0.2:
                    return m.Answer([m.Reply(asked.request, rng.choice(sorted(CODES)), None)])
                state = rng.choice(list(m.State)) if not last else m.State.SUCCEEDED
                result = m.Result(rng.choice([None, "a\r\nb"]), rng.choice([b"", b"[1]", b"\xff"]))
                status = a_status(state=state, revision=rng.randint(0, 5), result=result)
                return m.Answer([m.Reply(asked.request, None, status)])
            case m.Inspect():
                facts: dict[str, int | str] = {
                    "link": "open",
                    "coordinator": "",
                    "link_trouble": "",
                    "draining": 0,
                }
                return m.Inspected(facts)
            case _:
                raise Harmed(f"an app does not send a {type(message).__name__}")

    def broke(self, peer: Peer, error: ProtocolError) -> None:
        """Fail: HTTP is answered."""
        raise Harmed(str(error))

    def closed(self, peer: Peer) -> None:
        """Take note of the end."""
        self.ended = True

    def turned(self) -> None:
        """Nothing waits."""

    def alarm(self, name: str, facts: dict[str, int | str]) -> None:
        """Nobody listens."""


class Answers:
    """Reads what a client gets, as a client would."""

    def __init__(self, methods: list[str]) -> None:
        self._methods = methods
        self.statuses: list[int] = []
        self.to_the_end = False
        """Whether the last answer ends with the connection: of an old client, and streamed."""
        self._body = b""
        self._kind = ""

    def read(self, data: bytes) -> None:
        """Read answers; HEAD has none with a body, which only who asked can know."""
        while data:
            self._ended = False
            parser = HttpResponseParser(self)
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                raise Harmed(f"half an answer: {data[:200]!r}")
            if head.startswith(b"HTTP/1.1 100"):
                data = rest
                continue
            place = len(self.statuses)
            if place < len(self._methods) and self._methods[place] == "HEAD":
                self.statuses.append(int(head.split(b" ", 2)[1]))
                data = rest
                continue
            size = self._size(head, rest)
            parser.feed_data(head + b"\r\n\r\n" + rest[:size])
            if not self._ended:
                parser.feed_data(b"")
            self.statuses.append(parser.get_status_code())
            self._check(parser.get_status_code())
            data = rest[size:]

    def _size(self, head: bytes, rest: bytes) -> int:
        lower = head.lower()
        if b"\r\ncontent-length: " in lower:
            return int(lower.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
        if b"\r\ntransfer-encoding: chunked" in lower:
            return rest.index(b"0\r\n\r\n") + 5 if b"0\r\n\r\n" in rest else len(rest)
        if lower.startswith((b"http/1.1 204", b"http/1.1 304")):
            return 0
        self.to_the_end = True
        return len(rest)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if name.lower() == b"content-type":
            self._kind = value.decode()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Take the end."""
        self._ended = True

    def _check(self, status: int) -> None:
        body, self._body = self._body, b""
        kind, self._kind = self._kind, ""
        if kind == "application/problem+json":
            problem = json.loads(body)
            if problem["status"] != status or not problem["hint"] or not problem["detail"]:
                raise Harmed(f"a problem that does not help: {problem}")
        elif status >= 400 and status != 503:
            raise Harmed(f"status {status} without a problem")
        elif kind == "application/json":
            json.loads(body)
        elif kind == "application/x-ndjson":
            for line in body.splitlines():
                json.loads(line)


@dataclass
class Report:
    """What a campaign has found."""

    streams: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    """How many answers had which status."""
    submitted: int = 0
    slowest_ms: float = 0.0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


class Battery:
    """Sends the streams of one batch."""

    def __init__(self, seed: int, batch: int, report: Report) -> None:
        self.data = b""
        self.number = 0
        self._rng = random.Random(f"requests {seed} {batch}")
        self._report = report
        self._server = HttpServer(routes())

    async def fire(self, streams: int) -> None:
        """Send so many streams, each on a connection of its own."""
        for _ in range(streams):
            self.number += 1
            parts = [CHANGES.make(self._rng) for _ in range(self._rng.choice((1, 1, 2, 4)))]
            self.data = b"".join(parts)
            await self._send(list(self._cut(self.data)))

    async def _send(self, pieces: list[bytes]) -> None:
        methods = self._expected(pieces)
        wire, core = Wire(), Core(self._rng)
        began = time.thread_time()
        connection = self._server.take(1, core, cast(asyncio.Transport, wire), b"")
        for piece in pieces:
            connection.data_received(piece)
            if self._rng.random() < 0.3:
                connection.deliver(core.answer(last=False))
        if self._rng.random() < 0.9:
            await self._answer_all(connection, core)
            took = time.thread_time() - began
            self._report.slowest_ms = max(self._report.slowest_ms, took * 1000)
            if took > STREAM_SECONDS_MAX:
                raise Harmed(f"it took {took:.1f} s")
            self._read(wire, methods)
        connection.connection_lost(None)
        self._report.submitted += core.submitted
        if not core.ended or self._server.room.left != BODIES_BYTES_MAX:
            raise Harmed(f"{BODIES_BYTES_MAX - self._server.room.left} bytes of room are lost")

    async def _answer_all(self, connection: HttpConnection, core: Core) -> None:
        for _ in range(ROUNDS_MAX):
            await asyncio.sleep(0)  # A long batch is read in several turns.
            if core.open:
                connection.deliver(core.answer(last=True))
            elif not connection._queue:
                return
        raise Harmed("a request has no answer")

    def _expected(self, pieces: list[bytes]) -> list[str]:
        """Return the methods of the requests, with one more for what is no request."""
        reader = RequestReader(self._server.router.find, Room(BODIES_BYTES_MAX))
        methods: list[str] = []
        for piece in pieces:
            methods += [arrived.request.method for arrived in reader.feed(piece)]
            if len(reader._body) > 4 * PAYLOAD_BYTES_MAX:
                raise Harmed(f"{len(reader._body)} bytes of a body are kept")
        return [*methods, ""] if reader.problem is not None else methods

    def _read(self, wire: Wire, methods: list[str]) -> None:
        answers = Answers(methods)
        answers.read(b"".join(wire.written))
        enough = len(answers.statuses) <= len(methods) if answers.to_the_end else None
        if not enough and len(answers.statuses) != len(methods):
            raise Harmed(f"{len(methods)} requests, answers {answers.statuses}")
        for status in answers.statuses:
            self._report.answers[status] = self._report.answers.get(status, 0) + 1

    def _cut(self, data: bytes) -> Iterator[bytes]:
        rng, place = self._rng, 0
        while place < len(data):
            size = len(data) if rng.random() < 0.3 else rng.randint(1, 1 + len(data) // 3)
            yield data[place : place + size]
            place += size


def run(seed: int, batches: range, streams: int = STREAMS_PER_BATCH) -> Report:
    """Send so many streams in each batch, and return what was found."""
    return asyncio.run(_run(seed, batches, streams))


async def _run(seed: int, batches: range, streams: int) -> Report:
    report = Report()
    began = time.monotonic()
    before = peak_bytes()
    for batch in batches:
        battery = Battery(seed, batch, report)
        problem = ""
        try:
            await battery.fire(streams)
        except Harmed as harm:
            problem = str(harm)
        except Exception as error:  # Whatever it is, it is a finding, and the next batch goes on.
            problem = told(error)
        report.streams += battery.number
        if problem:
            again = f"again: python -m tests.fuzz.requests --seed {seed} --only {batch}"
            shown = f"{battery.data[:600]!r}"
            report.findings.append(f"stream {battery.number}: {problem}\n    {shown}\n    {again}")
        if peak_bytes() - before > MEMORY_BYTES_MAX:
            report.findings.append(f"the process has grown by {peak_bytes() - before} bytes")
            break
    report.seconds = time.monotonic() - began
    return report


def main(arguments: list[str]) -> int:
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.requests", description=__doc__)
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one batch of the seed")
    options = parser.parse_args(arguments)
    batches = range(-(-options.streams // STREAMS_PER_BATCH))
    if options.only is not None:
        batches = range(options.only, options.only + 1)
    report = run(options.seed, batches)
    for finding in report.findings[:20]:
        sys.stdout.write(f"{finding}\n")
    total = sum(report.answers.values())
    sys.stdout.write(
        f"{report.streams} streams in {report.seconds:.0f} s, {total} answers "
        f"{dict(sorted(report.answers.items()))}, {report.submitted} tasks submitted, the slowest "
        f"stream took {report.slowest_ms:.1f} ms: {len(report.findings)} findings\n"
    )
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
