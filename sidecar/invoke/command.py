"""One command that runs for one task: started in a group of its own, fed, read, and ended.

What it may cost is bounded: of stdout no more is kept than a result may have, of stderr the end.
Like a supervised process it is tied to the life of the sidecar, and it is not reaped before its
group is dealt with, so that no signal reaches a stranger who got its number.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from protocol.limits import RESULT_BYTES_MAX
from sidecar.supervise.child import tethered

STDERR_BYTES_MAX = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_LAST_READS_MAX = 64


class Command:
    """A running command.

    Args:
        ended: Called once, when it is gone and all it wrote is read.
    """

    def __init__(self, ended: Callable[["Command"], None]) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.too_long = False
        """Whether it wrote more than a result may have; it was killed for it."""
        self.exit_code = 0
        """As of ``subprocess``: minus the number of the signal that ended it."""
        self._ended = ended
        self._popen: subprocess.Popen[bytes] | None = None
        self._stdin = memoryview(b"")
        self._exit_fd = -1
        self._open: dict[int, IO[bytes]] = {}

    def start(self, command: Sequence[str], environment: Mapping[str, str], stdin: bytes) -> None:
        """Start it.

        Raises:
            OSError: The system has no room for another process.
        """
        self._popen = popen = subprocess.Popen(
            tethered(command),
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        try:
            self._exit_fd = os.pidfd_open(popen.pid)
        except OSError:
            self.bury()
            raise
        loop = asyncio.get_running_loop()
        loop.add_reader(self._exit_fd, self._exit)
        for pipe, keep in ((popen.stdout, self._keep_stdout), (popen.stderr, self._keep_stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._open[pipe.fileno()] = pipe
            loop.add_reader(pipe.fileno(), self._read, pipe.fileno(), keep)
        assert popen.stdin is not None
        os.set_blocking(popen.stdin.fileno(), False)
        self._stdin = memoryview(stdin)
        loop.add_writer(popen.stdin.fileno(), self._write)

    # --- Ending --------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask the group to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the group."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None and self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)

    def _exit(self) -> None:
        """The command has ended: end what is left of its group, read what was written."""
        assert self._popen is not None
        self.kill()
        for pipe, keep in (
            (self._popen.stdout, self._keep_stdout),
            (self._popen.stderr, self._keep_stderr),
        ):
            assert pipe is not None
            for _ in range(_LAST_READS_MAX):  # One that has left the group may go on writing.
                if pipe.closed or self._read(pipe.fileno(), keep) <= 0:
                    break
        self.bury()
        self._ended(self)

    def bury(self) -> None:
        """End the group, and let go of everything; may come twice."""
        if self._popen is None or self._popen.returncode is not None:
            return
        self.kill()
        self.exit_code = self._popen.wait()
        loop = asyncio.get_running_loop()
        if self._exit_fd >= 0:
            loop.remove_reader(self._exit_fd)
            os.close(self._exit_fd)
        for number in list(self._open):
            self._close(number)
        self._close_stdin()

    # --- What it reads and writes --------------------------------------------------------------

    def _write(self) -> None:
        assert self._popen is not None
        assert self._popen.stdin is not None
        try:
            count = os.write(self._popen.stdin.fileno(), self._stdin[:_CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:
            self._close_stdin()  # It does not want to read, which is its business.
            return
        self._stdin = self._stdin[count:]
        if not self._stdin:
            self._close_stdin()

    def _close_stdin(self) -> None:
        assert self._popen is not None
        pipe = self._popen.stdin
        if pipe is not None and not pipe.closed:
            asyncio.get_running_loop().remove_writer(pipe.fileno())
            pipe.close()

    def _read(self, number: int, keep: Callable[[bytes], None]) -> int:
        """Read once; return the bytes read, 0 at the end, or -1 if there are none now."""
        try:
            data = os.read(number, _CHUNK_BYTES)
        except BlockingIOError:
            return -1
        if data:
            keep(data)
        else:
            self._close(number)
        return len(data)

    def _keep_stdout(self, data: bytes) -> None:
        self.stdout += data
        if len(self.stdout) > RESULT_BYTES_MAX:
            self.too_long = True
            self.stdout.clear()
            assert self._popen is not None
            assert self._popen.stdout is not None
            self._close(self._popen.stdout.fileno())
            self.kill()

    def _keep_stderr(self, data: bytes) -> None:
        self.stderr += data
        del self.stderr[:-STDERR_BYTES_MAX]

    def _close(self, number: int) -> None:
        pipe = self._open.pop(number, None)
        if pipe is not None:
            asyncio.get_running_loop().remove_reader(number)
            pipe.close()
