"""The processes in which ``Service.run`` serves: event loop, signals, forks.

Knows nothing of handlers: it is given what to serve, and how to ask that to stop.

A signal often goes to a whole group: from a terminal, from systemd, from a sidecar that supervises.
Then each forked process hears it by itself and once more from its parent, and must not take that
for a second signal, which would cut short what runs. So the parent does not forward signals: it
writes down the pipe of each child, one byte for each, and whoever has counted more is right.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from sidecar.sdk.link import LOG
from sidecar.sdk.loops import new_event_loop

Serve = Callable[[float], Coroutine[Any, Any, bool]]
"""Serves until it is stopped; returns whether every attempt has ended."""

PROCESSES_MAX = 256
STOP_S_MAX = 15.0
"""What a child may take beyond the drain before it is killed."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ORDERS_MAX = 64


class _Orders:
    """How often this process was told to stop: by signals, and by its parent."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._signals = 0
        self._by_parent = 0
        self._obeyed = 0

    def signalled(self) -> None:
        """Take a signal."""
        self._signals += 1
        self._obey()

    def told(self, parent: int) -> None:
        """Read what the parent has written; its end is an order, too."""
        data = os.read(parent, _ORDERS_MAX)
        self._by_parent += len(data)
        if not data:
            asyncio.get_running_loop().remove_reader(parent)
            self._by_parent = max(1, self._by_parent)
        self._obey()

    def _obey(self) -> None:
        while self._obeyed < max(self._signals, self._by_parent):
            self._obeyed += 1
            self._stop()


def host(serve: Serve, drain_s: float, stop: Callable[[], None], parent: int = -1) -> None:
    """Serve in this process until a signal comes, or the parent at the pipe says so or has gone."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        orders = _Orders(stop)
        for number in _SIGNALS:
            loop.add_signal_handler(number, orders.signalled)
        if parent >= 0:
            loop.add_reader(parent, orders.told, parent)
        try:
            return await serve(drain_s)
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        ended = runner.run(main())
        if not ended:
            # Closing the loop would wait for them; a process that was told to stop has to.
            LOG.error("an attempt did not stop when told; ending the process without it")
            _leave(1)


def host_processes(
    name: str, processes: int, serve: Serve, drain_s: float, stop: Callable[[], None]
) -> None:
    """Serve in ``processes`` forked children until a signal comes or one of them ends.

    Raises:
        SystemExit: A child ended that was not told to, or did not end well.
    """
    if type(processes) is not int or not 1 <= processes <= PROCESSES_MAX:
        raise ValueError(f"processes is {processes!r}; expected 1 to {PROCESSES_MAX}")
    if threading.active_count() > 1:
        names = ", ".join(t.name for t in threading.enumerate()[1:])
        raise RuntimeError(
            f"run(processes={processes}) forks, which threads do not survive; "
            f"running here: {names}. Call it before anything starts a thread"
        )
    waited = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    children: dict[int, int] = {}
    try:
        for _ in range(processes):
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                for other in (writing, *children.values()):
                    os.close(other)  # Or nobody would see the end of the parent.
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                _child(serve, drain_s, stop, reading)
            os.close(reading)
            children[pid] = writing
        failed = _watch(name, children, waited, drain_s + STOP_S_MAX)
    finally:
        for writing in children.values():
            os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if failed:
        raise SystemExit(1)


def _child(serve: Serve, drain_s: float, stop: Callable[[], None], parent: int) -> None:
    status = 1
    try:
        host(serve, drain_s, stop, parent)
        status = 0
    except BaseException:
        LOG.exception("process %d has failed", os.getpid())
    finally:
        _leave(status)


def _leave(status: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _watch(
    name: str, children: dict[int, int], waited: set[signal.Signals], patience_s: float
) -> bool:
    """Wait for signals and children until all have ended; return whether any ended badly.

    Args:
        name: The service's, for the log.
        children: Their pids, with the pipe to each.
        waited: The signals to wait for.
        patience_s: How long those that were told to stop may take.
    """
    failed = stopping = False
    kill_at: float | None = None
    while children:
        got = _sigwait(waited, kill_at)
        if got is None:
            LOG.error("service %s: killing %d processes that did not end", name, len(children))
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            kill_at = None
        elif got != signal.SIGCHLD:
            _order(children)
            stopping, kill_at = True, time.monotonic() + patience_s
        for pid, code in _ended(children):
            os.close(children.pop(pid))
            if not stopping:
                LOG.error("service %s: process %d %s; stopping the others", name, pid, _why(code))
                _order(children)
                failed = stopping = True
                kill_at = time.monotonic() + patience_s
            elif code not in (0, -signal.SIGTERM):
                LOG.error("service %s: process %d %s", name, pid, _why(code))
                failed = True
    return failed


def _sigwait(waited: set[signal.Signals], until: float | None) -> int | None:
    if until is None:
        return signal.sigwait(waited)
    info = signal.sigtimedwait(waited, max(0.0, until - time.monotonic()))
    return None if info is None else info.si_signo


def _ended(children: Iterable[int]) -> list[tuple[int, int]]:
    """Return the children that have ended and how; no other process of ours is looked at."""
    ended = []
    for pid in children:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def _why(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _order(children: dict[int, int]) -> None:
    """Tell all to stop, or once more."""
    for pipe in children.values():
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, b"s")
