"""One real process: started in its own group, listened to, and ended with all that it started."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from sidecar.supervise.child import Child
from sidecar.supervise.supervisor import exit_cause

T = TypeVar("T")

SECONDS_MAX = 20.0
READY = "import sys; sys.stderr.write('ready\\n'); sys.stderr.flush(); "
PARENT = """
import os, signal, subprocess, sys
# Python cannot set the handling of signals for its child alone: the child inherits it.
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(1000)"],
    stderr=None if "holds" in sys.argv else subprocess.DEVNULL,
)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
sys.stderr.write(f"{child.pid}\\n")
sys.stderr.flush()
if "dies" in sys.argv:
    os._exit(3)
signal.pause()
"""


class Listener:
    """A child, what it has said, and its end."""

    def __init__(self, *command: str) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.child = Child(1, ended=lambda _: self.gone.set(), line=self.lines.put_nowait)
        self.child.start([sys.executable, *command], dict(os.environ))

    async def says(self) -> str:
        return await within(self.lines.get())

    async def ends(self) -> str:
        await within(self.gone.wait())
        return exit_cause(self.child.exit_code)


async def within(waiting: Awaitable[T]) -> T:
    async with asyncio.timeout(SECONDS_MAX):
        return await waiting


def watch(pid: int) -> int:
    """Return a descriptor by which ``is_gone`` tells of the end of a process of anybody."""
    return os.pidfd_open(pid)


def is_gone(watched: int, seconds: float = SECONDS_MAX) -> bool:
    ready, _, _ = select.select([watched], [], [], seconds)
    return bool(ready)


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        ("raise SystemExit(0)", "exit code 0"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL)"),
        ("import os; os.abort()", "killed by signal 6 (SIGABRT)"),
    ],
)
def test_end_is_told_with_its_cause(program: str, cause: str) -> None:
    async def main() -> str:
        return await Listener("-c", program).ends()

    assert asyncio.run(main()) == cause


def test_all_that_was_written_before_a_death_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # The death is seen before all is read.
    monkeypatch.setattr("sidecar.supervise.child._READ_BYTES", 100)

    async def main() -> str:
        program = "import os; os.write(2, b'x\\n' * 20_000 + b'last'); os.kill(os.getpid(), 9)"
        listener = Listener("-c", program)
        await listener.ends()
        assert listener.lines.qsize() == 20_001
        return listener.child.tail.text(100)

    assert asyncio.run(main()).endswith("x\nlast")


def test_process_leads_a_group_and_a_session_and_reads_nothing() -> None:
    program = READY + (
        "import os; me = os.getpid(); "
        "sys.stderr.write(f'{os.getpgid(0) == me} {os.getsid(0) == me} {sys.stdin.read()!r}\\n')"
    )

    async def main() -> str:
        listener = Listener("-c", program)
        assert await listener.says() == "ready"
        said = await listener.says()
        await listener.ends()
        return said

    assert asyncio.run(main()) == "True True ''"


def test_signals_have_their_usual_handling_in_the_command() -> None:
    async def main() -> str:
        gone = asyncio.Event()
        # A shell, since Python ignores SIGPIPE itself.
        shell = Child(1, ended=lambda _: gone.set(), line=lambda _: None)
        shell.start(["sh", "-c", "kill -PIPE $$; exit 1"], dict(os.environ))
        await within(gone.wait())
        return exit_cause(shell.exit_code)

    assert asyncio.run(main()) == "killed by signal 13 (SIGPIPE)"


def test_command_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    async def main() -> tuple[str, str]:
        gone = asyncio.Event()
        child = Child(1, ended=lambda _: gone.set(), line=lambda _: None)
        child.start([str(tmp_path / "nothing")], dict(os.environ))
        await within(gone.wait())
        return exit_cause(child.exit_code), child.tail.text(1_000)

    cause, said = asyncio.run(main())
    assert cause == "exit code 127"
    assert said == f"cannot run {tmp_path / 'nothing'}: No such file or directory"


def test_process_that_dies_takes_what_it_has_started_with_it() -> None:
    async def main() -> None:
        listener = Listener("-c", PARENT, "dies", "holds")
        watched = watch(int(await listener.says()))
        assert await listener.ends() == "exit code 3"
        assert is_gone(watched)

    asyncio.run(main())


def test_group_that_was_asked_to_end_is_gone_when_the_last_of_it_is() -> None:
    async def main() -> None:
        listener = Listener("-c", PARENT, "holds", "deaf")
        watched = watch(int(await listener.says()))

        listener.child.terminate()
        exited = watch(listener.child.pid)
        assert is_gone(exited)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await listener.gone.wait()
        assert not is_gone(watched, 0)

        listener.child.kill()
        assert await listener.ends() == "killed by signal 15 (SIGTERM)"
        assert is_gone(watched)

    asyncio.run(main())


def test_group_that_ends_when_asked_needs_no_kill() -> None:
    async def main() -> None:
        listener = Listener("-c", PARENT, "holds")
        watched = watch(int(await listener.says()))

        listener.child.terminate()

        assert await listener.ends() == "killed by signal 15 (SIGTERM)"
        assert is_gone(watched)

    asyncio.run(main())


def test_kill_ends_the_group() -> None:
    async def main() -> None:
        listener = Listener("-c", PARENT, "deaf")
        watched = watch(int(await listener.says()))

        listener.child.kill()

        assert await listener.ends() == "killed by signal 9 (SIGKILL)"
        assert is_gone(watched)

    asyncio.run(main())


def test_process_ends_with_the_one_that_started_it() -> None:
    program = f"""
import asyncio, os, sys
from sidecar.supervise.child import Child

async def main():
    ready = asyncio.Event()
    child = Child(1, ended=lambda _: None, line=lambda _: ready.set())
    child.start([sys.executable, "-c", {READY + "import time; time.sleep(1000)"!r}], os.environ)
    await ready.wait()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

    async def main() -> None:
        starter = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
        )
        assert starter.stdout is not None
        watched = watch(int(await within(starter.stdout.readline())))
        assert not is_gone(watched, 0)

        starter.send_signal(signal.SIGKILL)

        assert is_gone(watched)
        await within(starter.wait())

    asyncio.run(main())
