"""Spans by OpenTelemetry's SDK, and their way to a collector; the only importer of it.

A thread of the SDK sends what a bounded queue holds. What does not fit, and what the collector does
not take, is dropped and counted: no attempt waits for its span, and no outcome.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from protocol.log import Logger
from protocol.version import SOFTWARE
from sidecar.tracing.names import ERROR_TYPE, SCOPE, SERVICE_NAME, Attributes

QUEUE_MAX = 8192
"""Spans that may wait to be sent."""
SAY_AGAIN_SECONDS = 60.0
"""How often it is logged that spans cannot be sent."""
_DETAIL_CHARS_MAX = 400
_PATH = "/v1/traces"
_LIBRARY = "opentelemetry"


@dataclass(frozen=True, slots=True)
class Opened:
    """A span that has its name in the trace, and no times yet."""

    name: str
    attributes: Attributes
    context: SpanContext
    parent: Context
    """The submitter's, or an empty one."""
    links: tuple[Link, ...]
    headers: dict[str, str]
    """``traceparent`` and ``tracestate``, for what happens in it."""

    @property
    def sampled(self) -> bool:
        """Whether it will be sent."""
        return self.context.trace_flags.sampled


class Spans:
    """All spans of one process.

    Args:
        endpoint: The collector's address; the rest is read by the SDK from ``OTEL_*``.
        service: The service's name, unless ``OTEL_*`` names another.
        common: Attributes that every span has.
        log: Where it is said that spans cannot be sent.
    """

    def __init__(self, endpoint: str, service: str, common: Attributes, log: Logger) -> None:
        self._endpoint = endpoint
        self._log = log
        self._stop_by = 0.0
        self._common = common
        self._ids = _Ids()
        self._exporter = _Exporter(OTLPSpanExporter(endpoint=traces_url(endpoint)), log)
        self._queue = _Queue(self._exporter)
        provider = TracerProvider(
            resource=_resource(service), id_generator=self._ids, shutdown_on_exit=False
        )
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer(SCOPE, SOFTWARE)
        self._propagator = TraceContextTextMapPropagator()
        self._stopped = asyncio.Event()
        self._exporter.listen()

    def open(
        self, name: str, attributes: Attributes, submitter: Mapping[str, str], *, child: bool
    ) -> Opened:
        """Give a span its name in the trace, and decide whether it is sent.

        Args:
            name: Of the span.
            attributes: What is known of it.
            submitter: The submitter's ``traceparent`` and ``tracestate``, if it gave them.
            child: Whether it continues the submitter's trace; otherwise it links to it.
        """
        parent = self._propagator.extract(submitter, Context())
        links: tuple[Link, ...] = ()
        if not child:
            origin = get_current_span(parent).get_span_context()
            links = (Link(origin),) if origin.is_valid else ()
            parent = Context()
        # It is made once more, with all that belongs to it, when its times are known: a span's
        # beginning cannot be changed.
        draft = self._tracer.start_span(name, parent, SpanKind.CONSUMER)
        context = draft.get_span_context()
        headers: dict[str, str] = {}
        here = set_span_in_context(NonRecordingSpan(context), Context())
        self._propagator.inject(headers, here)
        return Opened(name, attributes, context, parent, links, headers)

    def end(self, opened: Opened, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """Send a span; one with an ``ERROR_TYPE`` has failed."""
        self._ids.repeat(opened.context)
        span = self._tracer.start_span(
            opened.name,
            opened.parent,
            SpanKind.CONSUMER,
            self._common | opened.attributes | attributes,
            opened.links,
            start_time=start_ns,
        )
        if ERROR_TYPE in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(end_ns)

    def stop(self, seconds: float) -> None:
        """Begin to send what waits; ``stopped`` waits so long for it, from now on."""
        self._stop_by = time.monotonic() + seconds
        loop = asyncio.get_running_loop()

        def work() -> None:
            self._queue.shutdown()
            with contextlib.suppress(RuntimeError):  # Nobody waits any more.
                loop.call_soon_threadsafe(self._stopped.set)

        # Not a thread of the loop's pool: whoever leaves would have to wait for that.
        threading.Thread(target=work, name="pillion-spans", daemon=True).start()

    async def stopped(self) -> None:
        """Wait until what waited is sent, or the time for it is over."""
        try:
            async with asyncio.timeout(self._stop_by - time.monotonic()):
                await self._stopped.wait()
        except TimeoutError:
            if self._queue.waiting:
                self._log.warning("spans_left_behind", count=self._queue.waiting)

    def facts(self) -> dict[str, int | str]:
        """Return what people may want to know."""
        return {
            "spans_to": self._endpoint,
            "spans_sent": self._exporter.sent,
            "spans_waiting": self._queue.waiting,
            "spans_dropped": self._queue.dropped + self._exporter.lost,
            "spans_trouble": self._exporter.trouble,
        }


def traces_url(endpoint: str) -> str:
    """Return where spans are sent, given a collector's address with or without the path."""
    base = endpoint.rstrip("/")
    return base if base.endswith(_PATH) else base + _PATH


def _resource(service: str) -> Resource:
    made = Resource.create()
    if str(made.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return made.merge(Resource({SERVICE_NAME: service}))
    return made


class _Ids(RandomIdGenerator):
    """Random ids, or those of a span that is made once more."""

    def __init__(self) -> None:
        self._again: SpanContext | None = None

    def repeat(self, context: SpanContext) -> None:
        """Let the next span have these ids."""
        self._again = context

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self._again is None else self._again.trace_id

    def generate_span_id(self) -> int:
        """Return an id; spans ask for this one last."""
        again, self._again = self._again, None
        return super().generate_span_id() if again is None else again.span_id


class _Queue(SpanProcessor):
    """The SDK's queue, which drops without telling, with a count of what does not fit."""

    def __init__(self, exporter: "_Exporter") -> None:
        self._exporter = exporter
        self._batches = BatchSpanProcessor(exporter, max_queue_size=QUEUE_MAX)
        self._given = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many spans are to be sent, with those that are on their way."""
        return self._given - self._exporter.sent - self._exporter.lost

    def on_end(self, span: ReadableSpan) -> None:
        if self._given - self._exporter.taken >= QUEUE_MAX:
            self.dropped += 1
        else:
            self._given += 1
            self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]


class _Exporter(SpanExporter):
    """Sends batches, in the SDK's thread, and says so where that does not work.

    The SDK logs each of its tries; of these lines the first is worth one, and then one a minute.
    """

    def __init__(self, otlp: OTLPSpanExporter, log: Logger) -> None:
        self._otlp = otlp
        self._log = log
        self._said = -SAY_AGAIN_SECONDS
        self.taken = 0
        self.sent = 0
        self.lost = 0
        self.trouble = ""
        """Why the latest batch could not be sent at once; empty if it was."""
        self._heard = False
        """Whether the library has said something of this batch: what it says first tells most."""

    def listen(self) -> None:
        """Take what the library logs from here on; what it has said of its settings was logged."""
        library = logging.getLogger(_LIBRARY)
        library.addHandler(_Lines(self))
        library.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        self._heard = False
        try:
            result = self._otlp.export(spans)
        except Exception as error:  # Older versions raise where nobody can be reached.
            self.troubled(f"{type(error).__name__}: {error}")
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
            if self.trouble:
                self._log.info("spans_sent_again", dropped=self.lost)
                self._said = -SAY_AGAIN_SECONDS
            self.trouble = ""
        else:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._otlp.shutdown()  # type: ignore[no-untyped-call]

    def troubled(self, text: str) -> None:
        """Take what the library says about a try that failed."""
        if self._heard:
            return
        self._heard = True
        self.trouble = text[:_DETAIL_CHARS_MAX]
        now = time.monotonic()
        if now - self._said >= SAY_AGAIN_SECONDS:
            self._said = now
            detail = "attempts go on; their spans are dropped when too many wait"
            self._log.warning("spans_not_sent", why=self.trouble, dropped=self.lost, detail=detail)


class _Lines(logging.Handler):
    """Takes what the library logs."""

    def __init__(self, exporter: _Exporter) -> None:
        super().__init__(logging.WARNING)
        self._exporter = exporter

    def emit(self, record: Any) -> None:
        self._exporter.troubled(record.getMessage())
