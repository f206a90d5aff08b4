"""One process of the demo: start it, kill it, stop it, and show what it said last.

Whatever happens to the demo, the process does not stay: the kernel kills it with its parent.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KILL_S_MAX = 5.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Program:
    """One program of the scene; both its streams go to ``NAME.log`` in the folder."""

    def __init__(self, name: str, folder: Path, **variables: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command: list[str] = []
        self._folder = folder
        self._variables = variables
        self._popen: subprocess.Popen[bytes] | None = None
        self.is_wanted = False
        """Whether it should be running."""

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self, command: list[str] | None = None) -> None:
        """Start it, with the command of its last start unless one is given; it is not ready yet."""
        self._command = command or self._command
        # Settings of the person who runs the demo are not for its processes.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PILLION_")}
        own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=self._folder,
                env=inherited | own | self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which stops them in order.
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (one call into libc, no lock taken)
            )
        self.is_wanted = True

    async def kill(self) -> int:
        """Kill it with ``kill -9`` and wait until it is gone.

        Returns:
            When the signal was sent, on the monotonic clock. It is taken before: others may see the
            end of the process, and go on from there, before this one learns of it.
        """
        assert self._popen is not None, f"{self.name} was never started"
        self.is_wanted = False
        sent_ns = time.monotonic_ns()
        self._popen.kill()
        await self._gone(KILL_S_MAX)
        return sent_ns

    def tell(self, number: signal.Signals) -> None:
        """Send a signal that ends it, if it runs."""
        self.is_wanted = False
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    async def end(self, seconds: float) -> bool:
        """Wait for its end, then kill it; return whether it ended well by itself."""
        if not await self._gone(seconds) and self._popen is not None:
            self._popen.kill()
            self._popen.wait()
        return self.code in (0, None)

    def tail(self, lines: int = 12) -> str:
        """Return the last lines that it wrote."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def _gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._popen is not None and self._popen.poll() is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
