"""One process of the service: started in a group of its own, listened to, ended with its group.

The process that was started is not reaped before its group is dealt with: as long as it is there,
even dead, nobody else gets its number, and so no signal reaches a stranger.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sidecar.supervise.tail import Tail

_TETHER = str(Path(__file__).with_name("tether.py"))
_READ_BYTES = 64 * 1024


def tethered(command: Sequence[str]) -> list[str]:
    """Return the command that becomes ``command``, and ends with this process."""
    return [sys.executable, "-I", "-S", _TETHER, str(os.getpid()), *command]


class Child:
    """A process that was started, until it and its group are gone.

    Args:
        number: How the fleet knows it.
        ended: Called once, when it is gone and all it wrote before is read.
        line: Called with each line it writes to stderr.
    """

    def __init__(
        self, number: int, *, ended: Callable[["Child"], None], line: Callable[[str], None]
    ) -> None:
        self.number = number
        self.tail = Tail()
        self.exit_code = 0
        """As of ``subprocess``: minus the number of the signal that ended it."""
        self._ended = ended
        self._line = line
        self._popen: subprocess.Popen[bytes] | None = None
        self._exit_fd = -1
        self._stderr_fd = -1
        self._exited = False
        self._asked = False

    @property
    def pid(self) -> int:
        """The id of the process, its group and its session."""
        assert self._popen is not None
        return self._popen.pid

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it.

        Raises:
            OSError: The system has no room for another process.
        """
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            self._popen = subprocess.Popen(
                tethered(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._stderr_fd = reading
        try:
            self._exit_fd = os.pidfd_open(self._popen.pid)
        except OSError:
            self._signal(signal.SIGKILL)
            self._popen.wait()
            os.close(reading)
            raise
        loop.add_reader(self._exit_fd, self._exit)
        loop.add_reader(self._stderr_fd, self._read)

    # --- Ending --------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask the group to end."""
        self._asked = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the group."""
        self._signal(signal.SIGKILL)
        if self._exited:
            self._bury()

    def _signal(self, number: signal.Signals) -> None:
        # One that has taken another user's id may be out of reach; it is not said to be gone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _exit(self) -> None:
        """Take note that the process that was started has ended.

        Where the group was asked to end, others in it may still be about it: whoever holds stderr.
        A process that ended unasked takes its group with it, since nobody looks after that now.
        """
        asyncio.get_running_loop().remove_reader(self._exit_fd)
        os.close(self._exit_fd)
        self._exited = True
        self._read_all()
        if not self._asked or self._stderr_fd < 0:
            self._bury()

    def _bury(self) -> None:
        """End what is left of the group, and only then give its number back."""
        assert self._popen is not None
        if self._popen.returncode is not None:
            return
        self._signal(signal.SIGKILL)
        self.exit_code = self._popen.wait()
        self._read_all()
        self._close_stderr()
        self._ended(self)

    # --- What it writes ------------------------------------------------------------------------

    def _read(self) -> None:
        if self._read_some() == 0 and self._exited:
            self._bury()

    def _read_all(self) -> None:
        """Read what is there: what was written before a death is."""
        while self._stderr_fd >= 0 and self._read_some() > 0:
            pass

    def _read_some(self) -> int:
        """Read once; return the bytes read, 0 at the end, or -1 if there are none now."""
        try:
            data = os.read(self._stderr_fd, _READ_BYTES)
        except BlockingIOError:
            return -1
        for line in self.tail.feed(data) if data else self.tail.end():
            self._line(line)
        if not data:
            self._close_stderr()
        return len(data)

    def _close_stderr(self) -> None:
        if self._stderr_fd >= 0:
            for line in self.tail.end():
                self._line(line)
            asyncio.get_running_loop().remove_reader(self._stderr_fd)
            os.close(self._stderr_fd)
            self._stderr_fd = -1
