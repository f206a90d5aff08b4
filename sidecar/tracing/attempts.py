"""The spans of attempts: opened when a task is handed over, ended by what the attempt came to.

The handler is told the span of its own attempt instead of its submitter's, whatever invokes it:
what it traces, and what it submits, hangs below the attempt.
"""

import time
from typing import TYPE_CHECKING, NamedTuple

from protocol.messages import GrantedTask, Group, OutcomeKind, Tasks
from sidecar.core.events import Effects, Ended
from sidecar.core.lane import Key
from sidecar.tracing.names import of_end, of_task, span_name
from sidecar.tracing.relation import is_child

if TYPE_CHECKING:
    from sidecar.tracing.spans import Opened, Spans

_MS, _US = 1_000_000, 1_000
_SUBMITTERS = ("traceparent", "tracestate")
"""What a handler gets of its attempt instead. The baggage stays the submitter's."""


class _Handed(NamedTuple):
    """An attempt that was handed over and has not ended."""

    opened: "Opened"
    handed_ns: int
    due_ms: int


class Attempts:
    """The attempts that services have, as far as their traces are kept.

    Invariant: each stands for a lease that the core holds, or whose end it will tell.

    Args:
        spans: Where spans go.
        relation: One of ``RELATIONS``.
    """

    def __init__(self, spans: "Spans", relation: str) -> None:
        self._spans = spans
        self._relation = relation
        self._handed: dict[Key, _Handed] = {}

    def turn(self, effects: Effects) -> None:
        """Make the spans of what has ended; put new ones into the tasks that are handed over."""
        now_ns = time.time_ns()
        if effects.ended:
            offset_ns = now_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            for end in effects.ended:
                self._end(end, now_ns, offset_ns)
        effects.to_local = [
            (number, Tasks([self._hand(group, now_ns) for group in message.groups]))
            if isinstance(message, Tasks)
            else (number, message)
            for number, message in effects.to_local
        ]

    def _hand(self, group: Group, now_ns: int) -> Group:
        handler, tasks = group
        return Group(handler, [self._open(handler, task, now_ns) for task in tasks])

    def _open(self, handler: str, task: GrantedTask, now_ns: int) -> GrantedTask:
        extras = task.extras or {}
        submitter = {name: extras[name] for name in _SUBMITTERS if name in extras}
        child = is_child(self._relation, task.submitted_ms, now_ns // _MS)
        opened = self._spans.open(
            span_name(handler), of_task(handler, task), submitter, child=child
        )
        if opened.sampled:
            self._handed[task.id, task.token] = _Handed(opened, now_ns, task.due_ms)
        kept = {name: value for name, value in extras.items() if name not in _SUBMITTERS}
        return task._replace(extras=kept | opened.headers)

    def _end(self, end: Ended, now_ns: int, offset_ns: int) -> None:
        handed = self._handed.pop((end.id, end.token), None)
        if handed is None:
            return
        run_ns = end.run_us * _US
        if not run_ns and (end.kind is OutcomeKind.RETURNED or end.since_ms < 0):
            return  # It never began.
        start_ns = now_ns - run_ns
        if end.since_ms >= 0:
            seen_ns = offset_ns + end.since_ms * _MS
            start_ns = min(start_ns, seen_ns) if run_ns else seen_ns
        # The clock of the wall may have been set meanwhile: no span ends before it begins.
        start_ns = min(max(start_ns, handed.handed_ns), now_ns)
        wait_ms = max(0, start_ns // _MS - handed.due_ms)
        self._spans.end(handed.opened, start_ns, now_ns, of_end(end, wait_ms))

    def stop(self, seconds: float) -> None:
        """Begin to send what waits; ``stopped`` waits so long for it, from now on."""
        self._spans.stop(seconds)

    async def stopped(self) -> None:
        """Wait until what waited is sent, or the time for it is over."""
        await self._spans.stopped()

    def facts(self) -> dict[str, int | str]:
        """Return what people may want to know."""
        return {"spans_open": len(self._handed), **self._spans.facts()}
