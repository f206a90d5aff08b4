"""The shell around the core: gather events, commit, read, send, sleep until something is due.

One commit is in flight. What arrives meanwhile is applied to memory and goes into the next one, so
that batches grow with the load by themselves. The order in ``_carry_out`` is where durability is
made: nothing is sent before the commit that holds what it is based on.
"""

import asyncio
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import uvloop

from coordinator.core.config import Config
from coordinator.core.effects import Effects, GetMany, Now, Outgoing, Read
from coordinator.core.layout import payload_key
from coordinator.core.payloads import fill
from coordinator.core.shard import (
    Answered,
    Broke,
    Event,
    NotFilled,
    Received,
    Sent,
    Shard,
    StoreLevel,
    Tick,
    Undelivered,
)
from coordinator.errors import CoordinatorError
from coordinator.observation import Observation
from coordinator.operating import Operating
from coordinator.settings import Settings, read_token
from coordinator.store.base import Ownership, Store, StoreStats
from coordinator.store.lmdb_store import LmdbStore
from coordinator.store.switching import set_switch_interval
from coordinator.transport import Transport
from protocol import codec, frames, log
from protocol.descriptors import Shortage
from protocol.errors import LimitExceeded, ProtocolError
from protocol.units import format_size

SLEEP_MS_MAX = 60_000
"""Longest sleep of the timer: a wall clock that was set is noticed after this at the latest."""
MEASURE_SECONDS = 1.0
"""How often the store's size is looked at while it changes."""
MEASURE_BYTES = 1 << 20
"""However little room is left, so much is written before the size is looked at again."""
DESCRIPTORS_SPARE = 64
ALARMS = frozenset(
    {
        *("record_corrupt", "row_damaged", "payload_damaged", "payload_missing"),
        *("reindexing_began", "grants_held", "count_corrected"),
        *("session_expired", "hello_refused"),
    }
)

if TYPE_CHECKING:
    from coordinator.http.server import HttpServer


class Coordinator:
    """A running coordinator.

    Args:
        settings: What it runs with.
        store: Where tasks are kept; opened and closed here.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._log = log.logger("coordinator")
        self._transport = Transport(self._receive, self._wake)
        self._shard: Shard | None = None
        self._stirred = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._measured_at = 0.0
        self._written = 0
        """Bytes written since the store was measured."""
        self._room = MEASURE_BYTES
        """Bytes that were left then."""
        self._seen = Observation(now())
        self._http: HttpServer | None = None
        self._shortage = Shortage()
        self._stopping = False
        self._operating = Operating(lambda event: self.shard.step(now(), event), self._wake)

    @property
    def shard(self) -> Shard:
        """The core."""
        assert self._shard is not None, "the store has not been opened"
        return self._shard

    # Life

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then finish the commit in flight.

        Raises:
            StoreError: The store cannot be used, or can be trusted no more: start again.
            OSError: The address cannot be bound.
            CoordinatorError: That of the HTTP side cannot.
        """
        try:
            ownership = await self._open()
            await self._recover(ownership)
            address = self._transport.start(self._settings.bind)
            if self._settings.http:
                await self._start_http(ownership, address)
            self._announce(address)
            await self._serve(stop)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._transport.stop()
            self._seen.stop()
            if self._http is not None:
                await self._http.stop()
            await self._store.close()
            self._log.info("stopped", counts=self.shard.counts if self._shard else {})

    async def _open(self) -> Ownership:
        ownership = await self._store.open()
        for warning in ownership.warnings:
            self._log.warning("store_warning", detail=warning)
        self._log.info(
            "store_opened",
            data_dir=str(self._settings.data_dir),
            store=ownership.uuid.hex(),
            epoch=ownership.epoch,
            created=ownership.created,
            clean=ownership.clean,
        )
        return ownership

    async def _recover(self, ownership: Ownership) -> None:
        self._shard = Shard(Config(ownership.uuid, ownership.epoch, **self._settings.durations))
        await self._measure()
        began = time.monotonic()
        while not self._shard.recovered:
            await self._carry_out(self._shard.flush(now()))
        self._log.info("recovery_finished", seconds=round(time.monotonic() - began, 3))

    async def _start_http(self, ownership: Ownership, address: str) -> None:
        from coordinator.http.access import Access  # noqa: PLC0415 (it takes 0.1 s to import)
        from coordinator.http.server import HttpServer  # noqa: PLC0415

        settings = self._settings
        access = Access(
            settings=settings,
            ownership=ownership,
            shard=self.shard,
            observation=self._seen,
            now=now,
            read=lambda reads: self._store.apply({}, reads),
            copy=self._store.copy,
            measure=self._measure,
            operate=self._operating.ask,
            address=address,
        )
        self._http = HttpServer(access, read_token(settings.http_token_file))
        await self._http.start()
        self._log.info("http_serving", address=self._http.address, socket=str(settings.http_socket))

    def _announce(self, address: str) -> None:
        self._log.info("serving", address=address, pid=os.getpid())
        ready_file = self._settings.ready_file
        if ready_file is not None:
            partial = ready_file.with_name(ready_file.name + ".partial")
            partial.write_text(address + "\n", encoding="utf-8")
            partial.replace(ready_file)

    async def _serve(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(lambda _, context: self._failed(failed, context))
        committing = loop.create_task(self._commit_for_ever())
        stopped = loop.create_task(stop.wait())
        self._wake()
        waits: set[asyncio.Future[Any]] = {committing, stopped, failed}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            committing.cancel()
            failed.result()
        stopped.cancel()
        self._stopping = self._operating.stopping = True
        self._wake()
        await committing

    def _failed(self, failed: "asyncio.Future[None]", context: dict[str, Any]) -> None:
        if not self._shortage.is_meant(context):
            _fail(failed, context)
        elif self._shortage.add():
            self._log.warning(
                "connections_wait", detail=str(context["exception"]), times=self._shortage.times
            )

    # In

    def _receive(self, parts: list[bytes]) -> None:
        if self._stopping:
            return  # Or the end would not come under load. Who has no answer asks again.
        peer = parts[0]
        try:
            _, data = frames.from_dealer(parts)
            message = codec.decode(data)
        except ProtocolError as error:
            self._seen.broken += 1
            if (
                self._seen.broken & (self._seen.broken - 1) == 0
            ):  # 1, 2, 4, 8, ...: a flood fills no disk.
                self._log.warning(
                    "message_refused", code=error.code, detail=error.detail, times=self._seen.broken
                )
            answer = self.shard.step(now(), Broke(peer, error.code, error.detail))
        else:
            answer = self.shard.step(now(), Received(peer, message))
        if answer is not None:
            self._send(answer)

    def _wake(self) -> None:
        self._stirred.set()

    def _tick(self) -> None:
        self._timer = None
        self.shard.step(now(), Tick())
        self._transport.look()
        self._wake()

    # Out

    async def _commit_for_ever(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            effects = self.shard.flush(now())
            if effects:
                await self._carry_out(effects)
                self._wake()
            elif self._stopping:
                return
            else:
                self._sleep_until_due()

    async def _carry_out(self, effects: Effects) -> None:
        """Commit, read, send, in this order."""
        self._note(effects)
        grants = [outgoing for outgoing in effects.messages if outgoing.payloads]
        reads: list[Read] = [ask.read for ask in effects.reads]
        reads += [GetMany([payload_key(i) for i in outgoing.payloads]) for outgoing in grants]
        results: Sequence[Any] = ()
        if effects.writes or reads:
            began = time.monotonic()
            results = await self._store.apply(effects.writes, reads)
            if effects.writes:
                took = time.monotonic() - began
                self._seen.committed(now(), self.shard, took, len(effects.writes))
        after: list[Event] = []
        payloads = iter(results[len(effects.reads) :])
        for outgoing in effects.messages:
            message = outgoing
            if outgoing.payloads:
                message, session, spoiled = fill(outgoing, next(payloads))
                if spoiled:
                    after.append(NotFilled(session, spoiled))
            if not self._send(message):
                after.append(Undelivered(outgoing))
        self._operating.answer(effects.results)
        if effects.messages:
            self.shard.step(now(), Sent(effects))
            for event in after:
                self.shard.step(now(), event)
            self._transport.look()
        for ask, result in zip(effects.reads, results, strict=False):
            self.shard.step(now(), Answered(ask.number, result))
        if self._measure_is_due(effects):
            await self._measure()

    def _send(self, outgoing: Outgoing) -> bool:
        """Send a message; return whether it was handed over."""
        try:
            _, data = frames.to_dealer(outgoing.peer, outgoing.message)
        except LimitExceeded as error:
            self._log.error("message_too_large", detail=error.detail)
            return True
        return self._transport.send(outgoing.peer, data)

    def _note(self, effects: Effects) -> None:
        if effects.notes or effects.events:
            self._seen.noted(now(), effects)
        for event, fields in effects.notes:
            if event in ALARMS:
                self._log.warning(event, **fields)
            else:
                self._log.info(event, **fields)

    def _sleep_until_due(self) -> None:
        """Set the one timer there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self.shard.next_due_ms(now())
        if due_ms is not None:
            seconds = min(due_ms, SLEEP_MS_MAX) / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    # Bounds

    def _measure_is_due(self, effects: Effects) -> bool:
        """Tell whether to look how full the store is.

        Now and then while it changes; at once when half of the room it had was written; and now
        and then when submissions are refused for want of room, since nothing else may happen that
        would end the refusal: room on a disk is made by others.
        """
        self._written += sum([len(value) for value in effects.writes.values() if value])
        if self._written > self._room // 2:
            return True
        may_differ = effects.writes or (self._seen.refusal and effects.messages)
        return bool(may_differ) and time.monotonic() - self._measured_at > MEASURE_SECONDS

    async def _measure(self) -> None:
        """Look how full the store is, and refuse submissions before it is too full to finish."""
        self._measured_at, self._written = time.monotonic(), 0
        stats = await self._store.stats()
        self._room = max(self._left(stats), MEASURE_BYTES)
        refusal = self._refusal_at(stats)
        if refusal and not self._seen.refusal:
            self._log.error("store_full", detail=refusal)
        elif self._seen.refusal and not refusal:
            self._log.info("store_has_room_again")
        self._seen.measured(now(), stats, refusal)
        self.shard.step(now(), StoreLevel(refusal))

    def _left(self, stats: StoreStats) -> int:
        left = self._settings.store_bytes_max - stats.used_bytes
        return min(left, stats.disk_free_bytes) if stats.disk_total_bytes else left

    def _refusal_at(self, stats: StoreStats) -> str:
        settings = self._settings
        if stats.used_bytes > settings.store_bytes_max:
            return (
                f"the store holds {stats.used_bytes >> 20} MiB of "
                f"{settings.store_bytes_max >> 20} MiB allowed; raise store_bytes_max and "
                "store_map_size, shorten the retention, or let tasks finish"
            )
        if stats.disk_total_bytes and stats.disk_free_bytes < settings.disk_free_bytes_min:
            return (
                f"the store's disk has {stats.disk_free_bytes >> 20} MiB free, less than "
                f"disk_free_min {format_size(settings.disk_free_bytes_min)}; free some space"
            )
        return ""


def now() -> Now:
    """Read both clocks."""
    return Now(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, time.time_ns() // 1_000_000)


def serve(settings: Settings) -> int:
    """Run a coordinator until SIGTERM or SIGINT, and return the exit code.

    Raises:
        CoordinatorError: It cannot start, or must not go on; the text says what to do.
    """
    log.set_up(settings.log_format, settings.log_level)
    _raise_descriptor_limit()
    _collect_rarely()
    set_switch_interval()
    store = LmdbStore(
        settings.data_dir,
        map_bytes=settings.store_map_bytes,
        allow_filesystem=settings.allow_filesystem,
    )
    run = uvloop.run if settings.event_loop == "uvloop" else asyncio.run
    try:
        run(_until_signal(Coordinator(settings, store)))
    except OSError as error:
        raise CoordinatorError(str(error.strerror or error)) from None
    return 0


def _fail(failed: "asyncio.Future[None]", context: dict[str, Any]) -> None:
    """Let an error in a callback end the process: a core that has failed once is not trusted.

    Connections of the HTTP side are no part of the core, and only look at it.
    """
    if "transport" in context or "protocol" in context:
        log.logger("http").warning("connection_failed", detail=str(context.get("exception")))
        return
    if not failed.done():
        failed.set_exception(context.get("exception") or RuntimeError(context["message"]))


async def _until_signal(coordinator: Coordinator) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await coordinator.run(stop)


def _raise_descriptor_limit() -> None:
    """Each sidecar takes a descriptor: use what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < DESCRIPTORS_SPARE * 4:
        sys.stderr.write(f"pillion-coordinator: only {hard} descriptors are allowed (ulimit -n)\n")


def _collect_rarely() -> None:
    """Let the garbage collector look less often: tasks are freed by their reference counts.

    At its default it walks every young object after 700 more were made, 100 times a second under
    load. This took 8 % of the coordinator's CPU per task.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
