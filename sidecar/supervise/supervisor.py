"""The shell around the fleet: starts, listens to, measures and ends real processes.

What is to be done is decided by ``sidecar.core.fleet``; why a process ended is told to the
sidecar's core, which puts it into what the attempts of that process came to.
"""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from protocol import limits
from protocol.messages import Failure
from sidecar.core.events import Note, OfProcess, ProcessEnded
from sidecar.core.fleet import Fleet, FleetTerms, State
from sidecar.core.terms import NEVER_MS
from sidecar.errors import SidecarError
from sidecar.supervise.child import Child
from sidecar.supervise.kinship import leader_of, memory_bytes

SLEEP_MS_MAX = 60_000
CLOSE_SECONDS = 2.0
"""How long killed processes may take to be gone before the sidecar leaves without them."""


class Supervisor:
    """All processes of the service, and when each of them is to be looked at.

    Args:
        command: What a process runs.
        socket: Where it finds the sidecar; told in ``PILLION_SIDECAR_SOCKET``.
        terms: How many processes there shall be, and for how long.
        now_ms: Reads the clock.
        ended: Called when a process is gone, with the event for the sidecar's core.
        note: Called with what operators may want to read.
        line: Called with each line that a process writes to stderr.
        environment: What else its environment says.
    """

    def __init__(  # noqa: PLR0913 (what to run, how, and who is told of three things)
        self,
        command: Sequence[str],
        socket: Path,
        terms: FleetTerms,
        *,
        now_ms: Callable[[], int],
        ended: Callable[[ProcessEnded], None],
        note: Callable[[Note], None],
        line: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = {
            **os.environ,
            "PILLION_SIDECAR_SOCKET": str(socket.absolute()),
            **(environment or {}),
        }
        self._fleet = Fleet(terms)
        self._now_ms = now_ms
        self._tell_ended = ended
        self._note = note
        self._line = line
        self._children: dict[int, Child] = {}
        self._leaders: dict[int, int] = {}
        """Numbers of processes by pid."""
        self._timer: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()

    # --- Beginning and end ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the processes.

        Raises:
            SidecarError: This system cannot tell when a process ends.
        """
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (AttributeError, OSError):
            raise SidecarError(
                "supervising processes needs pidfd_open, which Linux has since 5.3; "
                "start the service by other means, without '-- COMMAND'"
            ) from None
        self._fleet.begin(self._now_ms())
        self._act()

    def drain(self) -> None:
        """Start none any more."""
        self._fleet.drain()
        self._act()

    async def stop(self) -> None:
        """Ask all processes to end, kill those that do not, and wait until they are gone."""
        self._fleet.stop(self._now_ms())
        self._act()
        while not self._fleet.empty:
            self._gone.clear()
            await self._gone.wait()

    async def close(self) -> None:
        """Kill what is left, and wait a moment for it; may come early, may come twice."""
        self._fleet.kill(self._now_ms())
        self._act()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while not self._fleet.empty:
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            pids = ", ".join(str(child.pid) for child in self._children.values())
            self._note(Note("processes_left_behind", {"pids": pids}))
        if self._timer is not None:
            self._timer.cancel()

    # --- What others tell and ask --------------------------------------------------------------

    def step(self, events: Sequence[OfProcess]) -> None:
        """Take what the sidecar's core tells of processes."""
        for event in events:
            self._fleet.step(self._now_ms(), event)
        self._act()

    def process_of(self, pid: int) -> int:
        """Return the number of the process that ``pid`` is, or is a child of; 0 if none."""
        return self._leaders.get(leader_of(pid, self._leaders), 0)

    def facts(self, now_ms: int) -> dict[str, int | str]:
        """Return how the processes stand, for people and probes: a text of JSON."""
        pids = {number: child.pid for number, child in self._children.items()}
        return {"processes": json.dumps(self._fleet.facts(now_ms, pids))}

    # --- What is done --------------------------------------------------------------------------

    def _act(self) -> None:
        """Do what the fleet wants, until it wants no more, and sleep until it may again."""
        while effects := self._fleet.flush(self._now_ms()):
            for note in effects.notes:
                self._note(note)
            for child in self._found(effects.kill):
                child.kill()
            for child in self._found(effects.terminate):
                child.terminate()
            for number in effects.start:
                self._start(number)
            for child in self._found(effects.weigh):
                self._fleet.weighed(child.number, memory_bytes(child.pid))
        self._sleep_until_due()

    def _found(self, numbers: list[int]) -> list[Child]:
        return [self._children[number] for number in numbers if number in self._children]

    def _start(self, number: int) -> None:
        child = Child(number, ended=self._ended, line=self._line)
        try:
            child.start(self._command, self._environment)
        except OSError as error:
            cause = f"cannot be started: {error.strerror or error}"
            self._fleet.ended(self._now_ms(), number, {"cause": cause})
            return
        self._children[number] = child
        self._leaders[child.pid] = number
        self._note(Note("process_started", {"process": number, "pid": child.pid}))

    def _ended(self, child: Child) -> None:
        number = child.number
        del self._children[number], self._leaders[child.pid]
        why = self._fleet.why(number)
        cause = exit_cause(child.exit_code)
        detail = child.tail.text(limits.ERROR_DETAIL_CHARS_MAX)
        message = f"{cause}; it was told to end: {why}" if why else cause
        as_told = self._as_told(number, child.exit_code)
        self._tell_ended(ProcessEnded(number, Failure("crash", message, detail), as_told))
        self._fleet.ended(self._now_ms(), number, {"pid": child.pid, "cause": cause})
        self._gone.set()
        asyncio.get_running_loop().call_soon(self._act)

    def _as_told(self, number: int, exit_code: int) -> bool:
        """Tell whether a process ended by nothing but what it was told.

        By the sidecar's own signal, or by itself after it was asked to. A fault of its own in
        that time is one (SIGSEGV), and so is somebody else's SIGKILL: it ran out of memory.
        """
        if exit_code == -signal.SIGKILL:
            return self._fleet.state(number) is State.KILLED
        asked = bool(self._fleet.why(number))
        return asked and (exit_code >= 0 or exit_code == -signal.SIGTERM)

    def _sleep_until_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self._fleet.due_ms
        if due_ms < NEVER_MS:
            seconds = min(max(due_ms - self._now_ms(), 0), SLEEP_MS_MAX) / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self._act)


def exit_cause(exit_code: int) -> str:
    """Return in words how a process ended."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    except ValueError:
        return f"killed by signal {-exit_code}"
