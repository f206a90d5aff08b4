"""Build the recorder, load it into a child process, and steer it from within that process.

The recorder is a small library in C that is compiled when it is needed, see ``recorder.c``.
"""

import ctypes
import os
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("recorder.c")
COMPILERS = ("cc", "gcc", "clang")
MAP = "lock.mdb"
"""The one file that LMDB writes through a map; what it holds counts for nothing after a crash."""


class NoCompiler(Exception):
    """Raised when there is nothing to build the recorder with."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the recorder needs a C compiler ({', '.join(COMPILERS)}) and the headers of the C "
            f"library; on Debian and Ubuntu: apt install gcc libc6-dev. {why}"
        )


class Fault(IntEnum):
    """Which calls fail; the numbers are those of ``recorder.c``."""

    SYNC = 1
    """fsync and fdatasync."""
    WRITE = 2
    """write, writev, pwrite and pwritev."""


def build(folder: Path) -> Path:
    """Compile the recorder into a folder and return its path.

    Raises:
        NoCompiler: There is no C compiler, or it lacks something.
    """
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoCompiler("There is none.")
    library = folder / "recorder.so"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library)]
    done = subprocess.run(
        [*command, str(SOURCE), "-lpthread"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoCompiler(f"{compiler} says: {done.stderr.strip()}")
    return library


def environment(library: Path) -> dict[str, str]:
    """Return the variables with which a child process has the recorder in it."""
    others = os.environ.get("LD_PRELOAD", "")
    return {**os.environ, "LD_PRELOAD": f"{library}:{others}" if others else str(library)}


class Recorder:
    """The recorder inside this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        if not hasattr(self._library, "recorder_watch"):
            raise RuntimeError("this process was started without the recorder; see environment()")
        self._library.recorder_seen.restype = ctypes.c_long

    def watch(self, folder: Path, log: Path) -> None:
        """Record what happens to the files under ``folder``, from now on."""
        self._library.recorder_watch(str(folder.resolve()).encode(), str(log).encode())

    def mark(self, data: bytes) -> None:
        """Put something of one's own into the log."""
        self._library.recorder_mark(data, ctypes.c_size_t(len(data)))

    def fail(self, fault: Fault, at: int, error: int, *, sticky: bool, after: bool) -> None:
        """Let a call fail.

        Args:
            fault: Which calls are counted, from now on.
            at: The number of the call that fails; 1 is the next one.
            error: The ``errno`` that it gives.
            sticky: Whether all later ones fail, too.
            after: Whether the call has its effect before it fails.
        """
        self._library.recorder_fail(int(fault), ctypes.c_long(at), error, int(sticky), int(after))

    def slow(self, calls: Fault, ms: int) -> None:
        """Let each call of a kind take so long."""
        self._library.recorder_slow(int(calls), ms)

    def seen(self, fault: Fault) -> int:
        """Return how many calls of a kind there were since the last ``fail``."""
        return int(self._library.recorder_seen(int(fault)))
