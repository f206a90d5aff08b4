"""Real coordinator processes on a real disk that fails, and what is on it afterwards."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from tests.crash_images import log, recorder

SECONDS_MAX = 20.0
ROOT = Path(__file__).parents[2]


class Nursery:
    """Starts real coordinators in which a call fails; see ``tests.crash_images.nursery``."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_images.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=recorder.environment(recorder.build(folder)),
            start_new_session=True,
        )

    def start(self, order: dict[str, Any]) -> None:
        """Start one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def ended(self) -> dict[str, int]:
        """Return how the one that was started has ended: exit code and time."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        ended: dict[str, int] = json.loads(line)
        return ended

    def close(self) -> None:
        """End it, with what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class Fault:
    """Which calls fail, and how; from the ``n``-th on."""

    calls: recorder.Fault
    error: int
    after: bool = False

    def __str__(self) -> str:
        when = " after its effect" if self.after else ""
        return f"{errno.errorcode[self.error]} of {self.calls.name.lower()}{when}"


class RealProcess:
    """One life of a coordinator's process."""

    def __init__(
        self,
        nursery: Nursery,
        folder: Path,
        fault: Fault | None = None,
        number: int = 0,
        *,
        slow_ms: int = 0,
    ) -> None:
        self.text = ""
        self.code = 0
        self.failed_ns = 0
        """When the first call failed, on the monotonic clock; 0 if none has."""
        self.ended_ns = 0
        self._nursery = nursery
        self._log = folder / "recorded"
        self._log.unlink(missing_ok=True)
        self._address: str | None = None
        self._pid = 0
        self._serving = threading.Event()
        self.ended, self._end = os.pipe()
        pipe = folder / "output"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        how = {"at": number, "sticky": True} if fault else {}
        if fault:
            how |= {"error": fault.error, "after": fault.after}
        arguments = ["serve", "--bind", "tcp://127.0.0.1:0", "--log-format", "json"]
        arguments += ["--data-dir", str(folder / "data"), "--allow-filesystem"]
        nursery.start(
            {
                "output": str(pipe),
                "folder": str(folder / "data"),
                "log": str(self._log),
                "fault": int(fault.calls) if fault else 0,
                "how": how,
                "slow_ms": slow_ms,
                "arguments": [*arguments, "--disk-free-min", "0"],
            }
        )
        self._reader = threading.Thread(target=self._read, args=[pipe], daemon=True)
        self._reader.start()

    def _read(self, pipe: Path) -> None:
        with pipe.open() as lines:
            for line in lines:
                self.text += line
                if '"serving"' in line:
                    said = json.loads(line)
                    self._address, self._pid = said["address"], said["pid"]
                    self._serving.set()
        os.write(self._end, b".")
        self._serving.set()

    def address(self) -> str | None:
        """Wait until it serves, and return where; None if it has ended before."""
        assert self._serving.wait(SECONDS_MAX), self.text
        return self._address

    def join(self, *, stop: bool) -> None:
        """Wait for its end."""
        if stop:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        self._reader.join(SECONDS_MAX)
        assert not self._reader.is_alive(), f"it does not end: {self.text}"
        ended = self._nursery.ended()
        self.code, self.ended_ns = ended["code"], ended["ended_ns"]
        failures = [event for event in log.read(self._log) if event.kind is log.Kind.FAILED]
        self.failed_ns = failures[0].offset if failures else 0
        os.close(self.ended)
        os.close(self._end)


def pairs_in(folder: Path) -> dict[bytes, bytes]:
    """Read a store as LMDB alone has it."""
    if not (folder / "data.mdb").exists():
        return {}
    with (
        lmdb.open(str(folder), readonly=True, lock=False, lib_version=0) as environment,
        environment.begin() as transaction,
    ):
        return {bytes(k): bytes(v) for k, v in transaction.cursor() if k[:1] != b"\0"}
