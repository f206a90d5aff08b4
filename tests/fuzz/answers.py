"""Answer pushed tasks with mutated HTTP, and see that each comes to one outcome, within bounds.

    python -m tests.fuzz.answers [--answers 1000000] [--seed S]
    python -m tests.fuzz.answers --seed S --only B     one batch again

Exit codes: 0 nobody was harmed, 1 somebody was.
"""

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

from protocol import codec
from protocol.errors import ProtocolError
from protocol.messages import Group, Message, Outcomes, Progress, Tasks
from sidecar.gateway.peer import Peer
from sidecar.invoke.address import Address
from sidecar.invoke.app import App
from sidecar.invoke.connection import HEAD_BYTES_MAX, Call, Connection
from sidecar.invoke.handlers import build
from sidecar.invoke.host import House
from sidecar.invoke.push import PushHost
from tests.fuzz.texts import Changes, peak_bytes, told
from tests.fuzz.world import Harmed
from tests.support.builders import a_granted_task

ANSWERS_PER_BATCH = 1_000
MEMORY_BYTES_MAX = 128 * 2**20
BODY_SLACK_BYTES = 600_000
"""What may be kept of one answer: a result, and the piece of data that is over it."""
TEMPLATES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}",
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n[1,\r\n2\r\n2]\r\n0\r\nT: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nTask-Retry-After-Ms: 250\r\n"
    b"Content-Length: 4\r\n\r\nbusy",
    b"HTTP/1.1 503 Busy\r\nRetry-After: Tue, 14 Nov 2023 22:13:30 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTask-Outcome: fatal\r\nTask-Error-Type: smtp\r\n"
    b"Content-Length: 1\r\n\r\nx",
    b"HTTP/1.1 422 No\r\nContent-Type: application/problem+json\r\nContent-Length: 54\r\n\r\n"
    b'{"type":"urn:x","title":"No","detail":"credit \\ud800"}',
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'12\r\n{"progress": 0.5}\n\r\n'
    b'2c\r\n{"checkpoint": [1, "x"], "note": "half \\ud800"}\r\n'
    b'1\r\n\n\r\n29\r\n{"outcome": "success", "result": [1, {}]}\r\n0\r\n\r\n',
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    b'{"outcome": "retry", "retry_after_ms": 5, "message": "m", "error_type": "t"}\n',
)
PIECES = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"0", b"-1", b"1e9", b"nan"),
    *(
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -5\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: close\r\n", b"HTTP/1.1 200 OK\r\n"),
    *(
        b"ffffffffffffffff\r\n",
        b"FFFFFFF\r\n",
        b"0\r\n\r\n",
        b'"',
        b"{",
        b"]",
        b"\xff\xfe",
        b"\xc3",
    ),
    *(b"Task-Outcome: success\r\n", b"Task-Outcome: \r\n", b"X: " + b"y" * 300 + b"\r\n"),
)
BOMBS = (
    b"x" * 300_000,
    b"X: y\r\n" * 12_000,
    b"1\r\nx\r\n" * 20_000,
    b"[" * 100_000,
    b"9" * 70_000,
)
CHANGES = Changes(TEMPLATES, PIECES, BOMBS, calm_share=0.05, bomb_share=0.01, filler=b"H")


class Wire:
    """A transport of which the other end is the test."""

    def __init__(self) -> None:
        self.closing = False

    def write(self, data: bytes) -> None:
        """Forget the request."""

    def writelines(self, data: object) -> None:
        """Forget the request."""

    def is_closing(self) -> bool:
        """Tell whether the sidecar has closed it."""
        return self.closing

    def close(self) -> None:
        """Close it."""
        self.closing = True

    abort = close


class Service(App):
    """A service of which the connections end in the test."""

    def __init__(self) -> None:
        super().__init__(Address("/nowhere"), lambda: None)
        self.there = True
        self.calls: list[tuple[Call, bytes, bytes]] = []

    def call(self, call: Call, request: bytes, body: bytes = b"", *, fresh: bool = False) -> None:
        """Keep a call."""
        self.calls.append((call, request, body))

    def take(self) -> Connection:
        """Put the last call on a connection, and return it."""
        call, request, body = self.calls.pop()
        connection = Connection(self)
        connection.connection_made(cast(asyncio.Transport, Wire()))
        assert call.connected(connection)
        connection.call(call, request, body)
        return connection


class Core:
    """What the host tells, checked as if it had to travel."""

    def __init__(self) -> None:
        self.outcomes = 0
        self.last: Any = None

    def received(self, peer: Peer, message: Message) -> None:
        """Check a message by sending it around."""
        if isinstance(message, Outcomes | Progress):
            try:
                codec.decode(codec.encode(message))
            except ProtocolError as error:
                raise Harmed(f"{message!r:.300} cannot travel: {error}") from None
        if isinstance(message, Outcomes):
            self.outcomes += len(message.outcomes)
            self.last = message.outcomes[-1]

    def broke(self, peer: Peer, error: ProtocolError) -> None:
        """Fail: a host of ours breaks nothing."""
        raise Harmed(str(error))

    def closed(self, peer: Peer) -> None:
        """Take note of the end."""

    def turned(self) -> None:
        """Nothing waits."""

    def alarm(self, name: str, facts: dict[str, int | str]) -> None:
        """Nobody listens."""


@dataclass
class Report:
    """What a campaign has found."""

    answers: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    """How many attempts came to what."""
    slowest_ms: float = 0.0
    findings: list[str] = field(default_factory=list)


class Battery:
    """Answers the tasks of one batch."""

    def __init__(self, seed: int, batch: int, report: Report) -> None:
        self.data = b""
        self.number = 0
        self._rng = random.Random(f"answers {seed} {batch}")
        self._report = report
        self._core = Core()
        self._service = Service()
        house = House("email", self._core, 1_000, 1_000, lambda *_: None)
        handler = build("email.send", {"transport": "push", "slots": 8})
        self._host = PushHost(1, handler, house, self._service)

    def fire(self, answers: int) -> None:
        """Answer so many tasks."""
        for _ in range(answers):
            self.number += 1
            self.data = CHANGES.make(self._rng)
            self._answer(self.data)
        self._host.abort()

    def _answer(self, data: bytes) -> None:
        core, host, rng = self._core, self._host, self._rng
        before = core.outcomes
        host.deliver([Tasks([Group("email.send", [a_granted_task(self.number)])])])
        connection = self._service.take()
        wire = cast(Wire, connection.transport)
        began = time.thread_time()
        place = 0
        while place < len(data) and not wire.closing:
            size = len(data) if rng.random() < 0.3 else rng.randint(1, 1 + len(data) // 3)
            connection.data_received(data[place : place + size])
            place += size
            kept = connection._body_bytes + connection._head_bytes
            if kept > HEAD_BYTES_MAX + BODY_SLACK_BYTES:
                raise Harmed(f"{kept} bytes of an answer are kept")
        connection.connection_lost(ConnectionResetError() if rng.random() < 0.2 else None)
        took_ms = (time.thread_time() - began) * 1000
        self._report.slowest_ms = max(self._report.slowest_ms, took_ms)
        for attempt in list(host.running):
            if not attempt.heartbeat_ms:
                raise Harmed("an attempt that has no answer any more goes on")
            attempt.settle("complete")
        if host._telling is not None:
            host._telling.cancel()
            host._tell()
        told = core.outcomes - before
        if told != 1 or self._service.calls:
            raise Harmed(f"{told} outcomes of one attempt, {len(self._service.calls)} calls left")
        kind = core.last.kind.name.lower()
        self._report.settled[kind] = self._report.settled.get(kind, 0) + 1
        if host._pausing is not None:
            host._pausing.cancel()
            host._pausing = None


def run(seed: int, batches: range, answers: int = ANSWERS_PER_BATCH) -> Report:
    """Answer so many tasks in each batch, and return what was found."""
    return asyncio.run(_run(seed, batches, answers))


async def _run(seed: int, batches: range, answers: int) -> Report:
    report = Report()
    before = peak_bytes()
    for batch in batches:
        battery = Battery(seed, batch, report)
        problem = ""
        try:
            battery.fire(answers)
        except Harmed as harm:
            problem = str(harm)
        except Exception as error:  # Whatever it is, it is a finding, and the next batch goes on.
            problem = told(error)
        report.answers += battery.number
        if problem:
            again = f"again: python -m tests.fuzz.answers --seed {seed} --only {batch}"
            shown = f"{battery.data[:300]!r}"
            report.findings.append(f"answer {battery.number}: {problem}\n    {shown}\n    {again}")
        if peak_bytes() - before > MEMORY_BYTES_MAX:
            report.findings.append(f"the process has grown by {peak_bytes() - before} bytes")
            break
        await asyncio.sleep(0)
    return report


def main(arguments: list[str]) -> int:
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.answers", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one batch of the seed")
    options = parser.parse_args(arguments)
    batches = range(-(-options.answers // ANSWERS_PER_BATCH))
    if options.only is not None:
        batches = range(options.only, options.only + 1)
    report = run(options.seed, batches)
    for finding in report.findings[:20]:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(
        f"{report.answers} answers, the slowest took {report.slowest_ms:.1f} ms: "
        f"{report.settled}, {len(report.findings)} findings\n"
    )
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
