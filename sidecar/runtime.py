"""The shell around the core: gather the events of a turn, flush once, sleep until the next is due.

It owns the sockets, the clock and the signals; all decisions are the core's. The clock counts while
the machine sleeps, so that after a suspend the first thing found is that the leases are void.
"""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable

import uvloop

from protocol import codec, log
from protocol.descriptors import Shortage
from protocol.errors import LimitExceeded, ProtocolError
from protocol.version import SOFTWARE
from sidecar.core.events import (
    Drain,
    Event,
    FromCoordinator,
    LinkDown,
    LinkUp,
    Note,
    ProcessEnded,
    Serving,
    SpoolContents,
    SpoolDone,
    SpoolFailed,
    SpoolWork,
)
from sidecar.core.fleet import FleetTerms
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Identity, Terms
from sidecar.errors import SidecarError, SpoolUnusable
from sidecar.gateway.gateway import Gateway
from sidecar.http.api import routes
from sidecar.http.server import HttpServer
from sidecar.invoke import routes as pull_routes
from sidecar.invoke.exec import environment
from sidecar.invoke.host import House
from sidecar.invoke.hosts import Hosts
from sidecar.settings import Settings, Supervision
from sidecar.spool import SpoolStore
from sidecar.supervise.supervisor import Supervisor
from sidecar.tracing.attempts import Attempts
from sidecar.tracing.start import start as start_tracing
from sidecar.transport import Transport

SLEEP_MS_MAX = 60_000
SAY_AGAIN_SECONDS = 10.0
"""How often a wait for the coordinator that goes on is logged."""
SPANS_SECONDS_MIN, SPANS_SECONDS_MAX = 1.0, 2.0
"""How long the end waits for spans to be sent: the least of it where the drain was used up."""
ALARMS = frozenset(
    {"session_lost", "leases_lost", "refused", "welcome_refused", "connection_refused"}
    | {"unexpected_message", "message_too_large", "connection_does_not_read", "attempts_stopped"}
    | {"spooling", "spool_failed", "spooled_refused", "spool_too_old", "spool_damaged"}
    | {"process_died", "process_killed", "process_does_not_serve"}
    | {"app_away", "handler_misrouted", "command_not_started", "discovery_failed"}
)
LOUD = frozenset({"process_keeps_ending", "process_does_not_end", "processes_left_behind"})


class Process:
    """A running sidecar.

    Args:
        settings: What it runs with.
        spool: The spool's store, open; None when there shall be none.
        contents: What was in it.
        line: Called with each line that a supervised process writes to stderr.
        traced: Makes spans of attempts; None when there shall be none.
    """

    def __init__(
        self,
        settings: Settings,
        spool: SpoolStore | None = None,
        contents: SpoolContents | None = None,
        *,
        line: Callable[[str], None],
        traced: Attempts | None = None,
    ) -> None:
        self._settings = settings
        self._traced = traced
        self._spool = spool
        self._spooling: asyncio.Task[None] | None = None
        self._log = log.logger("sidecar").bind(service=settings.service, sidecar=settings.name)
        self._core = Sidecar(
            Identity(
                sidecar=settings.name,
                incarnation=os.urandom(16),
                service=settings.service,
                software=SOFTWARE,
                coordinator=settings.coordinator,
            ),
            Terms(
                drain_ms=settings.drain_ms,
                cancel_grace_ms=settings.cancel_grace_ms,
                submit_timeout_ms=settings.submit_timeout_ms,
                spool_after_ms=settings.spool_after_ms,
                spool_bytes_max=settings.spool_bytes_max,
                spool_age_ms=settings.spool_age_ms,
                attempts_told=traced is not None,
            ),
            contents,
        )
        self._transport = Transport(
            settings.coordinator,
            receive=self._from_coordinator,
            up=lambda: self._core.step(now_ms(), LinkUp()),
            down=lambda: self._core.step(now_ms(), LinkDown()),
            turned=self._turned,
        )
        self._supervisor = None
        if settings.supervision is not None:
            self._supervisor = self._supervised(settings.supervision, line)
        server = HttpServer(routes())
        self._gateway = Gateway(
            settings.socket,
            step=self._step,
            turned=self._turned,
            alarm=self._alarm,
            process_of=None if self._supervisor is None else self._supervisor.process_of,
            http=server,
        )
        house = House(
            settings.service,
            self._gateway,
            settings.cancel_grace_ms,
            Terms().stop_grace_ms,
            self._told,
        )
        self._hosts = Hosts(
            settings.invoking,
            house,
            self._gateway.join,
            environment(str(settings.socket.absolute())),
            served_by=self._served_by,
        )
        server.router.add(pull_routes.routes(self._hosts))
        self._core.facts_of_fleet = self._facts
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None
        self._shortage = Shortage()
        self._signals = 0
        self._waiting_since = 0.0
        self._end_by = 0.0
        """By when the drain shall be over."""
        self._ending: asyncio.Task[None] | None = None
        """Waits, after the drain, for the processes to end."""

    def _supervised(self, given: Supervision, line: Callable[[str], None]) -> Supervisor:
        app = self._settings.invoking.app
        return Supervisor(
            given.command,
            self._settings.socket,
            FleetTerms(
                processes=given.processes,
                kill_grace_ms=given.kill_grace_ms,
                recycle_grace_ms=given.recycle_grace_ms,
                recycle_tasks=given.recycle_tasks,
                recycle_age_ms=given.recycle_age_ms,
                recycle_memory_bytes=given.recycle_memory_bytes,
            ),
            now_ms=now_ms,
            ended=self._process_ended,
            note=self._note,
            line=line,
            environment={"PILLION_APP_SOCKET": str(app)} if app is not None else None,
        )

    def _facts(self, now_ms: int) -> dict[str, int | str]:
        """Return what there is to know beside the core's own facts."""
        fleet = {} if self._supervisor is None else self._supervisor.facts(now_ms)
        spans = {} if self._traced is None else self._traced.facts()
        return fleet | self._hosts.facts() | spans

    def _served_by(self, pid: int) -> None:
        """Take note of the process that listens for what is pushed."""
        if self._supervisor is not None:
            process = self._supervisor.process_of(pid)
            if process:
                self._supervisor.step([Serving(process)])

    async def run(self) -> None:
        """Serve until the drain after SIGTERM or SIGINT is over.

        Raises:
            SocketRefused: The local socket cannot be served.
            SidecarError: The coordinator's address is none.
        """
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        loop.set_exception_handler(self._failed)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        await self._gateway.start()
        try:
            self._transport.start()
            self._log.info("serving", socket=str(self._settings.socket), pid=os.getpid())
            self._waiting_since = time.monotonic()
            self._hosts.start()
            if self._supervisor is not None:
                self._supervisor.start()
            waiting = loop.create_task(self._say_what_is_waited_for())
            try:
                await self._done
            finally:
                waiting.cancel()
        except OSError as error:
            raise SidecarError(str(error.strerror or error)) from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._ending is not None:
                self._ending.cancel()
            self._hosts.stop()
            if self._traced is not None:
                self._traced.stop(self._seconds_for_spans())
            if self._supervisor is not None:
                await self._supervisor.close()
            await self._gateway.stop()
            self._transport.stop()
            if self._traced is not None:
                await self._traced.stopped()
            self._log.info("stopped", **self._core.facts(now_ms()))

    # In

    def _step(self, event: Event) -> None:
        self._core.step(now_ms(), event)

    def _process_ended(self, event: ProcessEnded) -> None:
        self._step(event)
        self._turned()

    def _from_coordinator(self, parts: list[bytes]) -> None:
        try:
            if len(parts) != 1:
                raise LimitExceeded(f"a message of {len(parts)} frames; expected 1")
            message = codec.decode(parts[0])
        except ProtocolError as error:
            self._alarm("unexpected_message", {"code": error.code, "detail": error.detail})
        else:
            self._core.step(now_ms(), FromCoordinator(message))

    def _turned(self) -> None:
        """Flush at the end of this turn of the loop, once for all that came in it."""
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._log.info("stopping", drain_ms=self._settings.drain_ms)
            self._end_by = time.monotonic() + (self._settings.drain_ms + Terms().end_ms) / 1000
            self._step(Drain())
            self._hosts.drain()
            self._turned()
            if self._supervisor is not None:
                self._supervisor.drain()
        else:
            self._log.warning("stopping_at_once", detail="what is held runs out by itself")
            self._finish()

    def _seconds_for_spans(self) -> float:
        """Return how long the end may wait for the last spans to be sent."""
        if self._signals > 1:
            return 0.0
        return max(SPANS_SECONDS_MIN, min(SPANS_SECONDS_MAX, self._end_by - time.monotonic()))

    # Out

    def _flush(self) -> None:
        self._flushing = None
        if self._ending is not None or (self._done is not None and self._done.done()):
            # Goodbye was said, or nothing is to be said: the connections that close from here on
            # end with this process, so that what they have at hand must not be taken for crashed.
            return
        effects = self._core.flush(now_ms())
        for note in effects.notes:
            self._note(note)
        if self._traced is not None:
            self._traced.turn(effects)
        if effects.reconnect:
            self._transport.reconnect()
        for message in effects.to_coordinator:
            try:
                self._transport.send(codec.encode(message))
            except LimitExceeded as error:
                self._alarm("message_too_large", {"detail": error.detail})
        if effects.to_coordinator:
            self._transport.look()
        if effects.to_local:
            self._gateway.send(effects.to_local)
        if effects.close:
            self._gateway.close(effects.close)
        if effects.spool is not None and self._spool is not None:
            loop = asyncio.get_running_loop()
            self._spooling = loop.create_task(self._work_on_spool(self._spool, effects.spool))
            self._spooling.add_done_callback(_look_at_the_end)
        if effects.processes and self._supervisor is not None:
            self._supervisor.step(effects.processes)
        if effects.stopped:
            self._end()
        self._sleep_until_due()

    async def _work_on_spool(self, spool: SpoolStore, work: SpoolWork) -> None:
        try:
            loaded = await spool.work(work)
        except SpoolUnusable as error:
            self._step(SpoolFailed(str(error)))
        else:
            self._step(SpoolDone(loaded))
        self._turned()

    def _sleep_until_due(self) -> None:
        """Set the one timer there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self._core.next_due_ms()
        if due_ms is not None:
            seconds = min(max(due_ms - now_ms(), 0), SLEEP_MS_MAX) / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._transport.look()
        self._flush()

    def _end(self) -> None:
        """Leave: at once, or when the processes have ended."""
        if self._supervisor is None:
            self._finish()
        else:
            self._ending = asyncio.get_running_loop().create_task(self._supervisor.stop())
            self._ending.add_done_callback(lambda _: self._finish())

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """End the process for an error in a callback: a core that failed once is not trusted."""
        if self._shortage.is_meant(context):
            if self._shortage.add():
                facts: dict[str, int | str] = {"detail": str(context["exception"])}
                self._alarm("connections_wait", facts | {"times": self._shortage.times})
            return
        error = context.get("exception") or RuntimeError(str(context["message"]))
        if self._done is not None and not self._done.done():
            assert isinstance(error, BaseException)
            self._done.set_exception(error)

    # What is told

    def _note(self, note: Note) -> None:
        if note.name == "session_opened":
            self._waiting_since = 0.0
        elif note.name == "session_lost":
            self._waiting_since = time.monotonic()
        if note.name in LOUD:
            self._log.error(note.name, **note.facts)
        elif note.name in ALARMS:
            self._alarm(note.name, note.facts)
        else:
            self._log.info(note.name, **note.facts)

    def _told(self, name: str, facts: dict[str, int | str]) -> None:
        self._note(Note(name, facts))

    def _alarm(self, name: str, facts: dict[str, int | str]) -> None:
        self._log.warning(name, **facts)

    async def _say_what_is_waited_for(self) -> None:
        while True:
            await asyncio.sleep(SAY_AGAIN_SECONDS)
            if self._waiting_since:
                self._transport.look()
                facts = self._core.facts(now_ms())
                self._log.warning(
                    "waiting_for_coordinator",
                    coordinator=self._settings.coordinator,
                    seconds=round(time.monotonic() - self._waiting_since),
                    trouble=facts["link_trouble"],
                    spooled_batches=facts["spooled_batches"],
                )


def _look_at_the_end(task: asyncio.Task[None]) -> None:
    """Raise what a task ended by, for the loop's handler: nobody else waits for it."""
    if not task.cancelled():
        task.result()


def now_ms() -> int:
    """Read the clock that counts while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def run(settings: Settings) -> int:
    """Run a sidecar until SIGTERM or SIGINT, and return the exit code.

    Raises:
        SidecarError: It cannot start; the text says what to do.
    """
    writer = log.set_up(settings.log_format, settings.log_level)
    traced = start_tracing(settings.tracing, settings.service, settings.name, settings.coordinator)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # Tasks are freed by their reference counts.
    start = uvloop.run if settings.event_loop == "uvloop" else asyncio.run
    start(_run(settings, writer.msg, traced))
    return 0


async def _run(settings: Settings, line: Callable[[str], None], traced: Attempts | None) -> None:
    if settings.spool_dir is None:
        await Process(settings, line=line, traced=traced).run()
        return
    spool = SpoolStore(settings.spool_dir, bytes_max=settings.spool_bytes_max)
    contents = await spool.open()
    if spool.warning:
        where = str(settings.spool_dir)
        log.logger("sidecar").warning("spool_may_be_lost", spool=where, detail=spool.warning)
    if contents.count or contents.outcomes or spool.damaged_outcomes:
        log.logger("sidecar").warning(
            "spool_not_empty",
            batches=contents.count,
            bytes=contents.bytes,
            outcomes=len(contents.outcomes),
            damaged_outcomes=spool.damaged_outcomes,
            spool=str(settings.spool_dir),
        )
    try:
        await Process(settings, spool, contents, line=line, traced=traced).run()
    finally:
        await spool.close()
