"""Every example keeps its promise, and the checks of the demo find what they look for."""

import ast
import os
import select
import signal
from pathlib import Path
from typing import Any

import pytest

from examples.demo import places
from examples.demo.checks import attempts, fates, files
from examples.demo.evidence import Attempt, Reader
from examples.demo.plan import Case
from sidecar import AttemptStatus, NewTask, TaskStatus
from tests.support.processes import Process, System

ROOT = Path(__file__).parents[1]
HELLO = ROOT / "examples" / "hello.py"
DEMO_S_MAX = 100.0
STOP_S_MAX = 2.0


# hello.py


def test_hello_runs_as_printed_with_no_configuration_but_where_things_are(system: System) -> None:
    coordinator = system.coordinator()
    environment: dict[str, str | None] = {
        "XDG_RUNTIME_DIR": str(system.folder),
        "PILLION_SIDECAR_COORDINATOR": coordinator.address,
    }
    command = ["-m", "sidecar", "run", "--service", "hello"]
    system.add(Process("sidecar", command, system.folder, environment=environment))
    hello = system.add(Process("hello", [str(HELLO)], system.folder, environment=environment))

    assert hello.wait() == 0, hello.failure("failed")
    assert hello.output().splitlines()[-1] == "Hello, world!"


def test_readme_shows_hello_as_it_is() -> None:
    text = HELLO.read_text()
    first = ast.parse(text).body[1].lineno - 1
    program = "\n".join(text.splitlines()[first:])

    assert f"```python\n{program}\n```" in (ROOT / "README.md").read_text()


# The demo as a whole


@pytest.fixture
def demo(system: System) -> Process:
    """The demo, not started, with its folder inside that of the test."""
    environment: dict[str, str | None] = {"TMPDIR": str(system.folder)}
    process = Process("demo", ["-m", "examples.demo"], system.folder, environment=environment)
    return system.add(process, start=False)


@pytest.mark.timeout(150)
def test_demo_holds_everything_and_leaves_nothing(demo: Process) -> None:
    demo.start()

    assert demo.wait(DEMO_S_MAX) == 0, demo.failure("failed")
    *_, last = demo.output().splitlines()
    assert last.startswith("Everything holds")
    assert last.endswith("ran twice at once: 0, lost: 0")
    assert not list(demo.folder.glob("pillion-demo-*"))


def test_ctrl_c_ends_the_demo_and_all_its_processes_and_removes_its_folder(demo: Process) -> None:
    demo.start()
    demo.wait_until(lambda: "tasks accepted" in demo.output(), "submits")
    children = children_of(demo)

    demo.signal(signal.SIGINT)

    assert demo.wait(STOP_S_MAX) == 128 + signal.SIGINT
    assert len(children) == 6
    assert all(has_ended(child, seconds=0) for child in children)
    assert not list(demo.folder.glob("pillion-demo-*"))


def test_processes_of_the_demo_die_with_it(demo: Process) -> None:
    demo.start()
    demo.wait_until(lambda: "tasks accepted" in demo.output(), "submits")
    children = children_of(demo)

    demo.kill()

    assert children
    assert all(has_ended(child, STOP_S_MAX) for child in children)


def children_of(process: Process) -> list[int]:
    """Return a descriptor for each child: numbers of processes may be used again."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [os.pidfd_open(int(pid)) for pid in found]


def has_ended(descriptor: int, seconds: float) -> bool:
    ready, _, _ = select.select([descriptor], [], [], seconds)
    os.close(descriptor)
    return bool(ready)


# The demo's checks


def an_attempt(token: int, began_ns: int, ended_ns: int | None, outcome: str = "retry") -> Attempt:
    return Attempt(
        process="images-1",
        pid=1,
        task="a",
        handler="images.checksum",
        token=token,
        delivery=token,
        began_ns=began_ns,
        began_wall_ms=1_000,
        ended_ns=ended_ns,
        outcome=outcome,
    )


def a_case(state: str = "succeeded", outcome: str = "success", delay: float = 0) -> Case:
    case = Case(NewTask(handler="images.checksum", delay=delay), {}, id="a", submitted_ms=500)
    record = AttemptStatus(1, 0, 0, outcome, "sidecar", "", "", "")
    numbers: dict[str, Any] = dict.fromkeys(
        ("submitted_ms", "due_ms", "expires_ms", "finished_ms", "attempts", "attempts_max"), 0
    )
    case.status = TaskStatus(
        id="a",
        handler="images.checksum",
        state=state,
        ended=True,
        priority="normal",
        collection=None,
        deliveries=1,
        sidecar="",
        sidecars=1,
        result="abc",
        error="",
        history=(record,),
        **numbers,
    )
    return case


def test_attempt_that_begins_before_an_earlier_one_has_ended_is_found() -> None:
    assert attempts.twice_at_once([an_attempt(1, 10, 21), an_attempt(2, 20, 30)])
    assert attempts.twice_at_once([an_attempt(1, 10, None), an_attempt(2, 20, 30)])
    assert not attempts.twice_at_once([an_attempt(1, 10, 20), an_attempt(2, 20, 30)])


def test_token_that_does_not_grow_is_found() -> None:
    assert attempts.old_token([an_attempt(2, 10, 20), an_attempt(2, 20, 30)])
    assert not attempts.old_token([an_attempt(1, 10, 20), an_attempt(2, 20, 30)])


def test_attempt_without_end_is_found() -> None:
    assert attempts.without_end([an_attempt(1, 10, None)])
    assert not attempts.without_end([an_attempt(1, 10, 20)])


def test_attempt_that_begins_before_the_delay_is_over_is_found() -> None:
    assert attempts.too_early([a_case(delay=0.6)], [an_attempt(1, 10, 20)])
    assert not attempts.too_early([a_case(delay=0.5)], [an_attempt(1, 10, 20)])


def test_accepted_task_that_has_not_ended_is_lost() -> None:
    case = a_case()
    assert not fates.lost([case])

    case.status = None

    assert fates.lost([case])


def test_task_that_ended_in_another_way_than_planned_is_found() -> None:
    assert fates.other_end([a_case(state="dead")])
    assert not fates.other_end([a_case()])


def test_history_that_differs_from_what_the_handlers_wrote_is_found() -> None:
    success = an_attempt(1, 10, 20, "success")
    assert not fates.other_history([a_case()], [success])

    assert fates.other_history([a_case()], [])
    assert fates.other_history([a_case(outcome="retry")], [success])
    assert fates.other_history([a_case()], [success, an_attempt(2, 20, 30, "success")])


def test_file_with_other_content_is_found(tmp_path: Path) -> None:
    case = a_case()
    case.about = {"picture": "album/a.png", "algorithm": "sha256"}
    for path in (places.picture("album/a.png"), places.checksum("album/a.png", "sha256")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("abc")

    assert files.wrong_files(tmp_path, [case], "images.checksum")


def test_missing_file_is_found(tmp_path: Path) -> None:
    case = a_case()
    case.about = {"picture": "album/a.png", "size": 64}
    case.task = NewTask(handler="images.thumbnail")

    (problem,) = files.wrong_files(tmp_path, [case], "images.thumbnail")

    assert "No such file" in problem


def test_what_ran_in_a_killed_process_ended_when_it_was_killed(tmp_path: Path) -> None:
    journal = tmp_path / places.JOURNAL / "images-1.jsonl"
    journal.parent.mkdir()
    begun = (
        '{"task": "a", "token": 1, "handler": "images.checksum", "delivery": 1, "pid": 7, '
        '"wall_ms": 5, "at_ns": 10}\n'
    )
    journal.write_text(begun + '{"task": "a", "token": 1, "outc')  # The rest is being written.
    reader = Reader(tmp_path)

    assert reader.killed(7, at_ns=20) == 1

    (attempt,) = reader.attempts
    assert (attempt.outcome, attempt.ended_ns) == ("killed", 20)
    assert not reader.running
