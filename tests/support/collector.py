"""A collector of traces for tests: takes OTLP over HTTP, and keeps the spans."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CONSUMER = 5
ERROR = 2


@dataclass(frozen=True)
class Span:
    """One span that arrived, with its ids as traceparent has them."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    """Empty if it is the first of its trace."""
    links: tuple[tuple[str, str], ...]
    """Trace and span of each."""
    failed: bool
    message: str
    start_ns: int
    end_ns: int
    events: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Serves on a port of loopback; a context manager."""

    def __init__(self, port: int = 0) -> None:
        self._arrived = threading.Condition()
        self._spans: list[Span] = []
        self.status = 200
        """What it answers."""
        self.answers = threading.Event()
        """Whether it answers at all."""
        self.answers.set()
        self.bodies: list[bytes] = []
        """All that was sent here, whatever it answered."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.take(self.path, body)
                collector.answers.wait()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep stderr for what matters."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.answers.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, body: bytes) -> int:
        """Keep what a request holds; return the status to answer."""
        with self._arrived:
            self.bodies.append(body)
            if path != "/v1/traces":
                return 404
            if self.status == 200:
                self._spans += spans_of(body)
            self._arrived.notify_all()
            return self.status

    def wait(self, count: int, seconds: float = 20.0) -> list[Span]:
        """Return the spans once there are so many, in the order of their beginnings."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self._spans) >= count, seconds), self._spans
            assert len(self._spans) == count, self._spans
            return sorted(self._spans, key=lambda span: span.start_ns)

    def wait_for_request(self, seconds: float = 20.0) -> None:
        """Wait until anything was sent here."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: bool(self.bodies), seconds), "nothing came"


def spans_of(body: bytes) -> list[Span]:
    """Return the spans in a request's body."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, _plain(part.resource.attributes))
        for part in request.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _span(raw: Any, resource: dict[str, Any]) -> Span:
    return Span(
        name=raw.name,
        kind=raw.kind,
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex(),
        parent_id=raw.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in raw.links),
        failed=raw.status.code == ERROR,
        message=raw.status.message,
        start_ns=raw.start_time_unix_nano,
        end_ns=raw.end_time_unix_nano,
        events=len(raw.events),
        attributes=_plain(raw.attributes),
        resource=resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
