"""Serve a connection: tasks in, outcomes and demand out, once per event loop iteration.

Outcomes go first in each write, demand after them, and slots are released only when the kernel
has taken both: so the sidecar knows of an outcome before its slot is used again.
"""

import asyncio
from time import monotonic

from protocol import limits, local
from protocol.messages import (
    Attach,
    Declaration,
    Demand,
    Failure,
    GrantedTask,
    Inspect,
    Inspected,
    Limit,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Progress,
    Recall,
    Result,
    Revoke,
    Tasks,
    Update,
    Validity,
)
from protocol.version import SOFTWARE, VERSION_MAX, VERSION_MIN
from sidecar.sdk.connection import Connection
from sidecar.sdk.context import Context
from sidecar.sdk.errors import Refused
from sidecar.sdk.link import LOG, Link
from sidecar.sdk.runner import Attempt, Key, Runner
from sidecar.sdk.validity import ValidityWatch

BARRIER_S_MAX = 2.0
"""How long the sidecar may take to say that no more tasks are on their way."""
STOP_S_MAX = 5.0
"""How long attempts that were told to stop may take to do so."""
TELL_S = 0.05
"""How long what attempts tell may be gathered."""
_OUTCOME_BYTES = 64
_UPDATE_BYTES_MAX = 8 * limits.KIB
_CHARACTER_BYTES_MAX = 4
_NEVER = float("inf")

_log = LOG.getChild("service")


class Serving:
    """The serving side of one process of a service.

    Args:
        path: The sidecar's socket.
        service: Its name.
        declarations: Its handlers and their policies.
        runners: One for each of the handlers.
    """

    def __init__(
        self, path: str, service: str, declarations: list[Declaration], runners: list[Runner]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._declarations = declarations
        self._runners = {r.handler: r for r in runners}
        self._link = Link(path, self, f"service {service}")
        self._connection: Connection | None = None
        self._outcomes: list[Outcome] = []
        self._touched: set[Runner] = set()
        """Runners whose slots or demand may have changed since the last flush."""
        self._telling: dict[Context, None] = {}
        """Attempts that have told something since it was last sent."""
        self._told_at = 0.0
        self._tell_timer: asyncio.TimerHandle | None = None
        self._flush_due = False
        self._taking = True
        self._idle = asyncio.Event()
        self._barrier: asyncio.Future[None] | None = None
        """Done when the sidecar has answered what was written before it."""
        self._barrier_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER
        self._validity = ValidityWatch(self._loop, self._leases_over)
        for runner in runners:
            runner.open(self._loop, self._ended, self._tells)

    # --- Life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            Refused: The sidecar refuses the service.
        """
        try:
            await self._link.run()
        except Refused:
            _log.error("service %s: the sidecar refuses it", self._service)
            raise

    async def drain(self, seconds: float) -> bool:
        """Take no more tasks, give back what has not begun, let what runs end.

        Returns:
            Whether everything has ended; False when an attempt did not stop in time.
        """
        self._taking = False
        self._give_back()
        await self._quiet()
        ended = await self._wait_idle(seconds)
        if not ended:
            count = sum(len(r.running) for r in self._runners.values())
            _log.warning("service %s: stopping %d running attempts", self._service, count)
            ended = await self.stop_attempts()
        self._flush()
        return ended

    async def stop_attempts(self) -> bool:
        """Tell all attempts to stop; return whether they did."""
        self._taking = False
        self._give_back()
        for runner in self._runners.values():
            for attempt in list(runner.running.values()):
                attempt.stop("stopping")
        ended = await self._wait_idle(STOP_S_MAX)
        self._flush()
        return ended

    async def _quiet(self) -> None:
        """State that no more is taken, and wait until what was on its way has arrived."""
        if self._connection is None:
            return
        self._barrier = self._loop.create_future()
        self._barrier_due = True
        self._flush()
        try:
            async with asyncio.timeout(BARRIER_S_MAX):
                await self._barrier
        except TimeoutError:
            _log.warning("service %s: the sidecar does not answer", self._service)

    async def _wait_idle(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._busy():
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _busy(self) -> bool:
        running = any(r.running or r.ghosts for r in self._runners.values())
        return running or (self._connection is not None and bool(self._outcomes))

    def close(self) -> bool:
        """End threads and timers, and close the connection when everything is written.

        Returns:
            Whether there is a connection whose end is to be waited for.
        """
        for runner in self._runners.values():
            runner.close()
        self._validity.forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is None:
            return False
        self._connection.close()
        return True

    # --- What the link tells ---------------------------------------------------------------------

    def attach(self) -> Attach:
        """Introduce the service with its handlers."""
        return Attach(
            VERSION_MIN,
            VERSION_MAX,
            self._service,
            f"pillion-python {SOFTWARE}",
            self._declarations,
            [Limit(r.handler, r.slots) for r in self._runners.values()],
        )

    def attached(self, connection: Connection) -> None:
        """State the first demand."""
        self._connection = connection
        self._touched.update(self._runners.values())
        self._flush()

    def received(self, messages: list[Message]) -> None:
        """Take tasks and orders."""
        for message in messages:
            match message:
                case Tasks(groups):
                    for handler, tasks in groups:
                        self._take(handler, tasks)
                case Revoke(revoked):
                    self._revoke({(r.id, r.token): r.reason for r in revoked})
                case Recall(leases):
                    self._give_back({(lease.id, lease.token) for lease in leases})
                case Validity(until_ms):
                    self._validity.renew(until_ms)
                case Inspected():
                    if self._barrier is not None and not self._barrier.done():
                        self._barrier.set_result(None)
                case _:
                    _log.warning("unexpected %s from the sidecar", type(message).__name__)

    def drained(self) -> None:
        """The kernel has taken everything: go on."""
        self._schedule()

    def lost(self, reason: str) -> None:
        """Stop what runs; nothing of it can be told any more."""
        self._connection = None
        self._validity.forget()
        self._outcomes.clear()
        self._telling.clear()
        for runner in self._runners.values():
            runner.disconnect()
        if self._barrier is not None and not self._barrier.done():
            self._barrier.set_result(None)
        self._idle.set()

    def wanted(self) -> bool:
        """A service always wants its sidecar."""
        return self._taking

    # --- Tasks -----------------------------------------------------------------------------------

    def _take(self, handler: str, tasks: list[GrantedTask]) -> None:
        runner = self._runners.get(handler)
        if runner is None:
            _log.error("got %d tasks for %s, which is not declared here", len(tasks), handler)
        if runner is None or not self._taking:
            self._outcomes += [Outcome(t.id, t.token, OutcomeKind.RETURNED, 0, None) for t in tasks]
            self._schedule()
            return
        runner.take(tasks)
        self._guard(runner, tasks)
        self._touched.add(runner)
        if runner.restates(runner.demand()):
            self._schedule()

    def _guard(self, runner: Runner, tasks: list[GrantedTask]) -> None:
        """Make sure that the timer fires when the first of these attempts can be overdue."""
        shortest = min(t.timeout_ms for t in tasks) / 1000 if tasks else _NEVER
        if monotonic() + shortest < self._timer_at:
            self._set_timer(monotonic() + shortest)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None
        if at < _NEVER:
            # A little late rather than early: the loop's clock is coarser than ours.
            self._timer = self._loop.call_later(max(0.0, at - monotonic()) + 0.002, self._sweep)

    def _sweep(self) -> None:
        """Stop attempts that overrun their time."""
        now = monotonic()
        nearest = _NEVER
        for runner in self._runners.values():
            for attempt in list(runner.running.values()):
                if attempt.context.reason is not None:
                    continue
                if attempt.context.deadline <= now:
                    attempt.stop("timeout")
                else:
                    nearest = min(nearest, attempt.context.deadline)
            nearest = min(nearest, now + runner.shortest_waiting_s)
        self._set_timer(nearest)

    def _revoke(self, reasons: dict[Key, str]) -> None:
        self._give_back(set(reasons))
        for runner in self._runners.values():
            for key in reasons.keys() & runner.running.keys():
                runner.running[key].stop(reasons[key])

    def _leases_over(self) -> None:
        """Stop everything: the sidecar is silent, and its leases may be another's now."""
        running = [a for runner in self._runners.values() for a in runner.running.values()]
        if running:
            _log.warning(
                "service %s: the sidecar is silent, stopping %d attempts",
                self._service,
                len(running),
            )
        self._give_back()
        for attempt in running:
            attempt.stop("lease-lost")

    def _give_back(self, keys: set[Key] | None = None) -> None:
        for runner in self._runners.values():
            self._tell(runner, runner.give_back(keys))

    def _tell(self, runner: Runner, outcomes: list[Outcome]) -> None:
        if outcomes:
            self._outcomes += outcomes
            self._touched.add(runner)
            self._schedule()

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        self._touched.add(attempt.runner)
        if attempt.told:
            self._outcomes.append(outcome)
        self._schedule()

    def _tells(self, context: Context) -> None:
        """Send what an attempt tells: soon, but not with every turn of the loop."""
        if context.reason == "disconnected":
            return  # Its lease was that of another connection.
        self._telling[context] = None
        if self._tell_timer is None:
            wait = self._told_at + TELL_S - monotonic()
            self._tell_timer = self._loop.call_later(max(0.0, wait), self._tell_due)

    def _tell_due(self) -> None:
        self._tell_timer = None
        self._told_at = monotonic()
        self._schedule()

    # --- Out -------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        connection = self._connection
        if connection is not None:
            if not connection.writable:
                return  # ``drained`` comes here again.
            data = self._outgoing()
            if data and not connection.write(data):
                return
        touched, self._touched = self._touched, set()
        for runner in touched:
            runner.release()
        self._idle.set()

    def _outgoing(self) -> bytes:
        data = b""
        if self._telling and (self._tell_timer is None or self._outcomes):
            data = self._progress()  # Before the outcomes: what is told later counts no more.
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, []
            data += _frames(outcomes)
        now = monotonic()
        stated = []
        for runner in self._touched:
            runner.count(now)
            total = runner.demand()
            if self._taking and runner.restates(total):
                runner.stated = total
                stated.append(Limit(runner.handler, total))
        if self._barrier_due:
            self._barrier_due = False
            nothing = [Limit(r.handler, r.received) for r in self._runners.values()]
            data += local.frame(Demand(nothing)) + local.frame(Inspect())
        return data + local.frame(Demand(stated)) if stated else data

    def _progress(self) -> bytes:
        telling, self._telling = self._telling, {}
        updates = [context._take_told() for context in telling]
        return _progress_frames([update for update in updates if update is not None])


def _progress_frames(updates: list[Update]) -> bytes:
    """Return frames of PROGRESS, each within the limit of one message."""
    step = limits.BATCH_BYTES_MAX // _UPDATE_BYTES_MAX
    groups = [updates[i : i + step] for i in range(0, len(updates), step)]
    return b"".join([local.frame(Progress(group)) for group in groups])


def _frames(outcomes: list[Outcome]) -> bytes:
    """Return frames of OUTCOMES, each within the limit of one message."""
    frames: list[bytes] = []
    group: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        added = _size(outcome)
        if group and (
            size + added > limits.BATCH_BYTES_MAX or len(group) == limits.BATCH_TASKS_MAX
        ):
            frames.append(local.frame(Outcomes(0, group)))
            group, size = [], 0
        group.append(outcome)
        size += added
    frames.append(local.frame(Outcomes(0, group)))
    return frames[0] if len(frames) == 1 else b"".join(frames)


def _size(outcome: Outcome) -> int:
    value = outcome.value
    if value is None:
        return _OUTCOME_BYTES
    if isinstance(value, Result):
        return _OUTCOME_BYTES + len(value.body)
    assert isinstance(value, Failure)
    return _OUTCOME_BYTES + _CHARACTER_BYTES_MAX * (len(value.message) + len(value.detail))
