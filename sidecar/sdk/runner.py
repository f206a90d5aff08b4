"""Run the attempts of one handler in its slots, in the order in which they were handed over.

A slot is free again only when ``release`` is called, after the attempt's outcome has reached the
kernel: the sidecar tells from that order which attempts may have begun when a process dies.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Any

from protocol.messages import GrantedTask, Outcome, OutcomeKind
from sidecar.sdk import outcomes
from sidecar.sdk.context import CURRENT, Context
from sidecar.sdk.pace import Pace
from sidecar.sdk.parameters import Parameters
from sidecar.sdk.threads import Threads

NEVER = float("inf")
Key = tuple[bytes, int]
"""Id and token of a lease."""


class Attempt:
    """One attempt that has a slot.

    ``told`` is whether its outcome will be told: not when the connection it came on is gone.
    """

    __slots__ = ("began", "context", "key", "runner", "started", "task", "told", "work")

    def __init__(self, runner: "Runner", task: GrantedTask, began: float) -> None:
        self.runner = runner
        self.task = task
        self.key: Key = (task.id, task.token)
        self.began = began
        self.context = Context(runner.handler, task, began, runner.told)
        self.told = True
        self.started = False
        self.work: asyncio.Task[None] | None = None

    def stop(self, reason: str) -> None:
        """Tell the handler to stop. What it returns after that is not taken."""
        first = self.context.reason is None
        self.context._cancel(reason)
        # A task that has not taken its first step would end without a word when cancelled; it
        # looks at the reason itself.
        if first and self.started and self.work is not None:
            self.work.cancel()


Ended = Callable[[Attempt, Outcome], None]


class Runner:
    """One handler in this process.

    Invariant: ``free`` + running attempts + slots that wait for ``release`` = ``slots``, and
    tasks wait only while no slot is free.

    Args:
        handler: Its full name.
        function: Asynchronous, or to be run in threads.
        parameters: How payloads become its arguments.
        slots: Concurrent attempts.
        is_async: Which of the two the function is.
    """

    def __init__(
        self,
        handler: str,
        function: Callable[..., Any],
        parameters: Parameters,
        *,
        slots: int,
        is_async: bool,
    ) -> None:
        self.handler = handler
        self.slots = slots
        self.pace = Pace()
        self._function = function
        self._parameters = parameters
        self._is_async = is_async
        self._threads = None if is_async else Threads(handler, slots)
        self._waiting: deque[GrantedTask] = deque()
        self.free = slots
        self.unreleased = 0
        """Slots whose outcome is on its way to the kernel."""
        self.running: dict[Key, Attempt] = {}
        self.ghosts: set[Attempt] = set()
        """Attempts of a connection that is gone, until they stop; they keep their slots."""
        self.received = 0
        """Tasks received on this connection."""
        self.stated = 0
        """The demand last stated on this connection."""
        self._run_us = 0
        self._ended_count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Ended | None = None
        self._tells: Callable[[Context], None] = lambda _: None
        self._from_threads: deque[tuple[Attempt, outcomes.Ending]] = deque()
        self._collect_due = False

    def open(
        self, loop: asyncio.AbstractEventLoop, ended: Ended, tells: Callable[[Context], None]
    ) -> None:
        """Serve on a loop; ``ended`` is called there with each outcome, ``tells`` for progress."""
        self._loop = loop
        self._ended = ended
        self._tells = tells

    def told(self, context: Context) -> None:
        """Take note that an attempt has something to tell."""
        assert self._loop is not None
        if self._threads is None:
            self._tells(context)
            return
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            self._loop.call_soon_threadsafe(self._tells, context)

    def close(self) -> None:
        """End the threads that are idle."""
        if self._threads is not None:
            self._threads.stop()

    # --- Tasks in, attempts out -----------------------------------------------------------------

    def take(self, tasks: list[GrantedTask]) -> None:
        """Take tasks in the order in which they were handed over."""
        self.received += len(tasks)
        self._waiting.extend(tasks)
        self.begin()

    def begin(self) -> None:
        """Begin what waits, as far as slots are free."""
        waiting = self._waiting
        if not self.free or not waiting:
            return
        now = monotonic()
        while self.free and waiting:
            self.free -= 1
            attempt = Attempt(self, waiting.popleft(), now)
            self.running[attempt.key] = attempt
            if self._threads is None:
                self._begin_async(attempt)
            else:
                self._threads.start(lambda attempt=attempt: self._in_thread(attempt))  # type: ignore[misc]

    def _begin_async(self, attempt: Attempt) -> None:
        assert self._loop is not None
        context = copy_context()
        context.run(CURRENT.set, attempt.context)
        attempt.work = self._loop.create_task(self._run_async(attempt), context=context)

    async def _run_async(self, attempt: Attempt) -> None:
        attempt.started = True
        context = attempt.context
        ending: outcomes.Ending
        try:
            if context.reason is None:
                args, kwargs = self._parameters.arguments(attempt.task.payload)
                value = await self._function(*args, **kwargs)
                ending = outcomes.SUCCESS if value is None else outcomes.returned(value)
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            ending = outcomes.raised(error)
        if context.reason is not None:
            ending = outcomes.stopped(context.reason)
        self._end(attempt, ending)

    def _in_thread(self, attempt: Attempt) -> None:
        try:
            args, kwargs = self._parameters.arguments(attempt.task.payload)
            call = copy_context()
            call.run(CURRENT.set, attempt.context)
            value = call.run(self._function, *args, **kwargs)
            ending = outcomes.returned(value)
        except BaseException as error:  # Whatever it is: the thread must tell and go on.
            ending = outcomes.raised(error)
        self._from_threads.append((attempt, ending))
        if not self._collect_due:
            self._collect_due = True
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                return  # The loop has ended; nobody wants to know any more.

    def _collect(self) -> None:
        self._collect_due = False  # Before looking: what is added from now on calls again.
        while self._from_threads:
            attempt, ending = self._from_threads.popleft()
            assert self._threads is not None
            self._threads.done()
            if attempt.context.reason is not None and not _done_all_the_same(attempt, ending):
                ending = outcomes.stopped(attempt.context.reason)
            self._end(attempt, ending)

    def _end(self, attempt: Attempt, ending: outcomes.Ending) -> None:
        run_us = int((monotonic() - attempt.began) * 1_000_000)
        self._ended_count += 1
        self._run_us += run_us
        if attempt.told:
            del self.running[attempt.key]
            self.unreleased += 1
        else:
            self.ghosts.discard(attempt)
            self.free += 1
        assert self._ended is not None
        self._ended(attempt, Outcome(*attempt.key, ending[0], run_us, ending[1]))

    def release(self) -> None:
        """Use again the slots whose outcomes have reached the kernel."""
        self.free += self.unreleased
        self.unreleased = 0
        self.begin()

    @property
    def shortest_waiting_s(self) -> float:
        """The shortest timeout of what waits: it may begin at any moment."""
        return min((t.timeout_ms for t in self._waiting), default=NEVER) / 1000

    # --- Giving back ----------------------------------------------------------------------------

    def give_back(self, keys: set[Key] | None = None) -> list[Outcome]:
        """Return, unused, what waits: all of it, or those of ``keys``."""
        back = [t for t in self._waiting if keys is None or (t.id, t.token) in keys]
        if back:
            gone = {(t.id, t.token) for t in back}
            self._waiting = deque(t for t in self._waiting if (t.id, t.token) not in gone)
        return [Outcome(t.id, t.token, OutcomeKind.RETURNED, 0, None) for t in back]

    def disconnect(self) -> None:
        """Forget a connection that is gone: stop what runs, drop what waits."""
        self._waiting.clear()
        self.free += self.unreleased
        self.unreleased = 0
        self.received = self.stated = 0
        for attempt in list(self.running.values()):
            attempt.told = False
            self.ghosts.add(attempt)
            attempt.stop("disconnected")
        self.running.clear()

    # --- Demand ---------------------------------------------------------------------------------

    def count(self, now: float) -> None:
        """Count what has ended since the last call towards the pace."""
        if self._ended_count:
            self.pace.ended(now, self._ended_count, self._run_us)
            self._ended_count = self._run_us = 0

    def demand(self) -> int:
        """Return the total to take on this connection: received, free slots, and some ahead."""
        free = self.free + self.unreleased
        return self.received - len(self._waiting) + free + self.pace.ahead

    def restates(self, total: int) -> bool:
        """Tell whether a total is worth stating: a quarter of the window, or nothing is left."""
        more = total - self.stated
        if more <= 0:
            return False
        return self.stated <= self.received or 4 * more >= self.slots + self.pace.ahead


def _done_all_the_same(attempt: Attempt, ending: outcomes.Ending) -> bool:
    """Tell whether a function has finished its work and never learnt that nobody wants it."""
    context = attempt.context
    success = ending[0] is OutcomeKind.SUCCESS
    return success and context.reason == "cancelled" and not context._heeded
