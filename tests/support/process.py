"""One real process for tests: start, await readiness, kill, restart, and say what went wrong.

The one place that may wait in small steps, because another process's progress can only be looked
at. Every wait has a deadline, ends at once when the process ends, and its error prints what the
process wrote.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

READY_SECONDS = 15.0
STOP_SECONDS = 15.0
STEP_SECONDS = 0.01
OUTPUT_CHARS_SHOWN = 8_000

ROOT = Path(__file__).resolve().parents[2]


class ProcessFailed(AssertionError):
    """Raised when a process did not do what the test relies on; prints its output."""


class Process:
    """One program that a test runs.

    Its output (both streams) goes to a file, so that a full pipe can never block it.

    Args:
        name: For messages and for the output file.
        command: The arguments behind the interpreter.
        folder: Where it runs and where its output is kept.
        is_ready: Tells whether the process may be used; called again and again until true.
        environment: Variables beside those of the tests; None takes a variable away.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        is_ready: Callable[[], bool] = lambda: True,
        environment: dict[str, str | None] | None = None,
    ) -> None:
        self.name = name
        self.command = [sys.executable, *command]
        self.folder = folder
        self._is_ready = is_ready
        self._environment = environment or {}
        self._output = folder / f"{name}.log"
        self._popen: subprocess.Popen[bytes] | None = None
        self.end_expected = False

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code (minus the signal's number), or None while it runs or before a start."""
        return None if self._popen is None else self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._popen is not None and self._popen.poll() is None

    def output(self) -> str:
        """Return all that the process has written, over all its starts."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def start(self, *, wait: bool = True) -> "Process":
        """Start it, and wait until it is ready.

        Raises:
            ProcessFailed: It ended, or was not ready in time.
        """
        assert not self.running, f"{self.name} runs already"
        self.before_start()
        # Settings of the person who runs the tests must not reach the programs under test.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PILLION_")}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        environment["XDG_STATE_HOME"] = str(self.folder)  # No test leaves a store or spool behind.
        for key, value in self._environment.items():
            if value is None:
                environment.pop(key, None)
            else:
                environment[key] = value
        self.end_expected = False
        with self._output.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Its children die with it, see kill().
            )
        if wait:
            self.wait_ready()
        return self

    def before_start(self) -> None:
        """Take away what an earlier start has left that could look like readiness."""

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until the process says that it may be used.

        Raises:
            ProcessFailed: It ended, or was not ready in time.
        """
        self.wait_until(self._is_ready, "is ready", seconds)

    def wait_until(
        self, condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS
    ) -> None:
        """Wait until a condition holds that this process brings about.

        Raises:
            ProcessFailed: The process ended, or the condition did not hold in time.
        """
        assert self._popen is not None, f"{self.name} was never started"
        deadline = time.monotonic() + seconds
        while not condition():
            if self._popen.poll() is not None:
                raise self.failure(f"ended with {self._popen.returncode} before it {what}")
            if time.monotonic() > deadline:
                raise self.failure(f"not within {seconds:g} s: {what}")
            time.sleep(STEP_SECONDS)

    def check(self) -> None:
        """Fail if the process has ended without having been told to.

        Raises:
            ProcessFailed: It has.
        """
        if self._popen is not None and not self.end_expected and self._popen.poll() is not None:
            raise self.failure(f"ended unexpectedly with {self._popen.returncode}")

    def signal(self, number: int) -> None:
        """Send a signal; one that ends the process is not taken for a failure."""
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self.end_expected = True
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, with all processes that it has started; wait until it is gone."""
        self.check()
        self.end_expected = True
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait(STOP_SECONDS)

    def terminate(self, *, seconds: float = STOP_SECONDS) -> int:
        """End it with SIGTERM and return its exit code.

        Raises:
            ProcessFailed: It had ended before, or did not end in time (it is killed then).
        """
        self.check()
        assert self._popen is not None, f"{self.name} was never started"
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end of a process that ends by itself or was told to; return its exit code.

        Raises:
            ProcessFailed: It did not end in time (it is killed then).
        """
        assert self._popen is not None, f"{self.name} was never started"
        self.end_expected = True
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.failure(f"did not end within {seconds:g} s") from None

    def restart(self) -> None:
        """Kill it and start it again, and wait until it is ready."""
        self.kill()
        self.start()

    def exchange(self) -> None:
        """End it with SIGTERM and start it again, and wait until it is ready."""
        self.terminate()
        self.start()

    def failure(self, what: str) -> ProcessFailed:
        """Return the error that tells what happened, the command and the output."""
        output = self.output()
        cut = "[...] " if len(output) > OUTPUT_CHARS_SHOWN else ""
        return ProcessFailed(
            f"{self.name}: {what}\n--- command\n{' '.join(self.command)}\n"
            f"--- output\n{cut}{output[-OUTPUT_CHARS_SHOWN:] or '(none)'}\n---"
        )
