"""Invoking a handler by running a command for each task.

The payload comes on stdin, what else there is to know in the environment; stdout is the result,
the exit code the outcome, and the end of stderr goes into the failure.
"""

import asyncio
import os
import signal
import time
from collections.abc import Mapping

from sidecar.invoke.answers import OCTETS, Told, tail
from sidecar.invoke.command import Command
from sidecar.invoke.handlers import Handler
from sidecar.invoke.host import Attempt, Host, House
from sidecar.invoke.particulars import as_environment, particulars

LAST_LINE_CHARS_MAX = 200


class ExecHost(Host):
    """One handler that is a command.

    Args:
        number: Given by the gateway.
        handler: What to run.
        house: What it shares with the other hosts.
        environment: What each command gets beside the particulars of its task.
    """

    def __init__(
        self, number: int, handler: Handler, house: House, environment: Mapping[str, str]
    ) -> None:
        super().__init__(number, handler, house)
        self._environment = environment

    def room(self) -> int:
        """Return how many more commands may run."""
        return self.handler.slots - len(self.running)

    def begin(self, attempt: Attempt) -> None:
        """Start the command."""
        run = attempt.work = Run(attempt)
        now_ms = time.time_ns() // 1_000_000
        told = as_environment(particulars(self.handler.name, attempt.task, now_ms))
        try:
            run.command.start(
                self.handler.command, {**self._environment, **told}, attempt.task.payload
            )
        except OSError as error:
            facts: dict[str, int | str] = {
                "handler": self.handler.name,
                "detail": error.strerror or str(error),
            }
            self.house.note("command_not_started", facts)
            attempt.settle("refused")

    def stop(self, attempt: Attempt, grace_ms: int) -> None:
        """Ask the command to end, and kill it if it does not."""
        attempt.work.stop(grace_ms)

    def leave(self) -> None:
        """Kill what runs."""
        for attempt in self.running:
            attempt.work.drop()


class Run:
    """The command of one attempt."""

    __slots__ = ("_attempt", "_timer", "command")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._timer: asyncio.TimerHandle | None = None
        self.command = Command(self._ended)

    def stop(self, grace_ms: int) -> None:
        """Ask it to end; a second call gives it another time."""
        if self._timer is None:
            self.command.terminate()
        else:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(grace_ms / 1000, self.command.kill)

    def drop(self) -> None:
        """Kill it, and settle nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self.command.bury()

    def _ended(self, command: Command) -> None:
        if self._timer is not None:
            self._timer.cancel()
        log = bytes(command.stderr)
        attempt = self._attempt
        if attempt.reason:
            attempt.settle(attempt.reason, Told(detail=tail(log)))
        elif command.too_long:
            attempt.settle("too-large")
        elif command.exit_code < 0:
            why = f"the command was ended by {_signal_name(-command.exit_code)}"
            attempt.settle("signal", Told(why=why, detail=tail(log)))
        else:
            body = bytes(command.stdout)
            attempt.settle(f"exit-{command.exit_code}", _told(command.exit_code, body, log))


def _told(exit_code: int, body: bytes, log: bytes) -> Told:
    if exit_code == 0:
        return Told(body=body, content_type=_content_type(body) if body else "")
    lines = log[-4 * LAST_LINE_CHARS_MAX :].decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    why = f"the command ended with exit code {exit_code}"
    return Told(
        why=f"{why}: {last[:LAST_LINE_CHARS_MAX]}" if last else why,
        detail=tail(log),
    )


def _content_type(body: bytes) -> str:
    """Return what stdout is: text, if it can be read as such."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return OCTETS
    return "text/plain; charset=utf-8"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def environment(socket_path: str) -> dict[str, str]:
    """Return what commands get of this process's environment."""
    return {**os.environ, "PILLION_SIDECAR_SOCKET": socket_path}
