"""Spans of attempts, from what the core hands over and what it tells, as a collector gets them."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocol import log
from protocol.messages import Goodbye, GrantedTask, Group, Message, OutcomeKind, Tasks
from sidecar.core.events import Effects, Ended
from sidecar.tracing.attempts import Attempts
from sidecar.tracing.relation import AUTO, CHILD, LINK
from sidecar.tracing.spans import QUEUE_MAX, Spans
from tests.support.builders import a_granted_task, task_id
from tests.support.collector import Collector

TRACE, PARENT = "ab" * 16, "cd" * 8
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SUBMITTED = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
HANDLER = "email.send"


class Clocks:
    """The two clocks of ``time`` that spans are made by, moved by hand."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.wall_ns = 1_800_000_000_000_000_000
        self.boot_ns = 5_000_000_000

    def time_ns(self) -> int:
        return self.wall_ns

    def clock_gettime_ns(self, clock: int) -> int:
        assert clock == self.CLOCK_BOOTTIME
        return self.boot_ns

    def advance(self, ms: int) -> None:
        self.wall_ns += ms * 1_000_000
        self.boot_ns += ms * 1_000_000

    @property
    def boot_ms(self) -> int:
        """As the core counts."""
        return self.boot_ns // 1_000_000


CLOCKS = Clocks()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setattr("sidecar.tracing.attempts.time", CLOCKS)
    with Collector() as running:
        yield running


Tracing = Callable[[str], Attempts]


@pytest.fixture
def tracing(collector: Collector) -> Iterator[Tracing]:
    library = logging.getLogger("opentelemetry")
    made: list[Attempts] = []

    def make(relation: str = AUTO) -> Attempts:
        spans = Spans(collector.endpoint, "email", {"common": 1}, log.logger("tracing"))
        made.append(Attempts(spans, relation))
        return made[-1]

    async def stop() -> None:
        for attempts in made:
            attempts.stop(20.0)
            await attempts.stopped()

    yield make
    collector.answers.set()
    asyncio.run(stop())
    library.handlers.clear()
    library.propagate = True


def a_task(number: int = 1, *, age_ms: int = 0, **changes: Any) -> GrantedTask:
    submitted_ms = CLOCKS.wall_ns // 1_000_000 - age_ms
    return a_granted_task(number, submitted_ms=submitted_ms, due_ms=submitted_ms, **changes)


def hand(attempts: Attempts, *tasks: GrantedTask) -> list[GrantedTask]:
    """Hand tasks over; return them as the handler gets them."""
    messages: list[tuple[int, Message]] = [(1, Tasks([Group(HANDLER, list(tasks))]))]
    effects = Effects(to_local=[(2, Goodbye("first")), *messages])
    attempts.turn(effects)
    [first, (number, made)] = effects.to_local
    assert first == (2, Goodbye("first"))
    assert number == 1
    assert isinstance(made, Tasks)
    [(handler, given)] = made.groups
    assert handler == HANDLER
    return given


def end(
    attempts: Attempts,
    number: int = 1,
    kind: OutcomeKind | None = OutcomeKind.SUCCESS,
    *,
    run_us: int = 10,
    since_ms: int = -1,
) -> None:
    attempts.turn(Effects(ended=[Ended(task_id(number), 1, kind, "", run_us, since_ms)]))


def context(task: GrantedTask) -> list[str]:
    """Return trace and span that a handler is told, and the flags."""
    assert task.extras is not None
    version, *parts = task.extras["traceparent"].split("-")
    assert version == "00"
    return list(parts)


def test_attempt_continues_the_submitters_trace_and_the_handler_that_of_the_attempt(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)
    extras = SUBMITTED | {"baggage": "k=v", "key": "order-1"}

    [given] = hand(attempts, a_task(extras=extras))
    end(attempts)

    [span] = collector.wait(1)
    assert (span.name, span.kind) == ("process email.send", 5)
    assert (span.trace_id, span.parent_id, span.links) == (TRACE, PARENT, ())
    assert context(given)[:2] == [TRACE, span.span_id]
    assert given.extras is not None
    assert given.extras["tracestate"] == "vendor=1"
    assert (given.extras["baggage"], given.extras["key"]) == ("k=v", "order-1")
    assert span.attributes["common"] == 1


def test_attempt_long_after_the_submission_has_a_trace_of_its_own_with_a_link(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)

    [given] = hand(attempts, a_task(age_ms=60_000, extras=SUBMITTED))
    end(attempts)

    [span] = collector.wait(1)
    assert span.trace_id != TRACE
    assert (span.parent_id, span.links) == ("", ((TRACE, PARENT),))
    assert context(given)[:2] == [span.trace_id, span.span_id]
    assert given.extras is not None
    assert "tracestate" not in given.extras
    assert span.attributes["pillion.wait_ms"] == 60_000


@pytest.mark.parametrize(("relation", "age_ms"), [(LINK, 0), (CHILD, 60_000)])
def test_relation_can_be_forced(
    collector: Collector, tracing: Tracing, relation: str, age_ms: int
) -> None:
    attempts = tracing(relation)

    hand(attempts, a_task(age_ms=age_ms, extras=SUBMITTED))
    end(attempts)

    [span] = collector.wait(1)
    assert bool(span.links) is (relation == LINK)
    assert (span.trace_id == TRACE) is (relation == CHILD)


def test_task_without_a_trace_gets_one(collector: Collector, tracing: Tracing) -> None:
    attempts = tracing(AUTO)

    [given] = hand(attempts, a_task())
    end(attempts)

    [span] = collector.wait(1)
    assert (span.parent_id, span.links) == ("", ())
    assert context(given)[:2] == [span.trace_id, span.span_id]


def test_what_the_submitter_does_not_sample_is_passed_on_and_not_sent(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}

    [given, _] = hand(attempts, a_task(1, extras=unsampled), a_task(2, extras=SUBMITTED))
    end(attempts, 1)
    end(attempts, 2)

    [span] = collector.wait(1)
    trace, own, flags = context(given)
    assert (trace, flags) == (TRACE, "00")
    assert own not in (PARENT, span.span_id)
    assert attempts.facts()["spans_open"] == 0


def test_span_lasts_from_when_the_core_saw_the_attempt_begin(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)
    hand(attempts, a_task())
    CLOCKS.advance(20)
    began_ms, began_ns = CLOCKS.boot_ms, CLOCKS.wall_ns
    CLOCKS.advance(30)

    end(attempts, run_us=29_000, since_ms=began_ms)

    [span] = collector.wait(1)
    assert (span.start_ns, span.end_ns) == (began_ns, began_ns + 30_000_000)
    assert span.attributes["pillion.wait_ms"] == 20


def test_span_of_an_attempt_that_was_not_seen_to_begin_lasts_as_long_as_the_service_says(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)
    handed_ns = CLOCKS.wall_ns
    hand(attempts, a_task(1), a_task(2))
    CLOCKS.advance(20)

    end(attempts, 1, run_us=3_000)
    end(attempts, 2, run_us=3_600_000_000)

    long, short = collector.wait(2)
    assert short.end_ns - short.start_ns == 3_000_000
    assert long.start_ns == handed_ns, "no attempt begins before it is handed over"


def test_no_span_ends_before_it_begins_though_the_wall_clock_is_set_back(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)
    hand(attempts, a_task())
    CLOCKS.wall_ns -= 3_600_000_000_000

    end(attempts, run_us=500)

    [span] = collector.wait(1)
    assert span.start_ns == span.end_ns


def test_lease_that_never_ran_has_no_span(collector: Collector, tracing: Tracing) -> None:
    attempts = tracing(AUTO)
    hand(attempts, a_task(1), a_task(2), a_task(3))

    end(attempts, 1, OutcomeKind.RETURNED, run_us=0, since_ms=CLOCKS.boot_ms)
    end(attempts, 2, None, run_us=0)
    end(attempts, 3)

    [span] = collector.wait(1)
    assert span.attributes["pillion.outcome"] == "success"
    assert attempts.facts()["spans_open"] == 0


def test_lost_lease_ends_its_span_in_an_error(collector: Collector, tracing: Tracing) -> None:
    attempts = tracing(AUTO)
    hand(attempts, a_task())
    effects = Effects(ended=[Ended(task_id(1), 1, None, "lease-lost", 0, CLOCKS.boot_ms)])

    attempts.turn(effects)
    end(attempts, 1)  # What comes after it makes no second span.

    [span] = collector.wait(1)
    assert (span.failed, span.message, span.events) == (True, "", 0)
    assert span.attributes["error.type"] == "lease-lost"


def test_spans_beyond_the_queue_are_dropped_and_counted(
    collector: Collector, tracing: Tracing
) -> None:
    attempts = tracing(AUTO)
    collector.answers.clear()
    beyond = 700
    for number in range(QUEUE_MAX + beyond):
        hand(attempts, a_task(number))
        end(attempts, number)

    facts = attempts.facts()
    dropped, waiting = int(facts["spans_dropped"]), int(facts["spans_waiting"])
    assert facts["spans_sent"] == 0
    # One batch of the SDK is on its way, and so out of the queue.
    assert beyond - 512 <= dropped <= beyond
    assert dropped + waiting == QUEUE_MAX + beyond
