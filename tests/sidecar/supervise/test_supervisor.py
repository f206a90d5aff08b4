"""A sidecar that runs its service: each promise kept by real processes."""

import json
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sidecar import BlockingTask, Client, NewTask, TaskDead
from tests.support.process import ROOT
from tests.support.processes import Process, Sidecar, System

SECONDS_MAX = 30.0
TO_REDELIVERY_SECONDS_MAX = 0.2

SERVICE = """
import time
began = time.monotonic()
import asyncio, json, os, signal, subprocess, sys, time
from pathlib import Path
from sidecar import Service, current

service = Service("email")
folder = Path(__file__).parent

def note(name: str, value: object = None) -> None:
    # Complete or not there: the test looks for it again and again.
    (folder / f".{name}").write_text(json.dumps(value))
    (folder / f".{name}").rename(folder / name)

def until(name: str) -> None:
    while not (folder / name).exists():
        time.sleep(0.005)

@service.handler(concurrency=8)
async def send(n: int) -> int:
    return os.getpid()

@service.handler(concurrency=4, timeout="20s")
def slow(n: int) -> int:
    note(f"slow-{n}", os.getpid())
    until(f"go-{n}")
    return os.getpid()

@service.handler(concurrency=1, crashes=3)
def poison(n: int) -> None:
    print("the last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)

@service.handler(crashes=100, attempts=100)
def dies(n: int) -> float:
    if current().delivery == 1:
        note(f"died-{n}", time.monotonic())
        os.kill(os.getpid(), signal.SIGKILL)
    return time.monotonic()

@service.handler(timeout="200ms", attempts=2, backoff_min="10ms")
def hangs(n: int) -> list[str]:
    if current().attempt == 1:
        sleeper = subprocess.Popen(
            ["sh", "-c", "trap '' TERM; sleep 1000"], stderr=subprocess.DEVNULL
        )
        note("hung", [os.getpid(), sleeper.pid])
        until("never")
    alive = []
    for pid in json.loads((folder / "hung").read_text()):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            alive.append(f"{pid} {state}")
    return alive

@service.handler(concurrency=2)
def grows(n: int) -> int:
    global kept
    kept = os.urandom(1) * (n * 2**20)
    return os.getpid()

print("hello on stdout", flush=True)
print("hello on stderr", file=sys.stderr)
start = Path("/proc/self/fd/0").readlink(), os.environ["PILLION_SIDECAR_SOCKET"]
note(f"began-{os.getpid()}", began)
note(f"start-{os.getpid()}", [str(start[0]), start[1], os.getpgid(0), os.getsid(0)])
if "deaf" in sys.argv:
    service.stop = lambda: None
service.run(processes=2 if "forks" in sys.argv else 1)
"""


def supervised(
    system: System, *options: str, source: str = SERVICE, arguments: tuple[str, ...] = ()
) -> Sidecar:
    """Start a coordinator, and a sidecar that runs the service."""
    script = system.folder / "service.py"
    script.write_text(source)
    command = (sys.executable, str(script), *arguments)
    return system.sidecar("email", system.coordinator(), *options, "--", *command)


def events(sidecar: Sidecar, name: str) -> list[dict[str, Any]]:
    """Return the events of one name in the sidecar's log, in order."""
    lines = [line for line in sidecar.output().splitlines() if f'"{name}"' in line]
    found = [json.loads(line) for line in lines]
    return [event for event in found if event["event"] == name]


def wait_for_events(sidecar: Sidecar, name: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the events of one name once there are so many; lines may be on their way."""
    sidecar.wait_until(lambda: len(events(sidecar, name)) >= count, f"{name} is said", SECONDS_MAX)
    return events(sidecar, name)


def wait_for(sidecar: Process, path: Path) -> Any:
    """Return what the service has noted, once it has."""
    sidecar.wait_until(path.exists, f"{path.name} is there", SECONDS_MAX)
    return json.loads(path.read_text())


def watch(pid: int) -> int:
    return os.pidfd_open(pid)


def is_gone(watched: int, seconds: float = SECONDS_MAX) -> bool:
    return bool(select.select([watched], [], [], seconds)[0])


def results(tasks: list[BlockingTask[Any]]) -> list[Any]:
    return [task.result(SECONDS_MAX) for task in tasks]


# --- Starting ----------------------------------------------------------------------------------


def test_processes_run_in_their_own_groups_and_find_their_sidecar(system: System) -> None:
    beside = supervised(system, "--processes", "2")
    pids = [event["pid"] for event in wait_for_events(beside, "process_started", 2)]

    starts = [wait_for(beside, system.folder / f"start-{pid}") for pid in pids]

    assert len(pids) == 2
    for pid, start in zip(pids, starts, strict=True):
        assert start == ["/dev/null", str(beside.socket_path), pid, pid]


def test_what_processes_write_passes_through(system: System) -> None:
    beside = supervised(system)

    beside.wait_until(lambda: "hello on stderr" in beside.output(), "stderr passed", SECONDS_MAX)

    lines = beside.output().splitlines()
    assert "hello on stdout" in lines
    assert "hello on stderr" in lines


def test_process_that_ends_is_started_again_and_why_is_told(system: System) -> None:
    beside = supervised(system)
    with Client(beside.socket_path) as client:
        first = client.submit("email.send", {"n": 1}).result(SECONDS_MAX)

        os.kill(first, signal.SIGSEGV)
        second = client.submit("email.send", {"n": 2}).result(SECONDS_MAX)

    assert first != second
    [died] = wait_for_events(beside, "process_died")
    assert (died["pid"], died["cause"]) == (first, "killed by signal 11 (SIGSEGV)")


def test_service_that_never_runs_costs_no_attempt_and_is_said_loudly(system: System) -> None:
    beside = supervised(system, source="import sys; sys.exit('no configuration')")

    with Client(beside.socket_path) as client:
        task = client.submit("email.send", {"n": 1})
        wait_for_events(beside, "process_keeps_ending", 2)
        status = task.status()

    assert (status.state, status.attempts, status.deliveries) == ("ready", 0, 0)
    assert "no configuration" in beside.output().splitlines()
    waits = [event["next_start_in_ms"] for event in events(beside, "process_died")]
    assert waits[:4] == [0, 100, 200, 400]


# --- Crashes -----------------------------------------------------------------------------------


def test_poison_task_is_dead_after_three_crashes_with_the_evidence(system: System) -> None:
    beside = supervised(system, "--processes", "2")

    with Client(beside.socket_path) as client:
        task = client.submit("email.poison", {"n": 1})
        with pytest.raises(TaskDead, match="crashed 3 times"):
            task.result(SECONDS_MAX)
        history = task.status().history

    assert len(history) == 3
    for attempt in history:
        assert (attempt.outcome, attempt.error_type) == ("lost", "crash")
        assert attempt.message == "killed by signal 9 (SIGKILL)"
    assert history[-1].detail.splitlines()[-1] == "the last words"


RAW = """
import os, signal, socket
from pathlib import Path
from protocol import local, messages as m, version

begun = Path(__file__).with_name("crashed")
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["PILLION_SIDECAR_SOCKET"])
handler = "email.send"
attach = m.Attach(1, 1, "email", "test", [m.Declaration(handler, {})], [m.Limit(handler, 1)])
demand = m.Demand([m.Limit(handler, 5)])
connection.sendall(version.LOCAL_MAGIC + local.frame(attach) + local.frame(demand))
reader, tasks = local.Reader(expect_magic=False), []
while len(tasks) < 5:
    for message in reader.feed(connection.recv(65536)):
        if isinstance(message, m.Tasks):
            tasks += [task for group in message.groups for task in group.tasks]
if not begun.exists():
    begun.touch()
    os.kill(os.getpid(), signal.SIGKILL)
outcomes = [m.Outcome(t.id, t.token, m.OutcomeKind.SUCCESS, 1, None) for t in tasks]
connection.sendall(local.frame(m.Outcomes(0, outcomes)))
connection.recv(1)
"""


def test_crash_charges_the_attempt_that_ran_and_none_that_waited(system: System) -> None:
    beside = supervised(system, source=RAW)

    with Client(beside.socket_path) as client:
        tasks = client.submit_many(
            [NewTask(handler="email.send", payload={"n": n}) for n in range(5)]
        )
        assert all(isinstance(task, BlockingTask) for task in tasks)
        sent = [task for task in tasks if isinstance(task, BlockingTask)]
        results(sent)
        histories = [[a.outcome for a in task.status().history] for task in sent]

    assert sorted(histories) == [["lost", "success"], *[["success"]] * 4]


def test_task_is_delivered_again_within_200_ms_of_the_death_of_its_process(
    system: System,
) -> None:
    beside = supervised(system, "--processes", "2")
    with Client(beside.socket_path) as client:
        gaps = []
        for n in range(3):
            _both_serve(beside)
            gaps.append(_redelivery_seconds(system, beside, client, n))

    assert statistics.median(gaps) < TO_REDELIVERY_SECONDS_MAX, gaps


def test_single_process_runs_again_within_200_ms_of_its_first_death(system: System) -> None:
    """Until its first statement: how long its imports take is its own affair."""
    beside = supervised(system)
    gaps = []
    for n in range(3):
        with Client(beside.socket_path) as client:
            client.submit("email.send", {"n": n}).result(SECONDS_MAX)
            _redelivery_seconds(system, beside, client, n)
        pid = events(beside, "process_started")[-1]["pid"]
        began = wait_for(beside, system.folder / f"began-{pid}")
        gaps.append(began - wait_for(beside, system.folder / f"died-{n}"))
        beside.terminate()
        beside.start()

    assert statistics.median(gaps) < TO_REDELIVERY_SECONDS_MAX, gaps


def _redelivery_seconds(system: System, beside: Sidecar, client: Client, n: int) -> float:
    task: BlockingTask[float] = client.submit("email.dies", {"n": n})
    again = task.result(SECONDS_MAX)
    return again - float(wait_for(beside, system.folder / f"died-{n}"))


def _both_serve(beside: Sidecar) -> None:
    """Wait until the two latest processes have attached."""
    with Client(beside.socket_path) as client:
        beside.wait_until(lambda: client.inspect()["services"] == 2, "both serve", SECONDS_MAX)


# --- Deadlines ---------------------------------------------------------------------------------


def test_attempt_that_hangs_is_over_only_when_its_whole_group_is_gone(system: System) -> None:
    beside = supervised(system, "--cancel-grace", "100ms", "--kill-grace", "300ms")

    with Client(beside.socket_path) as client:
        task: BlockingTask[list[str]] = client.submit("email.hangs", {"n": 1})
        assert task.result(SECONDS_MAX) == []
        first, second = task.status().history

    assert (first.outcome, first.error_type) == ("retry", "timeout")
    assert first.run_us >= 600_000
    assert second.outcome == "success"
    [_] = wait_for_events(beside, "process_killed")
    [ended] = wait_for_events(beside, "process_ended")
    assert ended["told_to_end"] == "an attempt in it did not stop"


def test_others_in_the_process_of_an_attempt_that_hangs_are_not_charged(system: System) -> None:
    beside = supervised(system, "--cancel-grace", "100ms", "--kill-grace", "100ms")
    with Client(beside.socket_path) as client:
        slow: BlockingTask[int] = client.submit("email.slow", {"n": 1})
        first = wait_for(beside, system.folder / "slow-1")

        hangs: BlockingTask[list[str]] = client.submit("email.hangs", {"n": 1})
        hangs.result(SECONDS_MAX)
        (system.folder / "go-1").touch()

        assert slow.result(SECONDS_MAX) != first
        status = slow.status()

    assert [attempt.outcome for attempt in status.history] == ["success"]
    assert (status.attempts, status.deliveries) == (1, 2)


CUT_OFF = """
import os, socket, time
from pathlib import Path
from protocol import local, messages as m, version

folder = Path(__file__).parent
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["PILLION_SIDECAR_SOCKET"])
handler = "email.send"
attach = m.Attach(1, 1, "email", "test", [m.Declaration(handler, {})], [m.Limit(handler, 1)])
demand = m.Demand([m.Limit(handler, 1)])
connection.sendall(version.LOCAL_MAGIC + local.frame(attach) + local.frame(demand))
reader, tasks = local.Reader(expect_magic=False), []
while not tasks:
    for message in reader.feed(connection.recv(65536)):
        if isinstance(message, m.Tasks):
            tasks += [task for group in message.groups for task in group.tasks]
if not (folder / "first").exists():
    (folder / "first").write_text(str(os.getpid()))
    connection.sendall(local.frame(m.Recorded(1, [])))
    time.sleep(1000)  # The attempt goes on, as one that blocks would.
first = int((folder / "first").read_text())
gone = not Path(f"/proc/{first}").exists()
kind = m.OutcomeKind.SUCCESS if gone else m.OutcomeKind.FATAL
connection.sendall(local.frame(m.Outcomes(0, [m.Outcome(*tasks[0][:2], kind, 1, None)])))
connection.recv(1)
"""


def test_process_whose_connection_is_cut_off_is_gone_before_its_task_runs_again(
    system: System,
) -> None:
    beside = supervised(system, "--processes", "2", source=CUT_OFF)

    with Client(beside.socket_path) as client:
        task = client.submit("email.send", {"n": 1})
        task.result(SECONDS_MAX)
        history = task.status().history

    assert [attempt.outcome for attempt in history] == ["lost", "success"]
    assert "its connection ended" in history[0].message
    [killed] = wait_for_events(beside, "process_killed")
    assert killed["why"] == "its connection ended while attempts ran in it"


def test_status_tells_of_the_processes_and_their_last_ends(system: System) -> None:
    beside = supervised(system, "--processes", "2")
    _both_serve(beside)
    with Client(beside.socket_path) as client:
        os.kill(client.submit("email.send", {"n": 1}).result(SECONDS_MAX), signal.SIGSEGV)
        wait_for_events(beside, "process_started", 3)
        facts = client.inspect()
    _both_serve(beside)
    pids = [event["pid"] for event in events(beside, "process_started")]

    ended = "killed by signal 11 (SIGSEGV)"
    places = json.loads(str(facts["processes"]))
    assert sorted((p["restarts"], p["last_end"]) for p in places) == [(0, ""), (1, ended)]
    command = [sys.executable, "-m", "sidecar", "status", "--socket", str(beside.socket_path)]
    rows = subprocess.check_output(command, text=True, cwd=ROOT).splitlines()
    told = [row for row in rows if re.match(r"process \d ", row)]
    assert len(told) == 2
    assert all("serving, pid " in row for row in told)
    [died] = [row for row in told if row.endswith(f"1 restarts; last end: {ended}")]
    assert f"pid {pids[2]}," in died


def test_attempt_that_outlives_its_lease_is_killed_before_another_may_begin(
    system: System,
) -> None:
    script = system.folder / "service.py"
    script.write_text(SERVICE)
    coordinator = system.coordinator("--session-timeout", "2s")
    command = ("--", sys.executable, str(script))
    beside = system.sidecar("email", coordinator, *command)
    with Client(beside.socket_path) as client:
        client.submit("email.slow", {"n": 1})
        watched = watch(wait_for(beside, system.folder / "slow-1"))

        coordinator.signal(signal.SIGSTOP)

        # The coordinator counts 2.25 s from when it heard the sidecar last.
        assert is_gone(watched, 2.25)
    coordinator.signal(signal.SIGCONT)
    [killed] = wait_for_events(beside, "process_killed")
    assert killed["why"] == "an attempt in it did not stop"


# --- Replacing ---------------------------------------------------------------------------------


def test_process_is_replaced_after_its_tasks_and_none_of_them_suffers(system: System) -> None:
    beside = supervised(system, "--recycle-tasks", "20")
    with Client(beside.socket_path) as client:
        slow: BlockingTask[int] = client.submit("email.slow", {"n": 1})
        old = wait_for(beside, system.folder / "slow-1")
        watched = watch(old)
        tasks: list[BlockingTask[int]] = []

        def another_serves() -> bool:
            tasks.append(client.submit("email.send", {"n": 1}))
            return bool(tasks[-1].result(SECONDS_MAX) != old)

        beside.wait_until(another_serves, "a task ran in another process", SECONDS_MAX)
        wait_for_events(beside, "process_told_to_end")
        assert not is_gone(watched, 0)

        (system.folder / "go-1").touch()

        assert slow.result(SECONDS_MAX) == old
        assert is_gone(watched)
        attempts = [task.status().attempts for task in [slow, *tasks]]

    assert len(tasks) > 20
    assert set(attempts) == {1}
    told = events(beside, "process_told_to_end")[0]
    assert re.fullmatch(r"replaced: \d+ tasks", told["why"])
    assert told["timestamp"] > events(beside, "process_started")[1]["timestamp"]
    assert events(beside, "process_died") == []


@pytest.mark.parametrize(
    ("option", "why"),
    [(("--recycle-age", "1s"), "s old"), (("--recycle-memory", "150MiB"), "bytes of memory")],
)
def test_process_is_replaced_for_its_age_or_memory(
    system: System, option: tuple[str, str], why: str
) -> None:
    beside = supervised(system, *option)
    with Client(beside.socket_path) as client:
        old = client.submit("email.grows", {"n": 200}).result(SECONDS_MAX)
        assert is_gone(watch(old))
        new = client.submit("email.send", {"n": 1}).result(SECONDS_MAX)

    assert new != old
    assert events(beside, "process_told_to_end")[0]["why"].endswith(why)


# --- The end -----------------------------------------------------------------------------------


def test_processes_stop_with_their_sidecar_after_the_drain(system: System) -> None:
    beside = supervised(system, "--processes", "2")
    with Client(beside.socket_path) as client:
        task: BlockingTask[int] = client.submit("email.slow", {"n": 1})
        wait_for(beside, system.folder / "slow-1")
        watched = [watch(event["pid"]) for event in events(beside, "process_started")]

        beside.signal(signal.SIGTERM)
        wait_for_events(beside, "drain_began")
        assert not any(is_gone(one, 0) for one in watched)
        (system.folder / "go-1").touch()

        assert beside.wait(SECONDS_MAX) == 0
        assert all(is_gone(one, 0) for one in watched)
    assert events(beside, "process_killed") == []
    [stopped] = events(beside, "stopped")
    assert (stopped["outcomes_recorded"], stopped["outcomes_unrecorded"]) == (1, 0)
    assert task.id


def test_forked_service_that_is_replaced_finishes_what_runs(system: System) -> None:
    beside = supervised(system, "--recycle-tasks", "1", arguments=("forks",))
    with Client(beside.socket_path) as client:
        slow: BlockingTask[int] = client.submit("email.slow", {"n": 1})
        first = wait_for(beside, system.folder / "slow-1")
        leader = events(beside, "process_started")[0]["pid"]
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        [idle] = [int(pid) for pid in children if int(pid) != first]
        watched = watch(idle)

        client.submit("email.send", {"n": 1}).result(SECONDS_MAX)
        assert is_gone(watched)
        (system.folder / "go-1").touch()

        assert slow.result(SECONDS_MAX) == first
        assert slow.status().deliveries == 1


def test_process_that_ends_during_the_drain_is_not_started_again(system: System) -> None:
    beside = supervised(system, "--processes", "2")
    with Client(beside.socket_path) as client:
        client.submit("email.slow", {"n": 1})
        busy = wait_for(beside, system.folder / "slow-1")
        pids = [event["pid"] for event in wait_for_events(beside, "process_started", 2)]
        beside.signal(signal.SIGTERM)
        wait_for_events(beside, "drain_began")

        [idle] = [pid for pid in pids if pid != busy]
        os.kill(idle, signal.SIGKILL)

        [ended] = wait_for_events(beside, "process_ended")
        assert ended["pid"] == idle
        assert "next_start_in_ms" not in ended
        (system.folder / "go-1").touch()
        assert beside.wait(SECONDS_MAX) == 0


@pytest.mark.parametrize("arguments", [("deaf",), ("deaf", "forks")])
def test_process_that_does_not_stop_with_its_sidecar_is_killed(
    system: System, arguments: tuple[str, ...]
) -> None:
    beside = supervised(system, "--kill-grace", "200ms", arguments=arguments)
    with Client(beside.socket_path) as client:
        watched = watch(client.submit("email.send", {"n": 1}).result(SECONDS_MAX))

    assert beside.terminate() == 0

    assert is_gone(watched, 0 if len(arguments) == 1 else SECONDS_MAX)
    assert len(events(beside, "process_killed")) == 1


def test_attempt_that_outlives_the_drain_is_ended_and_not_charged(system: System) -> None:
    beside = supervised(system, "--drain", "100ms")
    with Client(beside.socket_path) as client:
        task: BlockingTask[int] = client.submit("email.slow", {"n": 1})
        watched = watch(wait_for(beside, system.folder / "slow-1"))

        assert beside.terminate() == 0
        assert is_gone(watched, 0)

        (system.folder / "go-1").touch()
        beside.start()
        task.result(SECONDS_MAX)
        status = task.status()

    assert (status.attempts, status.deliveries) == (1, 2)


@pytest.mark.parametrize("arguments", [("deaf",), ("deaf", "forks")])
def test_second_signal_ends_sidecar_and_processes_at_once(
    system: System, arguments: tuple[str, ...]
) -> None:
    beside = supervised(system, arguments=arguments)
    with Client(beside.socket_path) as client:
        client.submit("email.slow", {"n": 1})
        watched = watch(wait_for(beside, system.folder / "slow-1"))
    beside.signal(signal.SIGTERM)
    wait_for_events(beside, "drain_began")

    began = time.monotonic()
    beside.signal(signal.SIGTERM)

    assert beside.wait(SECONDS_MAX) == 0
    assert is_gone(watched, 1.0)
    assert time.monotonic() - began < 2.0


def test_processes_end_with_a_sidecar_that_is_killed(system: System) -> None:
    beside = supervised(system, "--processes", "2", arguments=("deaf",))
    watched = [watch(event["pid"]) for event in wait_for_events(beside, "process_started", 2)]
    _both_serve(beside)

    beside.kill()

    assert all(is_gone(one) for one in watched)
    beside.start()
    _both_serve(beside)
