import os
import select
import signal
import sys
from pathlib import Path

import pytest

from tests.support.process import Process, ProcessFailed

WAITS = "import signal; print('here', flush=True); signal.pause()"
READY_THEN_WAITS = "import pathlib, signal; pathlib.Path('ready').touch(); signal.pause()"


def python(folder: Path, source: str, **options: object) -> Process:
    return Process("program", ["-c", source], folder, **options)  # type: ignore[arg-type]


def test_start_returns_when_the_process_is_ready(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = python(tmp_path, READY_THEN_WAITS, is_ready=ready.exists).start()
    assert ready.exists()
    assert process.running
    process.kill()
    assert process.returncode == -signal.SIGKILL


def test_process_that_ends_before_it_is_ready_fails_with_its_output(tmp_path: Path) -> None:
    process = python(tmp_path, "import sys; print('no luck'); sys.exit(3)", is_ready=lambda: False)
    with pytest.raises(ProcessFailed, match=r"(?s)ended with 3 before it is ready.*no luck"):
        process.start()


def test_process_that_is_not_ready_in_time_fails_with_its_output(tmp_path: Path) -> None:
    process = python(tmp_path, WAITS)
    process.start()
    process.wait_until(lambda: "here" in process.output(), "says something")
    with pytest.raises(ProcessFailed, match=r"(?s)not within 0 s: is done.*here"):
        process.wait_until(lambda: False, "is done", seconds=0)
    process.kill()


def test_unexpected_end_is_told_by_check(tmp_path: Path) -> None:
    process = python(tmp_path, "raise SystemExit(7)").start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessFailed, match="ended unexpectedly with 7"):
        process.check()
    with pytest.raises(ProcessFailed, match="ended unexpectedly with 7"):
        process.kill()


def test_end_that_was_asked_for_is_no_failure(tmp_path: Path) -> None:
    process = python(tmp_path, WAITS).start()
    assert process.terminate() == -signal.SIGTERM
    process.check()


def test_kill_takes_the_children_too(tmp_path: Path) -> None:
    source = (
        "import pathlib, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "pathlib.Path('child.tmp').write_text(str(child.pid))\n"
        "pathlib.Path('child.tmp').rename('child')\n"
        "signal.pause()\n"
    )
    process = python(tmp_path, source, is_ready=(tmp_path / "child").exists).start()
    child = os.pidfd_open(int((tmp_path / "child").read_text()))
    process.kill()
    # A pidfd becomes readable when its process has ended.
    assert select.select([child], [], [], 10)[0]
    os.close(child)


def test_restart_is_a_new_process_and_keeps_the_output(tmp_path: Path) -> None:
    process = python(tmp_path, WAITS).start()
    first = process.pid
    process.wait_until(lambda: process.output().count("here") == 1, "says something")
    process.restart()
    process.wait_until(lambda: process.output().count("here") == 2, "says something again")
    assert process.pid != first
    process.kill()


def test_process_that_ignores_the_signal_is_killed_and_fails(tmp_path: Path) -> None:
    source = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
        "while True: signal.pause()"
    )
    process = python(tmp_path, source).start()
    process.wait_until(lambda: "deaf" in process.output(), "ignores the signal")
    with pytest.raises(ProcessFailed, match=r"did not end within 0\.1 s"):
        process.terminate(seconds=0.1)
    assert not process.running


def test_environment_is_given_and_taken_away(tmp_path: Path) -> None:
    source = "import os; print(os.environ.get('GIVEN'), os.environ.get('HOME'))"
    process = python(tmp_path, source, environment={"GIVEN": "yes", "HOME": None}).start()
    assert process.wait() == 0
    assert process.output() == "yes None\n"
    assert process.command[0] == sys.executable
