"""The commands as real processes, against a coordinator with tasks in several states."""

import contextlib
import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from protocol.ids import TaskIds, to_text
from sidecar import Client, TaskDead
from tests.scenarios.stage import wait_for_services
from tests.support import commands
from tests.support.commands import Done
from tests.support.process import ROOT
from tests.support.processes import Coordinator, System

SERVICE = """
from sidecar import Fatal, Service

service = Service("email")

@service.handler()
async def send(to: str) -> str:
    return f"sent to {to}"

@service.handler()
async def fail(to: str) -> None:
    raise Fatal("no such address\\x1b[31m")

service.run()
"""
USAGE, NOT_FOUND, UNREACHABLE, DENIED = 2, 3, 5, 6
SECONDS = 30.0
FAR_ID = "01ffffff-ffff-7000-8000-000000000001"


class Stage(NamedTuple):
    coordinator: Coordinator
    dead: str
    succeeded: str


def command(*arguments: str, **environment: str) -> Done:
    return commands.run("coordinator", *arguments, environment=os.environ | environment)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("email", coordinator)
        system.service("email", sidecar, SERVICE)
        with Client(sidecar.socket_path) as client:
            wait_for_services(sidecar, client)
            dead = client.submit("email.fail", {"to": "a@b.c"})
            succeeded = client.submit("email.send", {"to": "a@b.c"}, collection="spring")
            for number in range(5):
                client.submit("image.scale", {"number": number}, priority="high")
            client.wait(succeeded.id, timeout=SECONDS)
            with pytest.raises(TaskDead):
                client.wait(dead.id, timeout=SECONDS)
            yield Stage(coordinator, dead.id, succeeded.id)


def ask(stage: Stage, *arguments: str) -> Done:
    return command(*arguments, "--data-dir", str(stage.coordinator.data_folder))


def test_status_is_one_screen_with_the_verdict_and_why(stage: Stage) -> None:
    done = ask(stage, "status")

    assert done.code == 0, done.err
    assert done.out.startswith("WARNING  pillion ")
    assert "warning: tasks wait and no sidecar serves image.scale" in done.out
    assert "5 ready, 0 scheduled, 0 leased, 1 dead" in done.out
    assert "sidecars  1 ready" in done.out
    assert json.loads(ask(stage, "status", "-o", "json").out)["tasks"]["dead"] == 1


def test_handlers_are_listed_in_each_format(stage: Stage) -> None:
    names = ["email.fail", "email.send", "image.scale"]

    table = ask(stage, "handlers").out.splitlines()
    assert table[0].split()[:2] == ["NAME", "READY"]
    assert [line.split()[0] for line in table[1:]] == names
    assert ask(stage, "handlers", "-o", "id").out.split() == names
    assert [row["name"] for row in json.loads(ask(stage, "handlers", "-o", "json").out)] == names
    assert [row["name"] for row in ask(stage, "handlers", "-o", "ndjson").rows] == names
    rows = list(csv.DictReader(io.StringIO(ask(stage, "handlers", "-o", "csv").out)))
    assert [row["name"] for row in rows] == names
    assert rows[2]["ready"] == "5"


def test_columns_can_be_chosen_and_a_wrong_one_is_told(stage: Stage) -> None:
    done = ask(stage, "handlers", "--columns", "ready,name", "-o", "csv")
    assert done.out.splitlines() == ["ready,name", "0,email.fail", "0,email.send", "5,image.scale"]

    wrong = ask(stage, "handlers", "--columns", "raedy")
    assert (wrong.code, wrong.out) == (USAGE, "")
    assert "no column is called 'raedy'; did you mean 'ready'?" in wrong.err


def test_sidecars_are_listed(stage: Stage) -> None:
    (row,) = ask(stage, "sidecars", "-o", "ndjson").rows
    assert (row["service"], row["state"]) == ("email", "ready")
    assert row["handlers"] == ["email.fail", "email.send"]


def test_tasks_are_found_by_filter(stage: Stage) -> None:
    def ids(*terms: str) -> list[str]:
        return ask(stage, "tasks", *terms, "-o", "id").out.split()

    assert ids("state=dead", "since=1h") == [stage.dead]
    assert ids("handler=email.*", "collection=spring") == [stage.succeeded]
    assert ids("error~address") == [stage.dead]
    assert len(ids("state=ready", "priority=high")) == 5
    assert len(ids("state=ready", "--limit", "2")) == 2
    assert ids("state=expired") == []


def test_table_of_tasks_says_that_there_are_more(stage: Stage) -> None:
    done = ask(stage, "tasks", "--limit", "3")
    assert len(done.out.splitlines()) == 4
    assert "3 shown; there may be more" in done.err


def test_what_an_app_put_into_a_text_cannot_steer_the_terminal(stage: Stage) -> None:
    for done in (ask(stage, "tasks", "state=dead"), ask(stage, "trace", stage.dead)):
        assert "no such address\\x1b[31m" in done.out
        assert "\x1b" not in done.out


def test_trace_tells_the_life_of_a_task(stage: Stage) -> None:
    done = ask(stage, "trace", stage.dead)

    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"{stage.dead}  email.fail  dead"
    moments = [line.split(maxsplit=1)[1] for line in lines[2:-2]]
    assert "submitted" in moments[0]
    assert "fatal" in moments[1]
    assert "dead" in moments[2]
    assert "its record is removed" in moments[3]
    assert lines[-1] == "1 of 12 attempts charged, 1 leases, 0 crashes"


def test_trace_of_a_waiting_task_says_for_what(stage: Stage) -> None:
    task_id = ask(stage, "tasks", "handler=image.scale", "--limit", "1", "-o", "id").out.strip()
    assert "waits for a sidecar: none serves image.scale" in ask(stage, "trace", task_id).out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tasks", "state=ded"], USAGE, "no state is called 'ded'; did you mean 'dead'?"),
        (["tasks", "since=1x"], USAGE, "'1x' is no time"),
        (["trace", "17"], USAGE, "is not a task id"),
        (["trace", to_text(TaskIds().new())], NOT_FOUND, "it was never accepted here"),
        (["tasks", "--watch", "soon"], USAGE, "'soon' is no duration"),
        (["tasks", "-o", "xml"], USAGE, "'xml' is not one of"),
        (["taks"], USAGE, "taks"),
    ],
)
def test_what_is_wrong_is_told_and_ends_with_its_code(
    stage: Stage, arguments: list[str], code: int, said: str
) -> None:
    done = ask(stage, *arguments) if arguments != ["taks"] else command(*arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_check_judges_by_thresholds(stage: Stage) -> None:
    plain = ask(stage, "check")
    assert plain.code == 1
    assert plain.out.startswith("PILLION WARNING - tasks wait and no sidecar serves image.scale")
    assert "| ready=5 dead=1 oldest=" in plain.out
    told = json.loads(ask(stage, "check", "-o", "json").out)
    assert (told["level"], told["exit_code"], told["figures"]["dead"]) == ("warning", 1, 1)

    assert ask(stage, "check", "--dead", "1").code == 1
    for threshold in (
        ("--dead", "0"),
        ("--backlog", "4"),
        ("--sidecars", "2"),
        ("--oldest", "1ms"),
    ):
        done = ask(stage, "check", *threshold)
        assert done.code == 2, threshold
        assert done.out.startswith("PILLION CRITICAL - ")


def test_nobody_who_answers_is_told_with_where_was_asked(tmp_path: Path) -> None:
    done = command("status", "--data-dir", str(tmp_path / "nothing"))
    assert done.code == UNREACHABLE
    assert "no coordinator answers at" in done.err
    assert "start one with pillion-coordinator serve" in done.err

    checked = command("check", "--data-dir", str(tmp_path / "nothing"))
    assert (checked.code, checked.out[:20]) == (2, "PILLION CRITICAL - n")


def test_who_answers_and_is_no_coordinator_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asking = subprocess.Popen(
            [sys.executable, "-m", "coordinator", "status", "--http-bind", f"127.0.0.1:{port}"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"220 mail.example ESMTP\r\n\r\n")
        _, err = asking.communicate(timeout=SECONDS)
    assert asking.returncode == UNREACHABLE
    assert "does not speak HTTP" in err


def test_port_is_asked_with_its_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    with System() as system:
        system.coordinator("--http-bind", bind, "--http-token-file", str(token))

        done = command("status", "--http-bind", bind, "--http-token-file", str(token))
        refused = command("status", "--http-bind", bind)

    assert done.code == 0, done.err
    assert (refused.code, refused.out) == (DENIED, "")
    assert "the token is missing" in refused.err


def test_reader_that_has_seen_enough_is_no_error(stage: Stage) -> None:
    asking = subprocess.Popen(
        [
            *(sys.executable, "-m", "coordinator", "tasks", "--watch", "100ms", "-o", "ndjson"),
            *("--data-dir", str(stage.coordinator.data_folder)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert asking.stdout is not None
    assert asking.stderr is not None
    assert json.loads(asking.stdout.readline())["id"]
    asking.stdout.close()
    assert asking.wait(SECONDS) == 0
    assert asking.stderr.read() == ""
    asking.stderr.close()


def test_watching_goes_on_until_it_is_interrupted(stage: Stage) -> None:
    asking = subprocess.Popen(
        [
            *(sys.executable, "-m", "coordinator", "sidecars", "--watch=100ms", "-o", "ndjson"),
            *("--data-dir", str(stage.coordinator.data_folder)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert asking.stdout is not None
    names = {json.loads(asking.stdout.readline())["name"] for _ in range(3)}
    asking.send_signal(signal.SIGINT)
    assert asking.wait(SECONDS) == 130
    asking.stdout.close()
    assert len(names) == 1


def test_piped_watch_writes_a_row_again_only_if_it_has_changed(stage: Stage) -> None:
    (sidecar,) = ask(stage, "sidecars", "-o", "ndjson").rows
    columns = ["--columns", "name,ready", "-o", "csv"]
    with watching(stage, "handlers", *columns) as lines:
        first = [next(lines) for _ in range(4)]
        done = ask(stage, "reschedule", "-f", "handler=image.scale", "--in", "1h", "--yes")
        assert done.code == 0, done.err
        changed = next(lines)

    assert sidecar["state"] == "ready"
    assert first[0] == "name,ready"
    assert first[3] == "image.scale,5"
    assert changed.startswith("image.scale,")
    assert ask(stage, "reschedule", "-f", "handler=image.scale", "--yes").code == 0


@contextlib.contextmanager
def watching(stage: Stage, *arguments: str) -> Iterator[Iterator[str]]:
    asking = subprocess.Popen(
        [
            *(sys.executable, "-m", "coordinator", *arguments, "--watch=100ms"),
            *("--data-dir", str(stage.coordinator.data_folder)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert asking.stdout is not None
    try:
        yield (line.rstrip("\n") for line in asking.stdout)
    finally:
        asking.send_signal(signal.SIGINT)
        assert asking.wait(SECONDS) == 130
        asking.stdout.close()


def test_wide_table_has_all_columns_and_json_has_a_short_flag(stage: Stage) -> None:
    wide = ask(stage, "handlers", "-o", "wide").out.splitlines()
    assert {"DEMAND", "HELD", "NAME"} <= set(wide[0].split())
    assert len(wide) == 4
    assert json.loads(ask(stage, "handlers", "--json").out)[2]["name"] == "image.scale"
    assert ask(stage, "status", "-o", "wide").out.startswith("WARNING")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tasks", "state=ded", "--json"], {"code": "invalid_filter", "exit_code": USAGE}),
        (["trace", FAR_ID, "-o", "json"], {"code": "unknown_task", "exit_code": NOT_FOUND}),
        (["tasks", "--watch", "soon", "-ojson"], {"code": "usage", "exit_code": USAGE}),
        (["handlers", "--columns", "x", "--output=json"], {"code": "usage", "exit_code": USAGE}),
    ],
)
def test_who_asks_for_json_gets_errors_as_json(
    stage: Stage, arguments: list[str], told: dict[str, Any]
) -> None:
    done = ask(stage, *arguments)
    assert (done.code, done.out) == (told["exit_code"], "")
    error = json.loads(done.err)
    assert error.items() >= told.items()
    assert error["error"]


def test_settings_that_are_wrong_are_told_as_json_too() -> None:
    done = command("config", "--session-timeout", "1ms", "-o", "json")
    assert done.code == USAGE
    assert "session_timeout" in json.loads(done.err)["error"]


COMMANDS = (
    *(["status"], ["handlers"], ["sidecars"], ["tasks"], ["check"], ["config"], ["gates"]),
    *(["audit"], ["dead", "list"], ["operations", "list"], ["doctor"], ["policy", "show", "x.y"]),
    *(["--help"], ["tasks", "--help"], ["export"], ["completion", "bash"]),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("stdout", ["closed", "full", "pipe"])
def test_stdout_that_takes_nothing_gives_no_traceback(
    stage: Stage, arguments: list[str], stdout: str
) -> None:
    place = (
        ["--data-dir", str(stage.coordinator.data_folder)]
        if not {"--help", "completion"} & set(arguments)
        else []
    )
    shell = {"closed": '"$@" >&-', "full": '"$@" >/dev/full', "pipe": '"$@" | head -c 1 >/dev/null'}
    done = subprocess.run(
        [
            *("bash", "-c", shell[stdout], "bash", sys.executable, "-m", "coordinator"),
            *(*arguments, *place),
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if stdout == "full" and arguments[0] not in ("policy", "export"):
        assert done.returncode == 1
        assert "stdout cannot be written: No space left on device" in done.stderr


def test_settings_can_be_printed_for_programs() -> None:
    done = command("config", "-o", "json", "--session-timeout", "3s")
    told = json.loads(done.out)
    assert told["session_timeout"] == {"value": 3_000, "origin": "flag --session-timeout"}
