"""A command per task: real processes, what they get, and how they end."""

import hashlib
import json
import os
from pathlib import Path

from protocol.ids import to_text
from protocol.messages import Failure, OutcomeKind, Result
from tests.sidecar.invoke.bench import executed, serving
from tests.sidecar.loops import on_each_loop, turns_until
from tests.support.builders import a_granted_task, task_id

TEXT = "text/plain; charset=utf-8"


def is_written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@on_each_loop
async def test_payload_is_stdin_and_stdout_the_result() -> None:
    payload = bytes(range(256)) * 4_000
    async with serving(executed("cat | sha256sum | cut -c 1-8")) as bench:
        outcome = await bench.run(payload=payload)

    assert outcome.kind is OutcomeKind.SUCCESS
    expected = hashlib.sha256(payload).hexdigest()[:8]
    assert outcome.value == Result(TEXT, f"{expected}\n".encode())
    assert outcome.run_us > 0


@on_each_loop
async def test_result_that_is_no_text_is_bytes() -> None:
    async with serving(executed(r"printf '\377\000'")) as bench:
        outcome = await bench.run()

    assert outcome.value == Result("application/octet-stream", b"\xff\0")


@on_each_loop
async def test_particulars_stand_in_the_environment() -> None:
    names = ("TASK_ID", "TASK_HANDLER", "TASK_ATTEMPT", "TASK_TOKEN", "TASK_META_TENANT",
             "TASK_IDEMPOTENCY_KEY", "TASK_CONTENT_TYPE", "TRACEPARENT")  # fmt: skip
    command = "printf '%s|' " + " ".join(f'"${name}"' for name in names)
    extras = {"traceparent": "00-1-2-3", "meta": {"tenant": "a b"}}
    async with serving(executed(command)) as bench:
        outcome = await bench.run(token=7, extras=extras)

    assert isinstance(outcome.value, Result)
    identity = to_text(task_id(1))
    told = f'{identity}|email.send|1|7|a b|"{identity}"|application/json|00-1-2-3|'
    assert outcome.value.body.decode() == told


@on_each_loop
async def test_end_of_stderr_goes_into_the_failure() -> None:
    command = "seq 1 20000 >&2; echo disk full >&2; exit 3"
    async with serving(executed(command)) as bench:
        outcome = await bench.run()

    assert isinstance(outcome.value, Failure)
    assert outcome.value.error_type == "exit-3"
    assert outcome.value.message == "the command ended with exit code 3: disk full"
    assert outcome.value.detail.endswith("20000\ndisk full\n")


@on_each_loop
async def test_command_that_does_not_read_its_payload_is_no_error() -> None:
    async with serving(executed("exec true")) as bench:
        outcome = await bench.run(payload=bytes(2**20))

    assert outcome.kind is OutcomeKind.SUCCESS


@on_each_loop
async def test_no_more_commands_run_than_there_are_slots() -> None:
    async with serving(executed("cat", slots=2)) as bench:
        await bench.asked_for(total=2)
        for number in range(1, 7):
            bench.grant(a_granted_task(number))
        await turns_until(lambda: len(bench.hosts.attempts) > 0)
        assert len(bench.hosts.attempts) <= 2
        await bench.outcome(6)


@on_each_loop
async def test_overrun_ends_the_whole_group_even_if_it_ignores_the_request(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"trap '' TERM; sleep 60 & echo $! > {pids}; wait; wait; sleep 60"
    async with serving(executed(command)) as bench:
        outcome = await bench.run(timeout_ms=500)

    assert isinstance(outcome.value, Failure)
    assert (outcome.kind, outcome.value.error_type) == (OutcomeKind.RETRY, "timeout")
    assert not alive(int(pids.read_text()))


@on_each_loop
async def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with serving(executed(f"sleep 60 & echo $! > {pids}; exit 0")) as bench:
        outcome = await bench.run()
        assert outcome.kind is OutcomeKind.SUCCESS
        await turns_until(lambda: not alive(int(pids.read_text())))


@on_each_loop
async def test_end_of_the_sidecar_ends_commands(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with serving(executed(f"echo $$ > {pids}; exec sleep 60")) as bench:
        bench.grant(a_granted_task(1))
        await turns_until(lambda: is_written(pids))
    assert not alive(int(pids.read_text()))


@on_each_loop
async def test_command_may_tell_its_progress_by_a_request(tmp_path: Path) -> None:
    async with serving(executed(f"read line < {tmp_path / 'gate'}")) as bench:
        os.mkfifo(tmp_path / "gate")
        bench.grant(a_granted_task(1))
        await turns_until(lambda: len(bench.hosts.attempts) == 1)
        path = f"/v1/tasks/{to_text(task_id(1))}/heartbeat"
        status, _, body = await bench.request("POST", path, b'{"progress": 1}', Task_Token="1")
        await bench.updates.until(len)
        with (tmp_path / "gate").open("w") as gate:
            gate.write("go\n")
        outcome = await bench.outcome()

    assert (status, json.loads(body)["cancel"]) == (200, False)
    assert outcome.kind is OutcomeKind.SUCCESS
